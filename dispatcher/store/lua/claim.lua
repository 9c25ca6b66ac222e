#!lua flags=allow-oom
-- Gives a worker entries and the slots at which their messages may be sent. Run again after a lost
-- reply it gives other entries: what the first run gave stays in `held`, where the worker finds it.
-- KEYS[1] lanes of the provider
-- ARGV 3 provider, 4 worker, 5 room (messages), 6 seconds a probe may take,
--      7 msgpack {{lane, cost of a message, most slots (0 = any), {field, messages without a slot}, ...}...}:
--      what the worker still holds, and where it could not keep up
-- returns {'lost'} for a worker that is not registered, else
--      {state, now, control, us until something is due, limits and lanes
--      ('lane:...') to be written from the configuration, grants, 1 if there is
--      no other worker or a limit is left to this one next}; a grant is
--      {lane, cost, first slot (us from now), spacing (us), slots, paced (0|1),
--      {{field, slots for messages held already}...}, entries}
--      an entry is {queue, id, slots, expired|cancelled|'', field list}
local provider, worker = ARGV[3], ARGV[4]
local probe_limit = tonumber(ARGV[6]) * 1000000
room = tonumber(ARGV[5])
local held_key, FLOOR, MARKED_MOST, LANES_MOST = key('held', worker), 0.05, 64, 512
-- YIELD: how long a lane that was served last leaves a limit to lanes that wait for it, us.
local YIELD = 25000
local CLASSES = { 'urgent', 'normal', 'bulk' }
if not redis.call('ZSCORE', key('workers'), worker) then return { 'lost' } end
now = clock()

local function forward()
  for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('scheduled'), '-inf', int(now), 'LIMIT', 0, 100)) do
    local packed = redis.call('HGET', key('items'), id)
    if packed then
      local item = cmsgpack.unpack(packed)
      redis.call('HINCRBY', key('batch', item[5]), 'scheduled', -item[3])
      push(item[1], item[2], RETURNED,
        { n = item[3], c = item[4], batch = item[5], expires = item[6], body = item[7], a = item[8] }, now)
    end
    redis.call('ZREM', key('scheduled'), id)
    redis.call('HDEL', key('items'), id)
  end
end

-- Open: nothing until its time. After that one message probes; the others wait for its outcome.
local function breaker_state()
  local state = redis.call('HMGET', key('breaker', provider), 'state', 'until')
  if not state[1] or state[1] == 'closed' then return 'closed', 0 end
  if tonumber(state[2]) > now then return state[1], tonumber(state[2]) end
  return 'probe', 0
end

local marked = 0

-- Reads one entry and gives up to `most` units of it slots; what gets none joins the items held.
-- Returns its messages and those units.
local function read(name, items, pace, most)
  local queue = key('queue', name)
  local reply = redis.pcall('XREADGROUP', 'GROUP', GROUP, worker, 'COUNT', 1, 'STREAMS', queue, '>')
  if type(reply) == 'table' and reply.err then
    if redis.call('EXISTS', queue) == 0 then return nil end
    redis.call('XGROUP', 'CREATE', queue, GROUP, '0')
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
  local delivered, fair = 0, key('fair', lane .. ':' .. class)
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
    if back > 0 then redis.call('HINCRBY', hash, 'back:' .. class, emptied and -back or -math.min(messages, back)) end
    delivered = messages
  end
  for tenant, items in pairs(mine_held) do
    if tenant ~= RETURNED and items[1] then
      redis.call('ZADD', fair, 'NX', redis.call('HGET', hash, 'vt:' .. class) or '0', tenant)
    end
  end
  local quantum = math.max(1, math.floor(pace:fits(1e9, 1) / 8))
  while marked < MARKED_MOST and pace:fits(1, 1) > 0 do
    local first, before = redis.call('ZRANGE', fair, 0, 1, 'WITHSCORES'), marked
    local tenant = first[1]
    if not tenant then break end
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
  if delivered == 0 and pace:fits(1, 1) > 0 and marked < MARKED_MOST then delivered = depth end -- a count that has drifted
  if delivered > 0 then redis.call('HINCRBY', hash, 'depth:' .. class, -math.min(delivered, depth)) end
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
    if i == 1 and left > 0 then pace.ends = math.max(pace.ends, pace.cursor + G) end
    if (left > 0 or held_by[CLASSES[i]]) and pace.room > 0 then
      held_by[CLASSES[i]] = held_by[CLASSES[i]] or {}
      left = take(lane, hash, CLASSES[i], left, state.back[i], held_by[CLASSES[i]], pace)
    end
    if i > 1 and (floors[i] > 0 or state.floor[i] > 0) then
      redis.call('HSET', hash, 'floor:' .. CLASSES[i], left > 0 and math.max(0, floors[i] - (pace.total - before)) or 0)
    end
  end
end

local function lane_state(hash)
  local v = redis.call('HMGET', hash, 'limits', 'until', 'depth:urgent', 'depth:normal', 'depth:bulk',
    'back:urgent', 'back:normal', 'back:bulk', 'floor:normal', 'floor:bulk', 'paused')
  local function num(i) return math.max(0, tonumber(v[i] or '0')) end
  return { limits = v[1] or '', suspended = math.max(num(2), num(11)), depth = { num(3), num(4), num(5) },
    back = { num(6), num(7), num(8) }, floor = { 0, num(9), num(10) }, reserve = {} }
end

-- What the worker holds without slots: lane -> class -> tenant -> items.
local held, most, lanes = {}, {}, {}
for _, item in ipairs(cmsgpack.unpack(ARGV[7])) do
  local lane = item[1]
  if item[3] > 0 then most[lane] = math.min(item[3], most[lane] or item[3]) end
  if item[4] and not held[lane] then
    held[lane] = {}
    if not redis.call('ZSCORE', KEYS[1], lane) then lanes[#lanes + 1] = lane end
  end
  for i = 4, #item do
    local _, class, tenant = split_queue(string.match(item[i][1], '^(.*)|[^|]*$'))
    local classes = held[lane]
    classes[class] = classes[class] or {}
    classes[class][tenant] = classes[class][tenant] or {}
    table.insert(classes[class][tenant], { field = item[i][1], count = item[i][2], cost = item[2] })
  end
end

local next_one, turns, due_again = 0, 0, now + 3600000000
local grants, skipped, again, own = {}, {}, {}, 'provider:' .. provider
local function relist(lane, time) redis.call('ZADD', KEYS[1], int(time), lane) end

-- Lanes that stay due are worth another look at this time.
local function look_at(time) due_again = math.min(due_again, math.max(now, time)) end

local function skip(lane, what)
  skipped[#skipped + 1] = what
  relist(lane, now + 1000000)
end

-- When the quotas of a lane's limits let it go on; 0 at once.
local function quota_wait(mine)
  local wait = 0
  for _, l in ipairs(mine) do
    for _, quota in ipairs(l.quotas or {}) do
      if quota.used >= quota.most then wait = math.max(wait, quota.ends) end
    end
  end
  return wait
end

-- Whether a limit is left to lanes of other providers that were refused since this one was served.
local function yields(lane, l)
  return l.name ~= own and l.served == lane and l.waits and string.match(l.waits, '^%S+') ~= lane
    and now < math.max(l.tat, l.pause) - H + YIELD
end

-- A limit is filled when less than `low` is booked, in one go up to `high`. Limits that a provider with a
-- rate shares with others are filled earlier and further: for up to G other lanes may book the provider.
local function fill_of(l)
  if not l.low then
    local early = l.name ~= own and limit(own) and limits[own].interval > 0
    l.low = early and H + G * 0.6 or H
    l.high = early and FAR or H + G
    l.mark = base_of(l) <= now + l.low and math.max(l.low, l.high - l.interval) or l.low
  end
  return l
end

local function is_full(l) return base_of(l) > now + fill_of(l).mark end

-- When a lane comes to a limit that is known to be full, and need not be looked at any further.
local function full_until(names)
  for name in string.gmatch(names, '%S+') do
    local l = name ~= own and limits[name]
    if l and is_full(l) then return base_of(l) - l.low, l end
  end
end

-- The limits of a lane with what they say: base (from when its slots could be) and pacing (the slowest).
-- Nil after a lane that had to be skipped.
local function limits_of(lane, names)
  local found = { mine = {}, base = 0 }
  for name in string.gmatch(names, '%S+') do
    local l = limit(name)
    if not l then return skip(lane, name) end
    table.insert(found.mine, l)
    found.base = math.max(found.base, base_of(l))
    if not found.pacing or l.interval > found.pacing.interval then found.pacing = l end
  end
  if not found.pacing then return skip(lane, 'lane:' .. lane) end
  return found
end

-- A lane that waits for a limit it shares: for a moment it keeps its place in the order; for longer, or
-- behind many others, it goes out of their way until the limit is less booked.
local function stand_back(lane, time, l, i)
  time = math.min(time, l.changes) -- a rate that was set for a while may end before
  local me = lane .. ' ' .. worker
  if not l.waits and l.served and l.served ~= lane then
    l.waits = me
    redis.call('HSET', key('limit', l.name), 'waits', me)
  end
  if l.waits == me then next_one = 1 end
  if time > now + 2 * G or i > LANES_MOST / 2 then return relist(lane, time + i * 10) end
  look_at(time)
end

local function serve(lane, hash, state, found, others)
  local paced_by_own = found.pacing.name == own
  local pace = Pace.new(lane, found.mine, found.base, now + fill_of(found.pacing).high)
  if found.pacing.interval == 0 and others > 0 then
    pace.room = math.max(1, math.floor(room / 2))
  elseif paced_by_own and others > 0 then
    pace.ends = found.base + math.max(0, pace.ends - found.base) / (others + 1)
    again[#again + 1] = lane
  end
  pace.room = math.min(pace.room, most[lane] or pace.room)
  held[lane] = held[lane] or {}
  take_all(lane, hash, state, held[lane], pace)
  for _, grant in ipairs(pace.grants) do grants[#grants + 1] = grant end
  -- Lanes that are due at once keep the order in which they were served.
  turns = turns + 1
  local after = now - 2 * LANES_MOST + turns
  for _, l in ipairs(found.mine) do
    if l.name ~= own then
      after = math.max(after, math.min(base_of(l) - fill_of(l).low, l.changes))
      if pace.total > 0 and l.interval > 0 and (l.served ~= lane or l.waits) then
        l.served, l.waits = lane, nil
        redis.call('HSET', key('limit', l.name), 'served', lane)
        redis.call('HDEL', key('limit', l.name), 'waits')
      end
    end
  end
  relist(lane, after)
  if after <= now then look_at(base_of(limits[own]) - H) end
end

-- Whether the limits of a lane let it be served now; what it waits for is seen to here.
local function may_be_served(lane, found, i)
  for _, l in ipairs(found.mine) do
    if l.name ~= own and is_full(l) then return stand_back(lane, base_of(l) - l.low, l, i) end
  end
  local account = limits[own]
  local ahead = found.pacing == account and fill_of(account).mark or FAR
  if base_of(account) > now + ahead then return look_at(base_of(account) - H) end
  for _, l in ipairs(found.mine) do
    if yields(lane, l) then return relist(lane, l.tat - H + YIELD) end
  end
  return true
end

-- One lane; i: its place among those visited, others: how many are still to come. A lane that only
-- its provider holds up is not moved: it keeps its place in the order.
local function visit(lane, i, others)
  local hash = key('lane', lane)
  local names, urgent = unpack(redis.call('HMGET', hash, 'limits', 'depth:urgent'))
  urgent = tonumber(urgent or '0') > 0
  if names and not urgent then
    local time, l = full_until(names)
    if time then return stand_back(lane, time, l, i) end
  end
  local state = lane_state(hash)
  if state.suspended > now then return relist(lane, state.suspended) end
  if state.depth[1] + state.depth[2] + state.depth[3] == 0 and not held[lane] then
    return redis.call('ZREM', KEYS[1], lane)
  end
  local found = limits_of(lane, state.limits)
  if not found then return end
  local wait = quota_wait(found.mine)
  if wait > now then return relist(lane, wait + i * 1000) end
  if (urgent and found.base <= now + URGENT_MOST) or may_be_served(lane, found, i) then
    serve(lane, hash, state, found, others)
  end
end

-- Visits lanes as long as there is room.
local function visit_all(names)
  for i, lane in ipairs(names) do
    if room <= 0 then return look_at(now) end
    visit(lane, i, #names - i)
  end
end

forward()
local state, reopens = breaker_state()
if state == 'closed' or state == 'probe' then
  if state == 'probe' then room = math.min(room, 1) end
  for _, lane in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'LIMIT', 0, LANES_MOST)) do
    lanes[#lanes + 1] = lane
  end
  visit_all(lanes)
  lanes, again = again, {}
  visit_all(lanes) -- what others have left of their shares
  if state == 'probe' and room <= 0 then
    redis.call('HSET', key('breaker', provider), 'state', 'half', 'until', int(now + probe_limit))
  end
end
for name, l in pairs(dirty) do
  redis.call('HSET', key('limit', name), 'tat', int(math.ceil(l.tat)), 'step', tostring(l.units * l.interval),
    'units', l.units)
  for _, quota in ipairs(l.quotas or {}) do
    redis.call('HSET', key('limit', name), 'used:' .. quota.period, int(quota.used))
  end
end

for _, name in ipairs(renewed) do skipped[#skipped + 1] = name end
local soonest = due_again
local later = redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. int(now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
-- Many lanes may come due one by one; each has H to spare.
if later[2] then soonest = math.min(soonest, math.max(now + H / 2, tonumber(later[2]))) end
if state ~= 'closed' and state ~= 'probe' and redis.call('ZCARD', KEYS[1]) > 0 then soonest = reopens end
local item = redis.call('ZRANGE', key('scheduled'), 0, 0, 'WITHSCORES')
if item[2] then soonest = math.min(soonest, tonumber(item[2])) end
if room <= 0 and due_again <= now and state == 'closed' and redis.call('ZCARD', key('workers')) > 1 then
  ring(provider)
end
if redis.call('ZCARD', key('workers')) == 1 then next_one = 1 end
return { state, int(now), redis.call('GET', key('control')) or '0', int(math.max(0, soonest - now)), skipped, grants,
  next_one }
