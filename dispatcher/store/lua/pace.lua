-- Limits and the slots they leave a lane; put in front of claim.lua, after lib.lua. Its script sets
-- `now`, `worker` and `room` (slots the worker can use) before it calls anything here.
local now, room
-- FAR: how far ahead slots are given; URGENT_MOST: how far a lane may be booked for urgent messages to
-- book more of it; DAY; all us.
local FAR, URGENT_MOST, DAY = 200000, 500000, 86400000000
local limits, dirty, renewed = {}, {}, {} -- renewed: names whose calendar needs its next period
local PERIODS = { 'day', 'month' }

-- What is left of the calendar quotas of a limit, and when the first that is used up begins anew.
local function quotas_of(name)
  local hash, found = key('limit', name), {}
  for _, period in ipairs(PERIODS) do
    local v = redis.call('HMGET', hash, 'quota:' .. period, 'used:' .. period, 'ends:' .. period, 'next:' .. period,
      'since:' .. period)
    if v[1] then
      local quota = { period = period, used = tonumber(v[2] or '0'), most = tonumber(v[1]), ends = tonumber(v[3]) }
      if quota.ends <= now then
        local following = tonumber(v[4] or '0')
        if following <= now then following = now + (period == 'day' and DAY or 28 * DAY) end
        quota.ends, quota.used = following, 0
        redis.call('HSET', hash, 'used:' .. period, 0, 'ends:' .. period, int(following), 'since:' .. period, int(now))
        renewed[#renewed + 1] = name
      elseif tonumber(v[5] or '0') > now then -- the clock has stepped back, perhaps into the period before
        renewed[#renewed + 1] = name
      end
      found[#found + 1] = quota
    end
  end
  return found
end

-- The interval in force: what an operator has set, else the step of the ramp, else the usual one.
local function interval_of(v)
  if v[7] and (v[8] == '0' or tonumber(v[8]) > now) then return tonumber(v[7]) end
  if v[9] then
    local day, step = math.floor((now - tonumber(v[10] or '0')) / DAY) + 1, 0
    for interval in string.gmatch(v[9], '%S+') do
      step = step + 1
      if step == day then return tonumber(interval) end
    end
  end
  return tonumber(v[1])
end

local function limit(name)
  if limits[name] ~= nil then return limits[name] end
  local v = redis.call('HMGET', key('limit', name), 'interval', 'burst', 'tat', 'pause', 'factor', 'factored',
    'set', 'set_until', 'ramp', 'born', 'segments', 'quotas', 'waits', 'served', 'step', 'units')
  if not v[1] or not v[3] then
    limits[name] = false
    return false
  end
  local interval = interval_of(v)
  if v[5] then
    interval = interval / math.min(1, tonumber(v[5]) + 0.05 * math.max(0, now - tonumber(v[6])) / 1000000)
  end
  -- What is booked ends one step after its last slot, at the rate of now. A slot further ahead than any
  -- is given comes from a clock that stepped back: the limit begins anew, as after a loss of its state.
  local tat, count = tonumber(v[3]), tonumber(v[16] or '1')
  local slot = tat - tonumber(v[15] or interval)
  if slot > now + FAR + URGENT_MOST + 1000000 then
    slot = now + H + G
    redis.call('HSET', key('limit', name), 'tat', int(slot + count * interval), 'step', tostring(count * interval))
  end
  local l = { name = name, interval = interval, pause = tonumber(v[4] or '0'), segments = v[11] == '1',
    window = (tonumber(v[2]) - 1) * interval, tat = slot + count * interval, units = count,
    quotas = v[12] and quotas_of(name), waits = v[13] ~= '' and v[13] or nil, served = v[14],
    changes = v[7] and tonumber(v[8]) > now and tonumber(v[8]) or math.huge }
  limits[name] = l
  return l
end

local function base_of(l) return math.max(l.tat, now - l.window, l.pause) end

local function units(l, cost) return l.segments and cost or 1 end

-- Where the slots of one lane go. cursor: the next slot; ends: until when it is filled; room: slots.
local Pace = {}
Pace.__index = Pace

function Pace.new(lane, mine, base, ends)
  return setmetatable({ lane = lane, mine = mine, cursor = base, ends = ends, room = room, total = 0, grants = {} }, Pace)
end

-- Us from one slot to the next, and for how many slots that holds. The slowest limit paces. One that has
-- some of its burst left does not, until its slots have come as far as those of the others.
function Pace:spacing(cost)
  local spacing, slots, bursts = 0, math.huge, {}
  for _, l in ipairs(self.mine) do
    if l.window > 0 and base_of(l) < self.cursor then
      bursts[#bursts + 1] = l
    else
      spacing = math.max(spacing, l.interval * units(l, cost))
    end
  end
  if bursts[1] then spacing = math.max(spacing, 1) end -- slots of a limited lane have a time, however close
  for _, l in ipairs(bursts) do
    local slower = l.interval * units(l, cost) - spacing
    if slower > 0 then slots = math.min(slots, math.floor((self.cursor - base_of(l)) / slower) + 1) end
  end
  return spacing, slots
end

-- How many of `n` messages of this cost get a slot now; the first of a visit always does.
function Pace:fits(n, cost)
  local spacing, slots = self:spacing(cost)
  local most = math.min(n, self.room, slots)
  if spacing > 0 then
    local some = math.floor((self.ends - self.cursor) / spacing + 0.001)
    most = math.min(most, self.total == 0 and math.max(1, some) or some)
  end
  for _, l in ipairs(self.mine) do
    for _, quota in ipairs(l.quotas or {}) do
      local rest = math.floor((quota.most - quota.used) / units(l, cost))
      if rest < 1 then self.spent = math.max(self.spent or 0, quota.ends) end
      most = math.min(most, rest)
    end
  end
  return math.max(0, most)
end

function Pace:grant(cost)
  local last, spacing = self.grants[#self.grants], self:spacing(cost)
  if last and last[2] == cost and last.spacing == spacing then return last end
  last = { self.lane, cost, int(self.cursor - now), tostring(spacing), 0, spacing > 0 and 1 or 0, {}, {}, spacing = spacing }
  self.grants[#self.grants + 1] = last
  return last
end

-- Charges the slowest limit from the slot, every other, and what is left of a burst, from its own base.
function Pace:charge(grant, n, cost)
  local spacing = self:spacing(cost)
  for _, l in ipairs(self.mine) do
    local step = l.interval * units(l, cost)
    local paces = step == spacing and l.window <= 0
    l.tat = (paces and math.max(self.cursor, base_of(l)) or base_of(l)) + n * step
    l.units = units(l, cost)
    for _, quota in ipairs(l.quotas or {}) do quota.used = quota.used + n * units(l, cost) end
    dirty[l.name] = l
  end
  grant[5] = grant[5] + n
  self.cursor = self.cursor + n * spacing
  for _, l in ipairs(self.mine) do self.cursor = math.max(self.cursor, base_of(l)) end
  self.room, self.total, room = self.room - n, self.total + n, room - n
end
