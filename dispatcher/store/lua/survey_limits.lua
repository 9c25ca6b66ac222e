-- Reads limits, some at a time. It changes nothing, however often it runs.
-- KEYS[1] limits
-- ARGV 3 cursor, 0 at first, 4 limits to read, about
-- returns {next cursor, 0 after the last, msgpack {{name, {field, value...}}...}, now}; a limit may come
--      twice
local reply, found = redis.call('SSCAN', KEYS[1], ARGV[3], 'COUNT', ARGV[4]), {}
for _, name in ipairs(reply[2]) do
  local fields = redis.call('HGETALL', key('limit', name))
  if fields[1] then found[#found + 1] = { name, fields } end
end
return { reply[1], cmsgpack.pack(found), int(time()) }
