#!lua flags=allow-oom
-- Hands out messages that have to go to another cell, and takes those that have come there out of this
-- one. Running it again finds those gone already and hands out what is left.
-- KEYS[1] leaving
-- ARGV 3 moves to hand out, 4 retention of a batch that ends here (s), 5.. names of those that came
-- returns per move {lane, name, packed {due, lane, class, n, c, batch, expires, body, a, r, waits}, fields of
--      its batch: tenant, channel, options, created and cancel, '' for none}
local function take_out(batch, n)
  local hash = key('batch', batch)
  if redis.call('HEXISTS', hash, 'total') == 0 then return end
  redis.call('HINCRBY', hash, 'total', -n)
  if count_out(hash, n) <= 0 then forget_later(hash, ARGV[4]) end
end

for i = 5, #ARGV do
  local packed = redis.call('HGET', KEYS[1], ARGV[i])
  if packed then
    redis.call('HDEL', KEYS[1], ARGV[i])
    local move = cmsgpack.unpack(packed)
    take_out(move[6], move[4])
  end
end

local moves, found = {}, redis.call('HRANDFIELD', KEYS[1], ARGV[3], 'WITHVALUES')
for i = 1, #found, 2 do
  local move = cmsgpack.unpack(found[i + 1])
  local hash = key('batch', move[6])
  local fields = redis.call('HMGET', hash, 'tenant', 'channel', 'options', 'created', 'cancel')
  for k = 1, 5 do fields[k] = fields[k] or '' end
  moves[#moves + 1] = { move[2], found[i], found[i + 1], unpack(fields) }
end
return moves
