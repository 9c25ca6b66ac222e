-- What waits in the queues of a lane; put in front of mend.lua and tidy.lua, after lib.lua.
-- COUNTED_MOST: entries and tenants that one count looks at; to count an entry is to read it.
local COUNTED_MOST = 64

-- What workers have of a queue: the entries pending, the last one given out, and how many were not
-- yet (nil where the server cannot say). Nil for a queue without its group.
local function group_of(queue)
  local groups = redis.pcall('XINFO', 'GROUPS', queue)
  if groups.err then return nil end
  for _, group in ipairs(groups) do
    local g = fields_of(group)
    if g.name == GROUP then return { pending = g.pending, last = g['last-delivered-id'], lag = g.lag or nil } end
  end
end

-- Messages and entries of a queue that no worker has, of its first `most` entries. Where more are known
-- to wait none is read: there is at least a message in each.
local function waiting_in(queue, most)
  local group, messages = group_of(queue), 0
  if group and group.lag == 0 then return 0, 0 end
  if group and group.lag and group.lag > most then return group.lag, most end
  local entries = redis.call('XRANGE', queue, group and '(' .. group.last or '-', '+', 'COUNT', most)
  for _, item in ipairs(entries) do messages = messages + tonumber(fields_of(item[2]).n) end
  return messages, #entries
end

-- Puts the counters of a class right; 1 when one was wrong. Where more waits than is counted, only a
-- counter below that is wrong for certain.
local function recount(lane, class)
  local hash, left, total = key('lane', lane), COUNTED_MOST, 0
  local tenants = redis.call('ZRANGE', key('fair', lane .. ':' .. class), 0, COUNTED_MOST - 1)
  local exact = #tenants < COUNTED_MOST
  local function add(tenant)
    local messages, entries = waiting_in(key('queue', lane .. ':' .. class .. ':' .. tenant), left)
    left, total = left - entries, total + messages
    if left <= 0 then exact = false end
  end
  local function put(field, counted)
    local shown = tonumber(redis.call('HGET', hash, field) or '0')
    if shown == counted or (not exact and shown > counted) then return 0 end
    redis.call('HSET', hash, field, counted)
    return 1
  end
  add(RETURNED)
  local wrong = put('back:' .. class, total)
  for _, tenant in ipairs(tenants) do
    if left > 0 then add(tenant) end
  end
  return math.max(wrong, put('depth:' .. class, total))
end
