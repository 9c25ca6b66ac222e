-- Notes in the main cell to which others a part of a batch is about to go, and whose the batch is. Running it
-- again finds it noted.
-- KEYS[1] batch hash
-- ARGV 3 part number, 4 tenant, 5 channel, 6 options, 7.. names of cells
-- returns {'accepted', check value} for a part that all cells have, else {'open', cells to which it may have
--      gone before}
local intent = 'i:' .. ARGV[3]
local seen, before = unpack(redis.call('HMGET', KEYS[1], 'p:' .. ARGV[3], intent))
if seen then return { 'accepted', seen } end
local cells, known = {}, {}
for cell in string.gmatch(before or '', '%S+') do
  known[#known + 1] = cell
  cells[cell] = true
end
local all = before or ''
for i = 7, #ARGV do
  if not cells[ARGV[i]] then all = all .. ARGV[i] .. ' ' end
end
if all ~= (before or '') then
  redis.call('HSET', KEYS[1], intent, all, 'spread', 1)
  for field, value in pairs({ tenant = ARGV[4], channel = ARGV[5], options = ARGV[6], created = int(clock()) }) do
    redis.call('HSETNX', KEYS[1], field, value)
  end
  redis.call('PERSIST', KEYS[1])
end
return { 'open', known }
