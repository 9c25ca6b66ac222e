#!lua flags=allow-oom
-- Takes in messages from another cell. Running it again changes nothing: each move is remembered by its
-- name.
-- KEYS[1] scheduled
-- ARGV 3 seconds a name is remembered, 4.. per move as depart.lua hands it out: name, packed, tenant,
--      channel, options, created, cancel
-- returns the number of moves that had not come before
local now, new = clock(), 0

local function count_in(batch, n, tenant, ...)
  local hash = key('batch', batch)
  local names, values = { 'tenant', 'channel', 'options', 'created', 'cancel' }, { tenant, ... }
  for i, name in ipairs(names) do
    if values[i] ~= '' then redis.call('HSETNX', hash, name, values[i]) end
  end
  redis.call('HSET', hash, 'spread', 1)
  redis.call('HINCRBY', hash, 'total', n)
  redis.call('HINCRBY', hash, 'left', n)
  redis.call('PERSIST', hash)
  redis.call('INCRBY', key('queued'), n)
  if tenant ~= '' then redis.call('HINCRBY', key('queued_by'), tenant, n) end
end

for i = 4, #ARGV, 7 do
  if redis.call('SET', key('arrived', ARGV[i]), 1, 'NX', 'EX', ARGV[3]) then
    new = new + 1
    local due, lane, class, n, c, batch, expires, body, a, r, waits = unpack(cmsgpack.unpack(ARGV[i + 1]))
    local entry = { n = n, c = c, batch = batch, expires = expires, body = body, a = a or nil, r = r or nil }
    count_in(batch, n, unpack(ARGV, i + 2, i + 6))
    if waits then due = now + due end
    if due > now then
      schedule(due, lane, class, entry, waits)
      ring(provider_of(lane))
    else
      push(lane, class, RETURNED, entry, now)
    end
  end
end
return new
