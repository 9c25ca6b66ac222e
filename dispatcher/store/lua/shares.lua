-- The entries of one lane: who gets its slots, class by class and tenant by tenant; put in front of
-- claim.lua, after pace.lua.
local worker = ARGV[4]
local held_key, CLASSES = key('held', worker), { 'urgent', 'normal', 'bulk' }
-- FLOOR: the share a class builds up a claim to while higher ones take all. MARKED_MOST: entries without
-- slots a worker gets in one claim. DROPPED_MOST: cancelled entries dropped in one, some milliseconds of
-- the store's time. BYTES_MOST: content in one reply, about. SUSPECT: reclaims from which an entry is tried
-- alone; ASIDE: how long it waits while another one is, us.
local FLOOR, MARKED_MOST, DROPPED_MOST, BYTES_MOST = 0.05, 64, 2000, 8388608
local SUSPECT, ASIDE = 3, 250000
local marked, dropped, bytes = 0, 0, 0

-- Counts messages of a batch as cancelled; the batch has no other record of them.
local function count_cancelled(batch, n)
  local hash = key('batch', batch)
  redis.call('HINCRBY', hash, 'cancelled', n)
  count_out(hash, n)
end

-- Drops the entries of a cancelled batch that follow the one just read; returns their messages. Workers
-- would write their outcomes too slowly to free the lane. That one is still theirs to settle: with it
-- the batch ends, never here.
local function drop_following(queue, id, batch)
  local total, left = 0, DROPPED_MOST - dropped
  while left > 0 do
    local ids, size = {}, math.min(left, 500)
    for _, item in ipairs(redis.call('XRANGE', queue, '(' .. id, '+', 'COUNT', size)) do
      local fields = fields_of(item[2])
      if fields.batch ~= batch then break end
      ids[#ids + 1] = item[1]
      total = total + tonumber(fields.n)
    end
    if #ids > 0 then redis.call('XDEL', queue, unpack(ids)) end
    dropped, left = dropped + #ids, #ids < size and 0 or left - size
  end
  if total > 0 then count_cancelled(batch, total) end
  if dropped >= DROPPED_MOST then marked = MARKED_MOST end
  return total
end

-- Whether this worker may try an entry that several workers died with: one at a time. When this worker
-- dies too, it was that one or none.
local function may_try(field)
  local other = redis.call('HGET', held_key, '#trial')
  if other and other ~= field and redis.call('HEXISTS', held_key, other) == 1 then return false end
  redis.call('HSET', held_key, '#trial', field)
  return true
end

local function put_aside(name, id, fields)
  local lane, class = split_queue(name)
  fields.n, fields.c = tonumber(fields.n), tonumber(fields.c)
  schedule(now + ASIDE, lane, class, fields, true)
  remove(key('queue', name), id)
end

-- Reads one entry and gives up to `most` units of it slots; what gets none joins the items held.
-- Returns its messages and those units.
local function read(name, items, pace, most)
  local queue = key('queue', name)
  local reply = redis.pcall('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', 1, 'STREAMS', queue, '>')
  if type(reply) == 'table' and reply.err then
    if redis.call('EXISTS', queue) == 0 then return nil end
    restore_group(queue, now)
    reply = redis.call('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', 1, 'STREAMS', queue, '>')
  end
  if not reply then return nil end
  local id, list = reply[1][2][1][1], reply[1][2][1][2]
  local fields = fields_of(list)
  local n, cost, expires, mark = tonumber(fields.n), tonumber(fields.c), tonumber(fields.expires), ''
  if expires > 0 and expires <= now then
    mark = 'expired'
  elseif redis.call('HEXISTS', key('batch', fields.batch), 'cancel') == 1 then
    mark = 'cancelled'
  end
  if mark == '' and tonumber(fields.r or '0') >= SUSPECT and not may_try(name .. '|' .. id) then
    put_aside(name, id, fields)
    marked = marked + 1
    return n, 0
  end
  bytes = bytes + #fields.body
  if bytes > BYTES_MOST then marked = MARKED_MOST end
  -- The first rows of an entry put back may need a decision and no slot.
  local first, slots = math.min(n, tonumber(fields.a or '0')), 0
  if mark == '' then slots = pace:fits(math.min(n - first, math.max(1, math.floor(most / cost))), cost) end
  if mark ~= '' or first == n then marked = marked + 1 end
  redis.call('HSET', held_key, name .. '|' .. id, mark == '' and first + slots or 0)
  local grant = pace:grant(cost)
  grant[8][#grant[8] + 1] = { name, id, slots, mark, list }
  if mark == '' and first + slots < n then
    items[#items + 1] = { field = name .. '|' .. id, count = n - first - slots, cost = cost }
  end
  if slots > 0 then pace:charge(grant, slots, cost) end
  -- What was put back may have records of its own, which only a worker can tell.
  if mark == 'cancelled' and string.sub(name, -2) ~= ':' .. RETURNED then
    n = n + drop_following(queue, id, fields.batch)
  end
  return n, slots * cost
end

-- Slots for messages of a queue the worker holds already, up to `most` units; whether some are left.
local function book(items, pace, most)
  local used = 0
  for _, item in ipairs(items) do
    local some = pace:fits(math.min(item.count, math.max(1, math.floor((most - used) / item.cost))), item.cost)
    if used >= most then some = 0 end
    if some > 0 then
      redis.call('HINCRBY', held_key, item.field, some)
      local grant = pace:grant(item.cost)
      grant[7][#grant[7] + 1] = { item.field, some }
      pace:charge(grant, some, item.cost)
      item.count, used = item.count - some, used + some * item.cost
    end
    if item.count > 0 then return used, true end
  end
  return used, false
end

-- Messages of one queue: those held come before those that wait. Returns the units that got a slot,
-- the messages read, and whether nothing is left.
local function drain(name, items, pace, most)
  local used, waiting = book(items, pace, most)
  local messages = 0
  while not waiting and used < most and marked < MARKED_MOST and pace:fits(1, 1) > 0 do
    local before = marked
    local n, some = read(name, items, pace, most - used)
    if not n then return used, messages, true end
    used, messages = used + some, messages + n
    waiting = some == 0 and marked == before -- it costs more than what is left
  end
  return used, messages, false
end

-- Messages of one class: what was put back first (at most half), then the tenant served least.
local function take(lane, hash, class, depth, back, mine_held, pace)
  local delivered, gone, fair = 0, true, key('fair', lane .. ':' .. class)
  local function held_of(tenant)
    mine_held[tenant] = mine_held[tenant] or {}
    return mine_held[tenant]
  end
  if back > 0 or mine_held[RETURNED] then
    local ends, places = pace.ends, pace.room
    if depth > back then
      pace.ends = pace.cursor + (ends - pace.cursor) / 2
      pace.room = math.ceil(places / 2)
    end
    local before = pace.room
    local _, messages, emptied = drain(lane .. ':' .. class .. ':' .. RETURNED, held_of(RETURNED), pace, 1e15)
    pace.ends, pace.room = ends, places - (before - pace.room)
    local taken = emptied and back or math.min(messages, back)
    if taken > 0 then redis.call('HINCRBY', hash, 'back:' .. class, -taken) end -- not -0: older servers refuse it
    delivered, gone = messages, emptied
  end
  for tenant, items in pairs(mine_held) do
    if tenant ~= RETURNED and items[1] then
      redis.call('ZADD', fair, 'NX', redis.call('HGET', hash, 'vt:' .. class) or '0', tenant)
    end
  end
  -- Without a rate there is no hurry to be fair: whole entries cost least.
  local quantum = pace:spacing(1) == 0 and 500 or math.max(1, math.floor(pace:fits(1e9, 1) / 8))
  while marked < MARKED_MOST and pace:fits(1, 1) > 0 do
    local first, before = redis.call('ZRANGE', fair, 0, 1, 'WITHSCORES'), marked
    local tenant = first[1]
    if not tenant then
      if gone and delivered == 0 then delivered = depth end -- a count that has drifted
      break
    end
    local weight, most = tonumber(redis.call('HGET', hash, 'w:' .. tenant) or '1'), 1e9
    if first[3] then most = math.ceil((tonumber(first[4]) - tonumber(first[2])) * weight) + quantum end
    local some, messages, emptied = drain(lane .. ':' .. class .. ':' .. tenant, held_of(tenant), pace, most)
    delivered = delivered + messages
    if some > 0 then
      redis.call('ZINCRBY', fair, some / weight, tenant)
      redis.call('HSET', hash, 'vt:' .. class, first[2])
    elseif emptied and messages == 0 then
      redis.call('ZREM', fair, tenant) -- not before its turn comes: what it had is not forgotten
    elseif marked == before then
      break
    end
  end
  delivered = math.min(delivered, depth)
  if delivered > 0 then redis.call('HINCRBY', hash, 'depth:' .. class, -delivered) end
  return math.max(0, depth - delivered)
end

-- All classes, the most urgent first; each lower one builds up a claim to a twentieth of the slots.
local function take_all(lane, hash, state, held_by, pace)
  local want, floors, reserved, ends, places = pace:fits(1e9, 1), {}, 0, pace.ends, pace.room
  local spacing = pace:spacing(1)
  for i = 2, 3 do
    floors[i] = state.depth[i] > 0 and math.min(want, state.floor[i] + FLOOR * want) or 0
    state.reserve[i] = math.min(math.floor(floors[i]), state.depth[i])
    reserved = reserved + state.reserve[i]
  end
  for i = 1, 3 do
    reserved = reserved - (state.reserve[i] or 0)
    local before, left = pace.total, state.depth[i]
    pace.ends, pace.room = ends - reserved * spacing, places - pace.total - reserved
    if i == 1 and left > 0 then pace.ends = math.max(pace.ends, pace.cursor + G - reserved * spacing) end
    if i > 1 and state.depth[1] > 0 then pace.ends = math.max(pace.ends, pace.cursor + state.reserve[i] * spacing) end
    if (left > 0 or held_by[CLASSES[i]]) and pace.room > 0 then
      held_by[CLASSES[i]] = held_by[CLASSES[i]] or {}
      left = take(lane, hash, CLASSES[i], left, state.back[i], held_by[CLASSES[i]], pace)
    end
    if i > 1 and (floors[i] > 0 or state.floor[i] > 0) then
      redis.call('HSET', hash, 'floor:' .. CLASSES[i], left > 0 and math.max(0, floors[i] - (pace.total - before)) or 0)
    end
  end
end
