#!lua flags=allow-oom
-- Hands out messages that have to go to another cell, and takes those that have come there out of this
-- one. Running it again finds those gone already and hands out what is left.
-- KEYS[1] leaving
-- ARGV 3 moves to hand out, 4 retention of a batch that ends here (s), 5.. names of those that came
-- returns per move {lane, name, packed {due, lane, class, n, c, batch, expires, body, a, r}, fields of its
--      batch: tenant, channel, options, created and cancel, '' for none}
local function count_out(batch, n)
  local hash = key('batch', batch)
  if redis.call('HEXISTS', hash, 'total') == 0 then return end
  redis.call('HINCRBY', hash, 'total', -n)
  if redis.call('HINCRBY', hash, 'left', -n) <= 0 then redis.call('EXPIRE', hash, ARGV[4]) end
  redis.call('DECRBY', key('queued'), n)
  local tenant = redis.call('HGET', hash, 'tenant')
  if tenant and redis.call('HINCRBY', key('queued_by'), tenant, -n) <= 0 then
    redis.call('HDEL', key('queued_by'), tenant)
  end
end

for i = 5, #ARGV do
  local packed = redis.call('HGET', KEYS[1], ARGV[i])
  if packed then
    redis.call('HDEL', KEYS[1], ARGV[i])
    local move = cmsgpack.unpack(packed)
    count_out(move[6], move[4])
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
