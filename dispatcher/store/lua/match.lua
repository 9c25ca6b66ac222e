#!lua flags=allow-oom
-- Brings a sorted set and the hash with what its members stand for together, some of them at a time:
-- what has no time gets this one, what has nothing behind it goes. Running it again goes on.
-- KEYS[1] sorted set
-- ARGV 3 kind of the hash, 4 how many to look at
-- returns {members restored, members dropped}
local hash, janitor = key(ARGV[3]), key('janitor')
if redis.call('ZCARD', KEYS[1]) == redis.call('HLEN', hash) then return { 0, 0 } end
local at, now = redis.call('HMGET', janitor, ARGV[3], ARGV[3] .. ':times'), clock()
local restored, dropped = 0, 0
local found = redis.call('HSCAN', hash, at[1] or '0', 'COUNT', ARGV[4])
for i = 1, #found[2], 2 do
  restored = restored + redis.call('ZADD', KEYS[1], 'NX', int(now), found[2][i])
end
local times = redis.call('ZSCAN', KEYS[1], at[2] or '0', 'COUNT', ARGV[4])
for i = 1, #times[2], 2 do
  if redis.call('HEXISTS', hash, times[2][i]) == 0 then
    dropped = dropped + redis.call('ZREM', KEYS[1], times[2][i])
  end
end
redis.call('HSET', janitor, ARGV[3], found[1], ARGV[3] .. ':times', times[1])
return { restored, dropped }
