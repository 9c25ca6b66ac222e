#!lua flags=allow-oom
-- Puts a rate of an operator above what the configuration says of a limit, or takes it away again.
-- Running it again sets the same rate; its end moves by the time between the two runs.
-- KEYS[1] hash of the limit
-- ARGV 3 limit, 4 interval (us per unit; '' takes it away), 5 us until it ends (0 = never), 6 action (see actions.lua; '' = none)
-- returns 1, or 0 for a limit that is not in the store
if redis.call('HEXISTS', KEYS[1], 'interval') == 0 then return 0 end
local limit, interval, lasts = ARGV[3], ARGV[4], tonumber(ARGV[5])
if interval == '' then
  redis.call('HDEL', KEYS[1], 'set', 'set_until')
else
  local ends = lasts > 0 and clock() + lasts or 0
  redis.call('HSET', KEYS[1], 'set', interval, 'set_until', int(ends))
end
-- Lanes sleep by the rate of before. After a slower one they find at once that they must wait on.
wake_lanes({ [limit] = true })
announce(limit)
if ARGV[6] ~= '' and noted(ARGV[6]) == 0 then note(ARGV[6], 1) end
return 1
