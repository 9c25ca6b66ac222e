-- Notes in the main cell which others a part of a batch is about to reach, and whose the batch is. Running it
-- again finds it noted.
-- KEYS[1] batch hash
-- ARGV 3 part number, 4 tenant, 5 channel, 6 options, 7.. names of cells
-- returns 1, or 0 for a part that is accepted: it has reached all it will
local intent = 'i:' .. ARGV[3]
local seen, all = unpack(redis.call('HMGET', KEYS[1], 'p:' .. ARGV[3], intent))
if seen then return 0 end
all = all or ''
local before = all
for i = 7, #ARGV do
  if not string.find(' ' .. all, ' ' .. ARGV[i] .. ' ', 1, true) then
    all = all .. ARGV[i] .. ' '
  end
end
if all ~= before then
  redis.call('HSET', KEYS[1], intent, all, 'spread', 1)
  for field, value in pairs({ tenant = ARGV[4], channel = ARGV[5], options = ARGV[6], created = int(clock()) }) do
    redis.call('HSETNX', KEYS[1], field, value)
  end
  redis.call('PERSIST', KEYS[1])
end
return 1
