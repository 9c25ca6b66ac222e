#!lua flags=allow-oom
-- Suspends in a new cell what is suspended in the main one. Running it again finds it so.
-- KEYS[1] suspended
-- ARGV 3 change number of the main cell, 4.. kind (suspended or resumed), pattern, value
-- returns how many patterns were new
local number, new = tonumber(ARGV[3]), 0
if tonumber(redis.call('GET', key('control')) or '0') < number then redis.call('SET', key('control'), int(number)) end
for i = 4, #ARGV, 3 do new = new + redis.call('HSETNX', key(ARGV[i]), ARGV[i + 1], ARGV[i + 2]) end
return new
