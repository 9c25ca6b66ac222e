#!lua flags=allow-oom
-- Puts counters of lanes and batches right, and forgets lanes and limits that nobody has used for long.
-- Running it again finds nothing more to do.
-- KEYS[1] janitor
-- ARGV 3 us after which something unused is forgotten, 4 status retention (s), 5.. kind, rest, ...
-- returns {counters that were wrong, lanes and limits forgotten}
local now, unused, wrong, forgotten = clock(), tonumber(ARGV[3]), 0, 0
local CLASSES = { 'urgent', 'normal', 'bulk' }
local ENDS = { 'unknown', 'sent', 'undelivered', 'delivered', 'read', 'dead', 'expired', 'cancelled', 'suppressed' }
local tidy = {}

local function number(value) return tonumber(value or '0') or 0 end

local function counts_of(hash)
  local fields = {}
  for _, class in ipairs(CLASSES) do
    fields[#fields + 1] = 'depth:' .. class
    fields[#fields + 1] = 'back:' .. class
  end
  local busy = false
  for _, count in ipairs(redis.call('HMGET', hash, unpack(fields))) do busy = busy or number(count) ~= 0 end
  return busy
end

-- A lane is unused since it was first found empty with what has gone through it by now.
function tidy.lane(lane)
  local hash = key('lane', lane)
  if counts_of(hash) then
    for _, class in ipairs(CLASSES) do wrong = wrong + recount(lane, class) end
    return
  end
  local v = redis.call('HMGET', hash, 'paused', 'idle', 'sent', 'retried', 'deferred', 'dead')
  if number(v[1]) > now or redis.call('ZSCORE', key('lanes', provider_of(lane)), lane) then
    if v[2] then redis.call('HDEL', hash, 'idle') end
    return
  end
  local through = int(number(v[3]) + number(v[4]) + number(v[5]) + number(v[6]))
  local since, before = string.match(v[2] or '', '^(%d+) (%d+)$')
  if before ~= through then
    since = int(now)
    redis.call('HSET', hash, 'idle', since .. ' ' .. through)
  end
  if now - tonumber(since) < unused then return end
  for _, class in ipairs(CLASSES) do redis.call('DEL', key('fair', lane .. ':' .. class)) end
  redis.call('DEL', hash)
  forgotten = forgotten + 1
end

-- After so long a limit is as free as a new one, and as a new one it comes back. What an operator has
-- set stays, and so does a quota that is partly used.
function tidy.limit(name)
  local hash = key('limit', name)
  local v = redis.call('HMGET', hash, 'tat', 'born', 'pause', 'factored', 'set', 'set_until')
  if not v[1] or not v[2] or (v[5] and (v[6] == '0' or number(v[6]) > now)) then return end
  for _, period in ipairs({ 'day', 'month' }) do
    local used = redis.call('HMGET', hash, 'used:' .. period, 'ends:' .. period)
    if number(used[1]) > 0 and number(used[2]) > now then return end
  end
  if now - math.max(number(v[1]), number(v[2]), number(v[3]), number(v[4])) < unused then return end
  redis.call('DEL', hash)
  redis.call('SREM', key('limits'), name)
  forgotten = forgotten + 1
end

-- The counts per status say how many messages are left.
function tidy.batch(batch)
  local hash = key('batch', batch)
  local v, ended = redis.call('HMGET', hash, 'total', 'left'), 0
  for _, count in ipairs(redis.call('HMGET', hash, unpack(ENDS))) do ended = ended + number(count) end
  local left = number(v[1]) - ended
  if v[1] and left ~= number(v[2]) then
    redis.call('HSET', hash, 'left', left)
    wrong = wrong + 1
  end
  if v[1] and left > 0 then
    redis.call('HINCRBY', KEYS[1], 'unfinished', 1)
  elseif redis.call('TTL', hash) == -1 then
    forget_later(hash, ARGV[4])
  end
end

for i = 5, #ARGV, 2 do tidy[ARGV[i]](ARGV[i + 1]) end
return { wrong, forgotten }
