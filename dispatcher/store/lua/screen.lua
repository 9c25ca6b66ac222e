#!lua flags=allow-oom
-- Gives recipients their turns under limits that hold for each recipient by itself. Per limit and
-- recipient three times are kept: `tat`, from which the next message may go; `tail`, behind every
-- turn promised to new messages; `chain`, behind every turn promised to messages that came back and
-- found theirs gone, because others had been late; and how far the clock had stepped back by then.
-- Run again after a lost reply it charges again: that delays a recipient and never lets anything go
-- early.
-- KEYS[1] pair
-- ARGV 3 msgpack {limits = {{name, us from one message to the next, burst - 1}...},
--      rows = {{recipient, 1 if it comes back for its turn, else 0}...}}
-- returns per row 0 when it may go, else how long it is to its turn (us)
local plan = cmsgpack.unpack(ARGV[3])
local now, EARLY = clock(), 30000 -- us by which a turn may be early: the one before it was late
local stepped = tonumber(redis.call('HGET', key('clock'), 'back') or '0')

local states = {}
local function state_of(limit, recipient)
  local name = key('pair', limit[1] .. ':' .. recipient)
  if not states[name] then
    local tat, tail, chain, before = string.match(redis.call('GET', name) or '0 0 0', '(%d+) (%d+) (%d+) ?(%d*)')
    local by = stepped - (tonumber(before) or 0)
    -- A tat further ahead comes from a rate that was raised since.
    states[name] = { step = limit[2], window = limit[2] * limit[3], tail = math.max(0, tail - by),
      chain = math.max(0, chain - by), tat = math.min(math.max(0, tat - by), now + EARLY + limit[2]) }
  end
  return states[name]
end

local function turn(row)
  local back, at, mine = row[2] == 1, now, {}
  for i, limit in ipairs(plan.limits) do
    local s = state_of(limit, row[1])
    mine[i] = s
    -- The first of those that came back takes a turn that is free; what is new goes behind them.
    if s.tat > now + EARLY then at = math.max(at, s.tat, s.chain) end
    if not back then at = math.max(at, s.tail, s.chain) end
  end
  for _, s in ipairs(mine) do
    if at == now then
      s.tat = math.max(s.tat, now - s.window) + s.step
    elseif back then
      s.chain = at + s.step
    else
      s.tail = at + s.step
    end
  end
  return at == now and 0 or math.ceil(at - now)
end

local reply = {}
for i, row in ipairs(plan.rows) do reply[i] = turn(row) end
for name, s in pairs(states) do
  local ends = math.max(s.tat + s.window, s.tail, s.chain)
  redis.call('SET', name, int(s.tat) .. ' ' .. int(s.tail) .. ' ' .. int(s.chain) .. ' ' .. int(stepped),
    'PX', int(math.max(1, math.ceil((ends - now) / 1000))))
end
return reply
