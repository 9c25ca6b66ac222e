#!lua flags=allow-oom
-- Says that a worker lives. Running it again says it again.
-- KEYS[1] workers
-- ARGV 3 worker, 4 'first' registers the worker, 'again' only renews, 5 its lease (us, 0 = any)
-- returns {'lost'} when the worker was declared dead, else {'alive', now, control, workers}: workers is
--      {worker, heartbeat, ...} of all, the longest silent first
local now = clock()
if ARGV[4] ~= 'first' and not registered(ARGV[3]) then return { 'lost' } end
redis.call('ZADD', KEYS[1], int(now), ARGV[3])
if ARGV[4] == 'first' and ARGV[5] ~= '0' then redis.call('HSET', key('held', ARGV[3]), '#lease', ARGV[5]) end
local all = redis.call('ZRANGE', KEYS[1], 0, 999, 'WITHSCORES')
return { 'alive', int(now), redis.call('GET', key('control')) or '0', all }
