#!lua flags=allow-oom
-- Cancels what is not sent of a batch: marks the batch, makes the lanes due at which a worker finds
-- the mark, and so many of its scheduled entries. Running it again finds the mark and does the same.
-- KEYS[1] batch hash
-- ARGV 3 batch, 4 scheduled entries to leave out, from the latest, 5 entries to look at,
--      6 action (see actions.lua; '' = the tenant's own), 7.. providers
-- returns {'unknown'} | {'cancelled', entries looked at, those of them that stay as they were}
if redis.call('HEXISTS', KEYS[1], 'total') == 0 then return { 'unknown' } end
local now = clock()
if redis.call('HSETNX', KEYS[1], 'cancel', int(now)) == 1 then
  announce('*')
  if ARGV[6] ~= '' then note(ARGV[6], tonumber(redis.call('HGET', KEYS[1], 'left') or '0')) end
end

local function hasten(first, many)
  local ids = redis.call('ZREVRANGEBYSCORE', key('scheduled'), '+inf', '(' .. int(now), 'LIMIT', first, many)
  local stay = 0
  for _, id in ipairs(ids) do
    local packed = redis.call('HGET', key('items'), id)
    if packed and cmsgpack.unpack(packed)[5] == ARGV[3] then
      redis.call('ZADD', key('scheduled'), 'XX', int(now), id)
    else
      stay = stay + 1
    end
  end
  return #ids, stay
end

local looked, stay = hasten(tonumber(ARGV[4]), tonumber(ARGV[5]))
for i = 7, #ARGV do
  local lanes = key('lanes', ARGV[i])
  for _, lane in ipairs(redis.call('ZRANGE', lanes, 0, -1)) do
    redis.call('ZADD', lanes, 'XX', 'LT', int(now), lane)
  end
  ring(ARGV[i])
end
return { 'cancelled', looked, stay }
