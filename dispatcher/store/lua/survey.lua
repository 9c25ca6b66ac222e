#!lua flags=allow-oom
-- Names keys of the cell that are to be looked at, some at a time, from where the last call came to.
-- One worker at a time has this task. Run again it names the same keys again: a step is noted once, when
-- its number comes back.
-- KEYS[1] janitor
-- ARGV 3 worker, 4 us for which it has the task, 5 keys to pass, 6 number of the step and position
--      up to which all was looked at, or ''
-- returns {'busy', us until the task is free} | {'step', its number, position reached ('0': the round
--      ends there), {kind, rest, ...}}
local now = clock()
local v = redis.call('HMGET', KEYS[1], 'worker', 'until', 'step', 'position')
if v[1] and v[1] ~= ARGV[3] and tonumber(v[2]) > now then return { 'busy', int(tonumber(v[2]) - now) } end
redis.call('HSET', KEYS[1], 'worker', ARGV[3], 'until', int(now + tonumber(ARGV[4])))

-- The positions of a scan mean something to one server only.
local function server()
  local info = redis.pcall('INFO', 'server')
  return type(info) == 'string' and string.match(info, 'run_id:(%w+)') or ''
end

local function begin_round()
  redis.call('HSET', KEYS[1], 'queued', redis.call('GET', key('queued')) or '0', 'server', server(), 'unfinished', 0)
end

-- Both counters are sums over batches, which change while they are read. They are certain in one
-- case: a round saw no batch with messages left, and the count was the same before and after it.
local function end_round()
  local began = redis.call('HMGET', KEYS[1], 'queued', 'server', 'unfinished')
  local same = began[1] == (redis.call('GET', key('queued')) or '0')
  if began[3] == '0' and same and began[1] ~= '0' and began[2] ~= '' and began[2] == server() then
    redis.call('DEL', key('queued'), key('queued_by'))
  end
end

local step, reached = string.match(ARGV[6], '^(%d+) (%d+)$')
local current, position = v[3] or '0', v[4] or '0'
if not v[4] then begin_round() end
if v[4] and step == current then
  if reached == '0' then end_round(); begin_round() end
  position = reached
end
if not v[4] or step == current then
  current = int(redis.call('HINCRBY', KEYS[1], 'step', 1))
  redis.call('HSET', KEYS[1], 'position', position)
end
local scan = redis.call('SCAN', position, 'MATCH', PREFIX .. ':*' .. TAG .. ':*', 'COUNT', ARGV[5])
local found = {}
for _, kind in ipairs({ 'queue', 'held', 'lane', 'limit', 'batch' }) do
  local start = key(kind) .. ':'
  for _, name in ipairs(scan[2]) do
    if string.sub(name, 1, #start) == start then
      found[#found + 1] = kind
      found[#found + 1] = string.sub(name, #start + 1)
    end
  end
end
return { 'step', current, scan[1], found }
