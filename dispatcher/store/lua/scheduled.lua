-- Reads those of some scheduled entries whose lanes a pattern covers. It changes nothing.
-- KEYS[1] scheduled
-- ARGV 3 pattern, 4.. item numbers
-- returns {{number, lane, n, body, a or -1, r or -1}...}
local found = {}
for i = 4, #ARGV do
  local packed = redis.call('HGET', key('items'), ARGV[i])
  local item = packed and cmsgpack.unpack(packed)
  if item and covers(ARGV[3], item[1]) then
    found[#found + 1] = { ARGV[i], item[1], item[3], item[7], tonumber(item[8] or -1),
      tonumber(item[9] or -1) }
  end
end
return found
