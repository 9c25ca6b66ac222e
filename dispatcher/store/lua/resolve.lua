#!lua flags=allow-oom
-- Writes what has become of a message whose outcome was unknown or has changed since: only forward in
-- the order of statuses. Running it again finds another value than the one that was read, and leaves it.
-- KEYS[1] batch hash
-- ARGV 3 message, 4 batch, 5 index, 6 the value that was read, 7 the new value, 8 its letter or '',
--      9 lane, 10 status retention (s), 11 counter of the code it had or '', 12 of the one it gets or ''
-- returns 'resolved', or 'changed' where there is another value by now, or 'kept' where the message
--      has gone as far or further, or waits again
local message, index = ARGV[3], tonumber(ARGV[5])
local status = key('status', ARGV[4] .. ':' .. math.floor(index / 1024))
local WORDS = { u = 'unknown', s = 'sent', f = 'undelivered', v = 'delivered', r = 'read', d = 'dead',
  e = 'expired', c = 'cancelled', x = 'suppressed' }
local RANK = { q = 0, z = 0, u = 1, s = 2, d = 2, e = 2, c = 2, x = 2, f = 3, v = 4, r = 5 }

if redis.call('HGET', status, ARGV[5]) ~= ARGV[6] then return 'changed' end
local before, after = string.sub(ARGV[6], 1, 1), string.sub(ARGV[7], 1, 1)
if RANK[before] == 0 or RANK[after] <= RANK[before] then return 'kept' end

redis.call('HSET', status, ARGV[5], ARGV[7])
redis.call('EXPIRE', status, ARGV[10])
if redis.call('HEXISTS', KEYS[1], 'total') == 1 then
  redis.call('HINCRBY', KEYS[1], WORDS[before], -1)
  redis.call('HINCRBY', KEYS[1], WORDS[after], 1)
  if ARGV[11] ~= '' then redis.call('HINCRBY', KEYS[1], ARGV[11], -1) end
  if ARGV[12] ~= '' then redis.call('HINCRBY', KEYS[1], ARGV[12], 1) end
  -- No status outlives its batch: a replay would take the message for one that the batch counts.
  if redis.call('TTL', KEYS[1]) >= 0 then redis.call('EXPIRE', KEYS[1], ARGV[10]) end
end
if before == 'u' then
  for _, hash in ipairs({ key('lane', ARGV[9]), key('totals') }) do
    redis.call('HINCRBY', hash, after == 'd' and 'dead' or 'sent', 1)
  end
end
if ARGV[8] == '' then
  redis.call('ZREM', key('dead'), message)
  redis.call('HDEL', key('letters'), message)
elseif redis.call('HEXISTS', key('letters'), message) == 1 then
  redis.call('HSET', key('letters'), message, ARGV[8])
end
return 'resolved'
