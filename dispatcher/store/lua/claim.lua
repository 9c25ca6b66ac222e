#!lua flags=allow-oom
-- Gives a worker entries and the slots at which their messages may be sent. Run again after a lost
-- reply it gives other entries: what the first run gave stays in `held`, where the worker finds it.
-- KEYS[1] lanes of the provider
-- ARGV 3 provider, 4 worker, 5 room (messages), 6 seconds a probe may take,
--      7 msgpack {{lane, most slots (0 = any), {field, messages without a slot}, ...}...}: what the
--      worker still holds, and where it could not keep up
-- returns {'lost'} for a worker that is not registered, else
--      {state, now, control, us until something is due, limits and lanes
--      ('lane:...') without definition, grants}; a grant is
--      {lane, first slot (us from now), spacing (us), slots, paced (0|1), slots for held messages, entries}
--      an entry is {queue, id, slots, expired|cancelled|'', field list}
local provider, worker = ARGV[3], ARGV[4]
local room, probe_limit = tonumber(ARGV[5]), tonumber(ARGV[6]) * 1000000
local held_key, FLOOR, MARKED_MOST, LANES_MOST, SPREAD = key('held', worker), 0.05, 64, 128, 10000
local CLASSES = { 'urgent', 'normal', 'bulk' }
if not redis.call('ZSCORE', key('workers'), worker) then return { 'lost' } end
local now = clock()

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

local limits, dirty = {}, {}
local function limit(name)
  if limits[name] == nil then
    local v = redis.call('HMGET', key('limit', name), 'interval', 'burst', 'tat', 'pause', 'factor', 'factored')
    if not v[1] or not v[3] then
      limits[name] = false
    else
      local interval = tonumber(v[1])
      if v[5] then
        interval = interval / math.min(1, tonumber(v[5]) + 0.05 * math.max(0, now - tonumber(v[6])) / 1000000)
      end
      -- A tat further ahead comes from a clock that stepped back or a rate that was raised since.
      local tat, most = tonumber(v[3]), now + H + G + interval + 1000000
      limits[name] = { name = name, interval = interval, pause = tonumber(v[4] or '0'),
        window = (tonumber(v[2]) - 1) * interval, tat = math.min(tat, most) }
      if tat > most then dirty[name] = limits[name] end
    end
  end
  return limits[name]
end

local function base_of(l) return math.max(l.tat, now - l.window, l.pause) end

local marked = 0
local function read(name, want, entries)
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
  local n, expires, mark = tonumber(fields.n), tonumber(fields.expires), ''
  if expires > 0 and expires <= now then
    mark = 'expired'
  elseif redis.call('HEXISTS', key('batch', fields.batch), 'cancel') == 1 then
    mark = 'cancelled'
  end
  -- The first rows of an entry put back may need a decision and no slot.
  local first, slots = math.min(n, tonumber(fields.a or '0')), 0
  if mark == '' then slots = math.min(n - first, want) end
  if slots == 0 then marked = marked + 1 end
  redis.call('HSET', held_key, name .. '|' .. id, mark == '' and first + slots or 0)
  entries[#entries + 1] = { name, id, slots, mark, list }
  return n, slots
end

local function drain(name, want, entries)
  local got, delivered = 0, 0
  while got < want and marked < MARKED_MOST do
    local n, slots = read(name, want - got, entries)
    if not n then return got, delivered, true end
    got, delivered = got + slots, delivered + n
  end
  return got, delivered, false
end

-- Messages of one class: what was put back first (at most half), then the tenant served least.
local function take(lane, hash, class, depth, back, want, entries)
  local got, delivered, emptied = 0, 0, false
  if back > 0 then
    local most = depth > back and math.ceil(want / 2) or want
    got, delivered, emptied = drain(lane .. ':' .. class .. ':' .. RETURNED, most, entries)
    redis.call('HINCRBY', hash, 'back:' .. class, emptied and -back or -math.min(delivered, back))
  end
  local fair = key('fair', lane .. ':' .. class)
  while got < want and marked < MARKED_MOST do
    local first = redis.call('ZRANGE', fair, 0, 0, 'WITHSCORES')
    if not first[1] then break end
    local weight = tonumber(redis.call('HGET', hash, 'w:' .. first[1]) or '1')
    local some, taken = drain(lane .. ':' .. class .. ':' .. first[1], math.min(want - got, 500), entries)
    if taken == 0 then
      redis.call('ZREM', fair, first[1])
    else
      redis.call('ZINCRBY', fair, some / weight, first[1])
      redis.call('HSET', hash, 'vt:' .. class, first[2])
    end
    got, delivered = got + some, delivered + taken
  end
  if delivered == 0 and marked < MARKED_MOST then delivered = depth end -- a count that has drifted
  if delivered > 0 then redis.call('HINCRBY', hash, 'depth:' .. class, -math.min(delivered, depth)) end
  return got, math.max(0, depth - delivered)
end

-- All classes, the most urgent first; each lower one builds up a claim to a twentieth of the slots.
local function take_all(lane, hash, state, want, entries)
  local floors, reserved = {}, 0
  for i = 2, 3 do
    local depth = state.depth[i]
    floors[i] = depth > 0 and math.min(want, state.floor[i] + FLOOR * want) or 0
    state.reserve[i] = math.min(math.floor(floors[i]), depth)
    reserved = reserved + state.reserve[i]
  end
  local got = 0
  for i = 1, 3 do
    reserved = reserved - (state.reserve[i] or 0)
    local some, left = 0, state.depth[i]
    if left > 0 and want - got - reserved > 0 then
      some, left = take(lane, hash, CLASSES[i], left, state.back[i], want - got - reserved, entries)
    end
    if i > 1 and (floors[i] > 0 or state.floor[i] > 0) then
      redis.call('HSET', hash, 'floor:' .. CLASSES[i], left > 0 and math.max(0, floors[i] - some) or 0)
    end
    got = got + some
  end
  return got
end

-- Slots for messages the worker holds already come before anything new of the lane.
local function book(fields, want)
  local got = 0
  for _, item in ipairs(fields) do
    local some = math.min(item[2], want - got)
    if some > 0 then redis.call('HINCRBY', held_key, item[1], some) end
    got = got + some
  end
  return got
end

local function lane_state(hash)
  local v = redis.call('HMGET', hash, 'limits', 'until', 'depth:urgent', 'depth:normal', 'depth:bulk',
    'back:urgent', 'back:normal', 'back:bulk', 'floor:normal', 'floor:bulk')
  local function num(i) return math.max(0, tonumber(v[i] or '0')) end
  return { limits = v[1] or '', suspended = num(2), depth = { num(3), num(4), num(5) },
    back = { num(6), num(7), num(8) }, floor = { 0, num(9), num(10) }, reserve = {} }
end

local held, most, lanes = {}, {}, {}
for _, item in ipairs(cmsgpack.unpack(ARGV[7])) do
  local lane, fields = item[1], {}
  for i = 3, #item do fields[i - 2] = item[i] end
  if item[2] > 0 then most[lane] = item[2] end
  if #fields > 0 then
    held[lane] = fields
    if not redis.call('ZSCORE', KEYS[1], lane) then lanes[#lanes + 1] = lane end
  end
end

local grants, skipped, own = {}, {}, 'provider:' .. provider
local function relist(lane, time) redis.call('ZADD', KEYS[1], int(time), lane) end

-- One lane. Once the provider's own limit is booked no lane is moved any more, and only those with
-- urgent messages are served.
local full = false
local function visit(lane, others)
  local hash = key('lane', lane)
  if full and tonumber(redis.call('HGET', hash, 'depth:urgent') or '0') <= 0 then return end
  local state = lane_state(hash)
  if state.suspended > now then return relist(lane, state.suspended) end
  local depth = state.depth[1] + state.depth[2] + state.depth[3]
  if depth == 0 and not held[lane] then return redis.call('ZREM', KEYS[1], lane) end
  local base, spacing, wake, mine = 0, 0, 0, {}
  for name in string.gmatch(state.limits, '%S+') do
    local l = limit(name)
    if not l then
      skipped[#skipped + 1] = name
      return relist(lane, now + 1000000)
    end
    mine[#mine + 1] = l
    base, spacing = math.max(base, base_of(l)), math.max(spacing, l.interval)
    if name ~= own then wake = math.max(wake, base_of(l) - H) end
    if name == own and base_of(l) > now + H then
      full = true
      if state.depth[1] == 0 then return end
    end
  end
  if #mine == 0 then
    skipped[#skipped + 1] = 'lane:' .. lane
    return relist(lane, now + 1000000)
  end
  if base > now + H and state.depth[1] == 0 then
    return relist(lane, math.max(wake, base - H) + (now + #grants * 7919 + others * 104729) % SPREAD)
  end
  local want = others > 0 and math.max(1, math.floor(room / 2)) or room
  if spacing > 0 then
    want = math.max(1, math.floor((now + H + G - base) / spacing))
    if state.depth[1] > 0 then want = math.max(want, math.min(state.depth[1], math.floor(G / spacing))) end
  end
  want = math.min(want, room, most[lane] or want)
  local booked = held[lane] and book(held[lane], want) or 0
  local entries, got = {}, 0
  if want > booked then got = take_all(lane, hash, state, want - booked, entries) end
  room = room - booked - got
  for _, l in ipairs(mine) do
    l.tat = base_of(l) + (booked + got) * l.interval
    dirty[l.name] = l
  end
  if booked + got > 0 or #entries > 0 then
    grants[#grants + 1] = { lane, int(base - now), tostring(spacing), booked + got, spacing > 0 and 1 or 0, booked, entries }
  end
  held[lane] = nil
  local after = now
  for _, l in ipairs(mine) do
    if l.name ~= own then after = math.max(after, base_of(l) - H + SPREAD) end
  end
  if #mine == 1 then after = now end
  relist(lane, after)
end

forward()
local state, wake = breaker_state()
if state == 'probe' then room = math.min(room, 1) end
if state == 'closed' or state == 'probe' then
  for _, lane in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(now), 'LIMIT', 0, LANES_MOST)) do
    lanes[#lanes + 1] = lane
  end
  for i, lane in ipairs(lanes) do
    if room <= 0 then break end
    visit(lane, #lanes - i)
    if state == 'probe' and room <= 0 then
      redis.call('HSET', key('breaker', provider), 'state', 'half', 'until', int(now + probe_limit))
      break
    end
  end
end
local mine = limits[own]
if mine and base_of(mine) > now + H then wake = math.max(wake, base_of(mine) - H) end
for name, l in pairs(dirty) do redis.call('HSET', key('limit', name), 'tat', int(math.ceil(l.tat))) end

local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local soonest = first[2] and tonumber(first[2]) or now + 3600000000
soonest = math.max(soonest, wake)
local item = redis.call('ZRANGE', key('scheduled'), 0, 0, 'WITHSCORES')
if item[2] then soonest = math.min(soonest, tonumber(item[2])) end
if room <= 0 and first[2] and tonumber(first[2]) <= now and state == 'closed'
  and redis.call('ZCARD', key('workers')) > 1 then ring(provider) end
return { state, int(now), redis.call('GET', key('control')) or '0', int(math.max(0, soonest - now)), skipped, grants }
