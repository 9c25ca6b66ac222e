-- What is due goes to the queues of its lanes; put in front of claim.lua and strays.lua, after lib.lua.
-- MOVED_MOST: scheduled entries moved after a step of the clock in one call, a millisecond of the store's time.
local MOVED_MOST = 500

-- Entries that waited when the clock stepped back wait no longer for it: the soonest first, some at a time. Of
-- those that are due together they are the first. Returns whether there may be more of that step.
local function catch_up()
  local last, by, from, later = string.match(steps, '^(%d+) (%d+) (%S+)\n(.*)$')
  local found = redis.call('ZRANGEBYSCORE', key('scheduled'), from, '+inf', 'WITHSCORES', 'LIMIT', 0, MOVED_MOST)
  local number, moved
  for i = 1, #found, 2 do
    number = string.match(found[i], '^%' .. WAITS .. '(%d+)$')
    if number and tonumber(number) <= tonumber(last) then
      moved = redis.call('ZADD', key('scheduled'), 'XX', int(found[i + 1] - by), found[i])
    end
  end
  steps = later
  if #found == 2 * MOVED_MOST then
    from = (number and moved and '' or '(') .. found[#found]
    steps = last .. ' ' .. by .. ' ' .. from .. '\n' .. later
  end
  redis.call('HSET', key('clock'), 'steps', steps)
  return #found == 2 * MOVED_MOST
end

local function forward(now)
  while steps ~= '' and not catch_up() do end
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('scheduled'), '-inf', int(now), 'LIMIT', 0, 100)) do
    local packed = redis.call('HGET', key('items'), id)
    if packed then
      local item = cmsgpack.unpack(packed)
      redis.call('HINCRBY', key('batch', item[5]), 'scheduled', -item[3])
      push(item[1], item[2], RETURNED,
        { n = item[3], c = item[4], batch = item[5], expires = item[6], body = item[7], a = item[8], r = item[9] }, now)
    end
    redis.call('ZREM', key('scheduled'), id)
    redis.call('HDEL', key('items'), id)
  end
end
