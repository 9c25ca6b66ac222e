#!lua
-- Sends dead letters again: each leaves `dead` and waits in its lane or until its time, as a new
-- generation of its message. Running it again finds the letters gone and changes nothing. A full store
-- takes no new work: it refuses this whole.
-- KEYS[1] dead
-- ARGV 3 status retention (s), 4 action (see actions.lua),
--      5 msgpack {{message, batch, index, hop, lane, class, cost, expires, due (0 = now), status letter,
--      code, tenant, channel, created}...}, 6.. per message: a status value, a body
-- returns messages that wait again
local now, waiting, providers = clock(), 0, {}
local WORDS, BLOCK = { u = 'unknown', d = 'dead' }, 1024

-- A batch that was forgotten while its letters were kept is known again, with those that are replayed.
local function reopen(batch, item, recorded)
  if redis.call('HEXISTS', batch, 'total') == 0 then
    redis.call('HSET', batch, 'tenant', item[12], 'channel', item[13], 'created', int(item[14]), 'reopened', 1)
  end
  if not recorded and redis.call('HEXISTS', batch, 'reopened') == 1 then
    return redis.call('HINCRBY', batch, 'total', 1)
  end
  local word = WORDS[item[10]]
  redis.call('HINCRBY', batch, word, -1)
  if word == 'dead' and item[11] ~= '' then redis.call('HINCRBY', batch, 'dead:' .. item[11], -1) end
end

local function replay(item, value, body)
  local batch, status = key('batch', item[2]), key('status', item[2] .. ':' .. math.floor(item[3] / BLOCK))
  local old = redis.call('HGET', status, item[3])
  local told = old and string.sub(old, 1, 1) ~= item[10]
  -- Somebody has told what became of it meanwhile; one that is dead by that keeps its letter.
  if told and string.sub(old, 1, 1) == 'd' then return end
  redis.call('ZREM', KEYS[1], item[1])
  redis.call('HDEL', key('letters'), item[1])
  if told then return end
  reopen(batch, item, old)
  redis.call('HINCRBY', batch, 'left', 1)
  redis.call('PERSIST', batch)
  redis.call('INCR', key('queued'))
  redis.call('HINCRBY', key('queued_by'), redis.call('HGET', batch, 'tenant') or item[12], 1)
  redis.call('HSET', status, item[3], value)
  redis.call('EXPIRE', status, ARGV[3])
  local entry = { n = 1, c = item[7], batch = item[2], expires = int(item[8]), body = body }
  if item[9] > now then
    schedule(item[9], item[5], item[6], entry, true)
    providers[provider_of(item[5])] = true
  else
    push(item[5], item[6], RETURNED, entry, now)
  end
  waiting = waiting + 1
end

for i, item in ipairs(cmsgpack.unpack(ARGV[5])) do
  if redis.call('ZSCORE', KEYS[1], item[1]) then replay(item, ARGV[2 * i + 4], ARGV[2 * i + 5]) end
end
for provider in pairs(providers) do ring(provider) end
if waiting > 0 then note(ARGV[4], waiting) end
return waiting
