-- Takes what waits out of the queues of a lane; put in front of move.lua and strays.lua, after lib.lua.

-- An entry of a queue that no worker has, and its tenant; nil where there is none.
local function take(name, id)
  local queue = key('queue', name)
  local found, held = redis.call('XRANGE', queue, id, id)[1], redis.pcall('XPENDING', queue, GROUP, id, id, 1)
  if not found or (not held.err and held[1]) then return nil end
  local entry, lane, class, tenant = fields_of(found[2]), split_queue(name)
  local hash = key('lane', lane)
  redis.call('HINCRBY', hash, 'depth:' .. class, -tonumber(entry.n))
  if tenant == RETURNED then redis.call('HINCRBY', hash, 'back:' .. class, -tonumber(entry.n)) end
  remove(queue, id)
  return entry, tenant
end

-- The name of a move to another cell. An entry id may come again after a step back of the clock, a number
-- does not.
local function own_name(text) return text .. '@' .. int(redis.call('INCR', key('counter'))) end

-- A lane in which nothing waits need not be visited.
local function unlist(lane)
  local depth = redis.call('HMGET', key('lane', lane), 'depth:urgent', 'depth:normal', 'depth:bulk')
  if tonumber(depth[1] or '0') + tonumber(depth[2] or '0') + tonumber(depth[3] or '0') <= 0 then
    redis.call('ZREM', key('lanes', provider_of(lane)), lane)
  end
end
