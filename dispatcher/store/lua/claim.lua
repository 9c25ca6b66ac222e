#!lua flags=allow-oom
-- Gives a worker entries and the slots at which their messages may be sent. Run again after a lost
-- reply it gives other entries: what the first run gave stays in `held`, where the worker finds it.
-- KEYS[1] lanes of the provider
-- ARGV 3 provider, 4 worker, 5 room (messages), 6 seconds a probe may take,
--      7 msgpack {{lane, cost of a message, most slots (0 = any), {field, messages without a slot}, ...}...}:
--      what the worker still holds, and where it could not keep up, 8 messages of a probe,
--      9 us from here until the reply is read, 10 us from one claim to the next at least: of a store
--      that is far away; slots begin when the reply can be there and last until the next can be,
--      11 number of this claim among the worker's of this provider, 12 of the last one that was answered,
--      13 of its last settle that was answered
-- returns {'lost'} for a worker that is not registered, {'forgotten'} where what it was answered is not
--      known (nothing is given), else
--      {state, now, control, us until something is due, limits and lanes
--      ('lane:...') to be written from the configuration, grants, 1 if there is
--      no other worker or a limit is left to this one next, else 2 if a lane was
--      refused by a limit that another lane was served from, else 0}; a grant is
--      {lane, cost, first slot (us from now + ARGV 9), spacing (us), slots, paced (0|1),
--      {{field, slots for messages held already}...}, entries}
--      an entry is {queue, id, slots, expired|cancelled|'', field list}
local provider, LANES_MOST = ARGV[3], 512
local probe_limit = tonumber(ARGV[6]) * 1000000
room = tonumber(ARGV[5])
-- LEAST: slots of a lane without a rate, where there are as many. YIELD: how long a lane that was served
-- last leaves a limit to lanes that wait for it, us.
local LEAST, YIELD = 50, 25000
if not registered(worker) then return { 'lost' } end
local claimed = last_claim(held_key, provider, ARGV[12], ARGV[13])
if not claimed then return { 'forgotten' } end
if tonumber(ARGV[11]) > claimed then redis.call('HSET', held_key, '#claim:' .. provider, ARGV[11]) end
local asked, FAR_AWAY = clock(), tonumber(ARGV[10])
now = asked + tonumber(ARGV[9]) -- slots are counted from here

-- Who looks for queues that nobody serves goes by this.
local served = tonumber(redis.call('HGET', key('providers'), provider) or '0')
if math.abs(now - served) > 5000000 then redis.call('HSET', key('providers'), provider, int(now)) end

-- Open: nothing until its time. After that one request probes; the others wait for its outcome.
local function breaker_state()
  local state = redis.call('HMGET', key('breaker', provider), 'state', 'until')
  if not state[1] or state[1] == 'closed' then return 'closed', 0 end
  local ends = tonumber(state[2])
  if ends > now then return state[1], ends end
  return 'probe', 0
end

local function lane_state(hash)
  local v = redis.call('HMGET', hash, 'limits', 'paused', 'depth:urgent', 'depth:normal', 'depth:bulk',
    'back:urgent', 'back:normal', 'back:bulk', 'floor:normal', 'floor:bulk')
  local function num(i) return math.max(0, tonumber(v[i] or '0')) end
  return { limits = v[1] or '', paused = num(2), depth = { num(3), num(4), num(5) },
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

local next_one, contended, turns, due_again = 0, 0, 0, now + 3600000000
local grants, skipped, again, own = {}, {}, {}, 'provider:' .. provider
local function relist(lane, time) redis.call('ZADD', KEYS[1], int(time), lane) end

-- Lanes that stay due are worth another look at this time.
local function look_at(time) due_again = math.min(due_again, math.max(now, time)) end

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

-- Who waits for a limit that was given to others: lines of `lane worker`, at most one of a provider.
local function queue_up(l, me)
  local others = l.waits or ''
  if string.find('\n' .. others, '\n' .. provider .. '/', 1, true) then return end
  l.waits = others .. me .. '\n'
  redis.call('HSET', key('limit', l.name), 'waits', l.waits)
end

-- A lane was served: it waits no longer, nor does the first one if it has let this lane pass.
local function leave_queue(l, lane)
  local rest, first = '', true
  for line in string.gmatch(l.waits or '', '[^\n]+') do
    if string.match(line, '^%S+') ~= lane and not (first and l.served == lane) then rest = rest .. line .. '\n' end
    first = false
  end
  if l.served == lane and rest == (l.waits or '') then return end
  l.served, l.waits = lane, rest ~= '' and rest or nil
  redis.call('HSET', key('limit', l.name), 'served', lane, 'waits', rest)
end

-- Whether a limit is left to lanes of other providers that were refused since this one was served.
local function yields(lane, l)
  return l.name ~= own and l.served == lane and l.waits and now < base_of(l) - H + YIELD
end

-- A limit is filled when less than `low` is booked, in one go up to `high`. Limits that a provider with a
-- rate shares with others are filled earlier and further: for up to G other lanes may book the provider.
local function fill_of(l)
  if not l.low then
    local early = l.name ~= own and limit(own) and limits[own].interval > 0
    l.low = early and H + G or H
    l.high = (early and FAR or H + G) + FAR_AWAY
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
-- Nil after a lane that waits until what it misses is written.
local function limits_of(lane, names)
  local found, missing = { mine = {}, base = 0 }, {}
  for name in string.gmatch(names, '%S+') do
    local l = limit(name)
    if l then
      table.insert(found.mine, l)
      found.base = math.max(found.base, base_of(l))
      if not found.pacing or l.interval > found.pacing.interval then found.pacing = l end
    else
      missing[#missing + 1] = name
    end
  end
  if found.pacing and #missing == 0 then return found end
  missing[#missing + 1] = 'lane:' .. lane
  for _, name in ipairs(missing) do skipped[#skipped + 1] = name end
  relist(lane, now + 1000000)
end

-- A lane that waits for a limit it shares: for a moment it keeps its place in the order; for longer, or
-- behind many others, it goes out of their way until the limit is less booked.
local function stand_back(lane, time, l, i)
  time = math.min(time, l.changes) -- a rate that was set for a while may end before
  local me = lane .. ' ' .. worker
  if l.served and l.served ~= lane then
    contended = 2
    queue_up(l, me)
  end
  if l.waits and string.find('\n' .. l.waits, '\n' .. me .. '\n', 1, true) then next_one = 1 end
  if time > now + 2 * G or i > LANES_MOST / 2 then return relist(lane, time + i * 10) end
  look_at(time)
end

local function serve(lane, hash, state, found, others)
  local paced_by_own = found.pacing.name == own
  local pace = Pace.new(lane, found.mine, found.base, now + fill_of(found.pacing).high)
  if found.pacing.interval == 0 and others > 0 then
    pace.room = math.max(math.min(room, LEAST), math.floor(room / 2))
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
      if pace.total > 0 and l.interval > 0 then leave_queue(l, lane) end
    end
  end
  if pace.total == 0 and pace.spent then after = math.max(after, pace.spent) end
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
    if yields(lane, l) then return relist(lane, base_of(l) - H + YIELD) end
  end
  return true
end

-- One lane; i: its place among those visited, others: how many are still to come. A lane that only
-- its provider holds up is not moved: it keeps its place in the order.
local function visit(lane, i, others)
  local ends = suspended_until(lane)
  if ends > now then return relist(lane, ends) end
  local hash = key('lane', lane)
  local names, urgent = unpack(redis.call('HMGET', hash, 'limits', 'depth:urgent'))
  urgent = tonumber(urgent or '0') > 0
  if names and not urgent then
    local time, l = full_until(names)
    if time then return stand_back(lane, time, l, i) end
  end
  local state = lane_state(hash)
  if state.paused > now then return relist(lane, state.paused) end
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

local state, reopens = breaker_state()
local most_room = state == 'probe' and math.min(room, tonumber(ARGV[8])) or room
room = most_room

-- Visits lanes as long as there is room; a probe is of one lane.
local function visit_all(names)
  for i, lane in ipairs(names) do
    if room <= 0 or marked >= MARKED_MOST or (state == 'probe' and room < most_room) then return look_at(now) end
    visit(lane, i, state == 'probe' and 0 or #names - i)
  end
end

forward(asked)
if state == 'closed' or state == 'probe' then
  for _, lane in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'LIMIT', 0, LANES_MOST)) do
    lanes[#lanes + 1] = lane
  end
  visit_all(lanes)
  lanes, again = again, {}
  visit_all(lanes) -- what others have left of their shares
  if state == 'probe' and room < most_room then
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
if steps ~= '' then soonest = now end
if room <= 0 and due_again <= now and state == 'closed' and redis.call('ZCARD', key('workers')) > 1 then
  ring(provider)
end
if redis.call('ZCARD', key('workers')) == 1 then next_one = 1 end
return { state, int(asked), redis.call('GET', key('control')) or '0', int(math.max(0, soonest - now)), skipped, grants,
  next_one == 1 and 1 or contended }
