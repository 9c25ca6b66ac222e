-- Put in front of every script. ARGV[1] = prefix, ARGV[2] = {cell}; KEYS[1] carries the same tag,
-- all other keys are built here. Words and key names: store/keys.py. Times are microseconds.
local PREFIX, TAG = ARGV[1], ARGV[2]
local GROUP = 'workers'
local H, G = 50000, 100000 -- refill mark and grant, us
local RETURNED = '~'
local WAITS = '+' -- before the number of a scheduled entry that waits for so long, not until a named time

local function key(kind, rest)
  local name = PREFIX .. ':' .. kind .. ':' .. TAG
  if rest then return name .. ':' .. rest end
  return name
end

-- While the slot of a cell moves between two nodes of a cluster, some keys are here and some are there: a
-- script that found out half way would leave half of its work. Both nodes refuse this first call then, of
-- keys that never exist.
redis.call('EXISTS', key('nothing'), key('nowhere'))

-- `..` and tostring keep 14 digits only, a time has 16.
local function int(number) return string.format('%.0f', number) end

local function time()
  local parts = redis.call('TIME')
  return tonumber(parts[1]) * 1000000 + tonumber(parts[2])
end

local FOREVER = 9000000000000000 -- us; the largest times doubles hold exactly end soon after

-- What moves back by `by` us the times ahead of now: fields of a hash, members of a sorted set.
local function movers(now, by)
  local function move_fields(hash, ...)
    local fields, moved = { ... }, {}
    for i, value in ipairs(redis.call('HMGET', hash, ...)) do
      if tonumber(value or 0) > now then
        moved[#moved + 1] = fields[i]
        moved[#moved + 1] = int(value - by)
      end
    end
    if moved[1] then redis.call('HSET', hash, unpack(moved)) end
  end
  local function move_members(set)
    local found = redis.call('ZRANGEBYSCORE', set, '(' .. int(now), '+inf', 'WITHSCORES')
    for i = 1, #found, 2 do redis.call('ZADD', set, 'XX', int(found[i + 1] - by), found[i]) end
  end
  return move_fields, move_members
end

-- Moves back with the clock what was to last or to wait so long, not what is to be at a time that somebody
-- named. What had ended by the clock of before has ended. There may be a million entries scheduled: claims
-- move those, some at a time. Returns the steps that they have before them.
local function step_back(now, by, steps)
  local move_fields, move_members = movers(now, by)
  steps = steps .. (redis.call('GET', key('counter')) or '0') .. ' ' .. int(by) .. ' ' .. int(now) .. '\n'
  redis.call('HSET', key('clock'), 'seen', int(now), 'steps', steps)
  redis.call('HINCRBY', key('clock'), 'back', int(by))
  for _, name in ipairs(redis.call('SMEMBERS', key('limits'))) do
    move_fields(key('limit', name), 'tat', 'pause', 'factored', 'born', 'set_until')
  end
  for _, provider in ipairs(redis.call('HKEYS', key('providers'))) do
    local lanes = key('lanes', provider)
    for _, lane in ipairs(redis.call('ZRANGE', lanes, 0, -1)) do move_fields(key('lane', lane), 'paused') end
    move_members(lanes)
    move_fields(key('breaker', provider), 'until')
    move_fields(key('providers'), provider)
  end
  local suspended = redis.call('HGETALL', key('suspended'))
  for i = 1, #suspended, 2 do
    local number, ends, reason = string.match(suspended[i + 1], '^(%d+) (%d+)(.*)$')
    ends = tonumber(ends)
    if ends > now and ends < FOREVER then
      redis.call('HSET', key('suspended'), suspended[i], number .. ' ' .. int(ends - by) .. reason)
    end
  end
  move_members(key('workers'))
  move_fields(key('janitor'), 'until')
  return steps
end

-- The time that everything goes by. A clock that is behind what was seen of it has stepped back: it was set
-- right, or a replica took over that has another. steps: what of that is left for claims to do.
local moment, steps
local function clock()
  if moment then return moment end
  moment = time()
  local known = redis.call('HMGET', key('clock'), 'seen', 'steps')
  local seen = tonumber(known[1] or 0)
  steps = known[2] or ''
  if moment < seen - 1000000 then
    steps = step_back(moment, seen - moment, steps)
  elseif moment > seen + 250000 then
    redis.call('HSET', key('clock'), 'seen', int(moment))
  end
  return moment
end

local function ring(provider)
  local bell = key('bell', provider)
  if redis.call('LLEN', bell) == 0 then redis.call('RPUSH', bell, '1') end
end

local function provider_of(lane) return string.match(lane, '^[^/]+') end

-- Lists the lane as due now unless it has a time; urgent messages pull that time forward.
local function list_lane(lane, class, now)
  local lanes, provider = key('lanes', provider_of(lane)), provider_of(lane)
  local added = redis.call('ZADD', lanes, 'NX', int(now), lane)
  if added == 1 then redis.call('HSETNX', key('providers'), provider, 0) end
  if added == 0 and class == 'urgent' then
    added = redis.call('ZADD', lanes, 'LT', 'CH', int(now), lane)
  end
  -- A lane that is due already may wait for the next claim of a busy worker; what is urgent not.
  if added == 1 or class == 'urgent' then ring(provider) end
end

-- Adds one entry to a queue. entry: n, c, batch, expires, body, and a, r where known.
local function push(lane, class, tenant, entry, now)
  local queue = key('queue', lane .. ':' .. class .. ':' .. tenant)
  if redis.call('EXISTS', queue) == 0 then
    redis.call('XGROUP', 'CREATE', queue, GROUP, '0', 'MKSTREAM')
  end
  local args = { 'XADD', queue, '*', 'n', entry.n, 'c', entry.c, 'batch', entry.batch,
    'expires', entry.expires, 'body', entry.body }
  if entry.a then args[#args + 1] = 'a'; args[#args + 1] = entry.a end
  if entry.r then args[#args + 1] = 'r'; args[#args + 1] = entry.r end
  redis.call(unpack(args))
  local hash = key('lane', lane)
  redis.call('HINCRBY', hash, 'depth:' .. class, entry.n)
  if tenant == RETURNED then
    redis.call('HINCRBY', hash, 'back:' .. class, entry.n)
  else
    local vt = redis.call('HGET', hash, 'vt:' .. class) or '0'
    redis.call('ZADD', key('fair', lane .. ':' .. class), 'NX', vt, tenant)
  end
  list_lane(lane, class, now)
end

-- Puts an entry aside until `due`: a time that somebody named or, if it `waits`, one that was counted from now.
-- What the entry does not say (a, r) is packed as false.
local function schedule(due, lane, class, entry, waits)
  local id = (waits and WAITS or '') .. int(redis.call('INCR', key('counter')))
  local packed = cmsgpack.pack({ lane, class, entry.n, entry.c, entry.batch, entry.expires, entry.body,
    entry.a or false, entry.r or false })
  redis.call('HSET', key('items'), id, packed)
  redis.call('ZADD', key('scheduled'), int(due), id)
  redis.call('HINCRBY', key('batch', entry.batch), 'scheduled', entry.n)
  return id
end

-- Puts an entry where a worker takes it to the lane in another cell; no other move may have this name. There it
-- is put aside until `due` or, if it `waits`, for `due` us by the clock of that cell.
local function leave(name, due, lane, class, entry, waits)
  local packed = { due, lane, class, entry.n, entry.c, entry.batch, entry.expires, entry.body,
    entry.a or false, entry.r or false, waits or false }
  redis.call('HSET', key('leaving'), name, cmsgpack.pack(packed))
  redis.call('HSET', key('batch', entry.batch), 'spread', 1)
end

-- Takes an entry out of its queue for good; a queue left empty disappears.
local function remove(queue, id)
  redis.call('XACK', queue, GROUP, id)
  redis.call('XDEL', queue, id)
  if redis.call('XLEN', queue) == 0 then redis.call('DEL', queue) end
end

-- Counts a tenant's messages without an outcome.
local function count_tenant(tenant, change)
  if redis.call('HINCRBY', key('queued_by'), tenant, change) <= 0 then redis.call('HDEL', key('queued_by'), tenant) end
end

-- Takes messages of a batch out of those without an outcome; how many it has left.
local function count_out(hash, n)
  redis.call('DECRBY', key('queued'), n)
  local tenant = redis.call('HGET', hash, 'tenant')
  if tenant then count_tenant(tenant, -n) end
  return redis.call('HINCRBY', hash, 'left', -n)
end

-- Lets a batch be forgotten after some seconds. One that is in other cells, too, is forgotten by the janitor
-- when it has no message left in any of them.
local function forget_later(hash, seconds)
  if redis.call('HEXISTS', hash, 'spread') == 0 then redis.call('EXPIRE', hash, seconds) end
end

local function fields_of(list)
  local fields = {}
  for i = 1, #list, 2 do fields[list[i]] = list[i + 1] end
  return fields
end

-- "<lane>:<class>:<tenant>" -> lane, class, tenant; the lane itself may hold colons.
local function split_queue(name) return string.match(name, '^(.*):([^:]*):([^:]*)$') end

-- Whether a worker may go on. With a heartbeat of 0 it is being taken over, part of it has been.
local function registered(worker)
  local beat = redis.call('ZSCORE', key('workers'), worker)
  return beat and beat ~= '0'
end

-- The number of a worker's last claim of a provider; nil where less is known than the worker was told (of
-- its claims and its settles): a replica has taken over that was behind.
local function last_claim(held, provider, claims, settles)
  local known = redis.call('HMGET', held, '#claim:' .. provider, '#seq')
  local claimed, settled = tonumber(known[1] or '0'), tonumber(string.match(known[2] or '0', '^%d+'))
  if claimed >= tonumber(claims) and settled >= tonumber(settles) then return claimed end
end

-- Tells every worker that something it goes by has changed: limits by name, lane:<lane>, or *.
local function announce(what)
  redis.call('INCR', key('control'))
  redis.call('PUBLISH', key('control'), what)
end

local function meets(lane, limits)
  for name in string.gmatch(redis.call('HGET', key('lane', lane), 'limits') or '', '%S+') do
    if limits[name] then return true end
  end
  return false
end

-- Has every lane that meets one of these limits (name -> true) looked at now. Where many lanes of a provider
-- wait all of them are: to read which limits they meet takes longer.
local function wake_lanes(changed)
  local now, MANY = clock(), 500
  for _, provider in ipairs(redis.call('HKEYS', key('providers'))) do
    local lanes = key('lanes', provider)
    local later = redis.call('ZRANGEBYSCORE', lanes, '(' .. int(now), '+inf')
    local found = {}
    for i, lane in ipairs(later) do
      if #later > MANY or meets(lane, changed) then
        found[#found + 1] = int(now)
        found[#found + 1] = lane
      end
      if #found >= MANY or (i == #later and #found > 0) then
        redis.call('ZADD', lanes, 'XX', 'LT', unpack(found))
        found = {}
      end
    end
    if redis.call('EXISTS', lanes) == 1 then ring(provider) end
  end
end

local function is_after(id, other)
  local ms, n = string.match(id, '^(%d+)-(%d+)$')
  local other_ms, other_n = string.match(other, '^(%d+)-(%d+)$')
  if ms ~= other_ms then return tonumber(ms) > tonumber(other_ms) end
  return tonumber(n) > tonumber(other_n)
end

-- What the workers hold of a queue: {entry id -> worker}, and the latest of those entries.
local function holders_of(queue)
  local name, found, latest = string.sub(queue, #key('queue') + 2), {}, '0-0'
  for _, worker in ipairs(redis.call('ZRANGE', key('workers'), 0, -1)) do
    for _, field in ipairs(redis.call('HKEYS', key('held', worker))) do
      local of, id = string.match(field, '^(.*)|([^|]*)$')
      if of == name then
        found[id] = worker
        if is_after(id, latest) then latest = id end
      end
    end
  end
  return found, latest
end

-- Makes the group of a queue anew that somebody has destroyed: what workers hold is pending as it was,
-- what nobody holds of the entries given out before goes back as if it may have been sent.
local function restore_group(queue, now)
  local found, latest = holders_of(queue)
  redis.call('XGROUP', 'CREATE', queue, GROUP, latest)
  for _, item in ipairs(latest ~= '0-0' and redis.call('XRANGE', queue, '-', latest) or {}) do
    local id, holder = item[1], found[item[1]]
    redis.call('XCLAIM', queue, GROUP, holder or RETURNED, 0, id, 'FORCE', 'JUSTID')
    if not holder then
      local entry, lane, class = fields_of(item[2]), split_queue(string.sub(queue, #key('queue') + 2))
      entry.a, entry.r = entry.n, entry.r or '0'
      push(lane, class, RETURNED, entry, now)
      remove(queue, id)
    end
  end
end

-- Whether a worker has this entry; a group that is gone is made anew first.
local function owned(queue, id, worker)
  local pending = redis.pcall('XPENDING', queue, GROUP, id, id, 1)
  if pending.err and redis.call('EXISTS', queue) == 1 then
    restore_group(queue, clock())
    pending = redis.pcall('XPENDING', queue, GROUP, id, id, 1)
  end
  return not pending.err and pending[1] ~= nil and pending[1][2] == worker
end
