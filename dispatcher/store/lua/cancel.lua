#!lua flags=allow-oom
-- Cancels what is not sent of a batch: marks the batch, makes those due of some scheduled entries that are its
-- own, and after the last of them the lanes at which a worker finds the mark. Running it again finds the mark
-- and does the same.
-- KEYS[1] batch hash
-- ARGV 3 batch, 4 scheduled entries to leave out, from the latest, 5 entries to look at,
--      6 action (see actions.lua; '' = the tenant's own), 7.. providers
-- returns {'unknown'} | {'cancelled', entries looked at (fewer than asked for: no more are to come), those of
--      them that stay as they were}
if redis.call('HEXISTS', KEYS[1], 'total') == 0 then return { 'unknown' } end
local now = clock()
if redis.call('HSETNX', KEYS[1], 'cancel', int(now)) == 1 then
  announce('*')
  if ARGV[6] ~= '' then note(ARGV[6], tonumber(redis.call('HGET', KEYS[1], 'left') or '0')) end
end

-- Entries of the batch among these are due now. Looked at by place: a million before them cost nothing.
local function hasten(first, many)
  local found = redis.call('ZREVRANGE', key('scheduled'), first, first + many - 1, 'WITHSCORES')
  local looked, stay = 0, 0
  for i = 1, #found, 2 do
    if tonumber(found[i + 1]) <= now then break end
    local packed = redis.call('HGET', key('items'), found[i])
    looked = looked + 1
    if packed and cmsgpack.unpack(packed)[5] == ARGV[3] then
      redis.call('ZADD', key('scheduled'), 'XX', int(now), found[i])
    else
      stay = stay + 1
    end
  end
  return looked, stay
end

local looked, stay, many = 0, 0, tonumber(ARGV[5])
if tonumber(redis.call('HGET', KEYS[1], 'scheduled') or '0') > 0 then looked, stay = hasten(tonumber(ARGV[4]), many) end
if looked == many then return { 'cancelled', looked, stay } end
for i = 7, #ARGV do
  local lanes = key('lanes', ARGV[i])
  for _, lane in ipairs(redis.call('ZRANGEBYSCORE', lanes, '(' .. int(now), '+inf')) do
    redis.call('ZADD', lanes, 'XX', int(now), lane)
  end
  ring(ARGV[i])
end
return { 'cancelled', looked, stay }
