#!lua flags=allow-oom
-- Gives a lease to one holder at a time. Running it again renews it again, or leaves it given back.
-- KEYS[1] lease
-- ARGV 3 holder, 4 how long (ms), 0 gives it back
-- returns 1 if the holder has it now, else 0
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[3] then
  -- After a step back of the clock it would last longer than anybody asks for.
  local most = tonumber(ARGV[4])
  if most > 0 and redis.call('PTTL', KEYS[1]) > most then redis.call('PEXPIRE', KEYS[1], most) end
  return 0
end
if ARGV[4] == '0' then
  redis.call('DEL', KEYS[1])
  return 0
end
redis.call('SET', KEYS[1], ARGV[3], 'PX', ARGV[4])
return 1
