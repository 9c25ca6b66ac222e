-- What operators do, kept for `audit`; put in front of their scripts, after lib.lua.
local ACTIONS_MOST, KEPT_DAYS = 10000, 90

local function noted(packed) return redis.call('HEXISTS', key('actions'), cmsgpack.unpack(packed)[1]) end

-- Notes an action: msgpack {id, who, what, on, detail, reason}. Further steps of it add to its count.
local function note(packed, count)
  local action = cmsgpack.unpack(packed)
  local id, now = action[1], clock()
  local before = redis.call('HGET', key('actions'), id)
  if before then count = count + cmsgpack.unpack(before)[6] end
  redis.call('ZADD', key('audit'), 'NX', int(now), id)
  redis.call('HSET', key('actions'), id,
    cmsgpack.pack({ action[2], action[3], action[4], action[5], action[6], count }))
  local spare = redis.call('ZCARD', key('audit')) - ACTIONS_MOST
  local old = redis.call('ZRANGEBYSCORE', key('audit'), '-inf', int(now - KEPT_DAYS * 86400000000), 'LIMIT', 0, 100)
  if spare > 0 then old = redis.call('ZRANGE', key('audit'), 0, spare - 1) end
  for _, gone in ipairs(old) do
    redis.call('ZREM', key('audit'), gone)
    redis.call('HDEL', key('actions'), gone)
  end
end
