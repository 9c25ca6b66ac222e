#!lua flags=allow-oom
-- Writes outcomes and removes what is done, all or nothing per entry; each entry has its own
-- verdict. Running it again changes nothing: the worker's settle number in `held` guards the whole call,
-- also against calls of before that come late.
-- KEYS[1] held of the worker
-- ARGV 3 worker, 4 settle number, 5 status retention (s),
--      6 msgpack {entries = {{queue, id, done (0|1), outcomes = {{index, hop, letter, dead (0|1)}...},
--      moves = {{us it waits, lane, class, n, c, expires, a or -1, r, name of a move to another cell
--      or ''}...}, counters = {name = n}, batch,
--      sheets = {{first, last, n}...}}...},
--      throttled = {{limit or lane:LANE, us}...}, breakers = {{provider, ok, failed, down}...}},
--      7.. per entry: a value per sheet, a value per outcome, a letter per dead one, a body per move
-- returns {'lost'} | {'forgotten'} where the settle before this one is not known (nothing is written) |
--      {'settled', verdicts}; a verdict is 1, or 0 for an entry this worker no longer owns (nothing of it
--      was written)
local worker = ARGV[3]
if not registered(worker) then return { 'lost' } end
local plan, verdicts = cmsgpack.unpack(ARGV[6]), {}
local last = redis.call('HGET', KEYS[1], '#seq') or ''
if tonumber(string.match(last, '^%d+') or '-1') >= tonumber(ARGV[4]) then
  for i = 1, #plan.entries do verdicts[i] = 1 end
  for refused in string.gmatch(last, ' (%d+)') do verdicts[tonumber(refused)] = 0 end
  return { 'settled', verdicts }
end
-- A replica that took over may lack what this worker was told is written, retries and all: an entry whose
-- last outcome comes now would be removed without the others.
if tonumber(string.match(last, '^%d+') or '0') + 1 ~= tonumber(ARGV[4]) then return { 'forgotten' } end
local ttl, now, blob = ARGV[5], clock(), 6
local WORDS = { u = 'unknown', s = 'sent', f = 'undelivered', v = 'delivered', r = 'read', d = 'dead',
  e = 'expired', c = 'cancelled', x = 'suppressed' }
local RANK = { q = 0, z = 0, u = 1, s = 2, d = 2, e = 2, c = 2, x = 2, f = 3, v = 4, r = 5 }
local BLOCK = 1024

local function next_blob()
  blob = blob + 1
  return ARGV[blob]
end

local counts = {} -- hash key -> field -> change
local function count(hash, field, change)
  local fields = counts[hash]
  if not fields then fields = {}; counts[hash] = fields end
  fields[field] = (fields[field] or 0) + change
end

local function count_lane(lane, field, change)
  count(key('lane', lane), field, change)
  count(key('totals'), field, change)
end

-- The values stored for these outcomes, read with one call per status hash.
local function stored(batch, outcomes)
  local blocks, found = {}, {}
  for _, o in ipairs(outcomes) do
    local block = math.floor(o[1] / BLOCK)
    blocks[block] = blocks[block] or {}
    table.insert(blocks[block], o[1])
  end
  for block, indexes in pairs(blocks) do
    local values = redis.call('HMGET', key('status', batch .. ':' .. block), unpack(indexes))
    for i, index in ipairs(indexes) do found[index] = values[i] end
  end
  return found
end

local function supersedes(value, hop, letter)
  if not value then return true end
  local old = string.byte(value, 2) * 256 + string.byte(value, 3)
  if old ~= hop then return hop > old end
  return RANK[letter] > RANK[string.sub(value, 1, 1)] or RANK[string.sub(value, 1, 1)] == 0
end

local function write_outcomes(batch, outcomes, values)
  local hash, found, writes = key('batch', batch), stored(batch, outcomes), {}
  for i, o in ipairs(outcomes) do
    local index, letter, old = o[1], o[3], found[o[1]]
    if supersedes(old, o[2], letter) then
      local block = math.floor(index / BLOCK)
      writes[block] = writes[block] or {}
      table.insert(writes[block], index)
      table.insert(writes[block], values[i])
      local before = old and WORDS[string.sub(old, 1, 1)]
      if before then count(hash, before, -1); count(hash, 'left', 1) end
      if WORDS[letter] then count(hash, WORDS[letter], 1); count(hash, 'left', -1) end
    end
  end
  for block, pairs_ in pairs(writes) do
    local status = key('status', batch .. ':' .. block)
    redis.call('HSET', status, unpack(pairs_))
    redis.call('EXPIRE', status, ttl)
  end
end

-- Sheets come only from the one worker that had the entry fresh from its queue, each message once:
-- none of them can have an outcome yet.
local function write_sheets(batch, lane, sheets, values)
  for i, sheet in ipairs(sheets) do
    local status = key('status', batch .. ':' .. math.floor(sheet[1] / BLOCK))
    redis.call('HSET', status, sheet[1] .. '-' .. sheet[2], values[i])
    redis.call('EXPIRE', status, ttl)
    count(key('batch', batch), 'sent', sheet[3])
    count(key('batch', batch), 'left', -sheet[3])
    count_lane(lane, 'sent', sheet[3])
  end
end

local function settle(item)
  local name, id, done, outcomes, moves, sheets = item[1], item[2], item[3], item[4], item[5], item[8]
  local batch, queue, lane = item[7], key('queue', name), split_queue(name)
  local written, values, letters, bodies = {}, {}, {}, {}
  for i = 1, #sheets do written[i] = next_blob() end
  for i, o in ipairs(outcomes) do
    values[i] = next_blob()
    if o[4] == 1 then letters[i] = next_blob() end
  end
  for i = 1, #moves do bodies[i] = next_blob() end
  if not owned(queue, id, worker) then
    redis.call('HDEL', KEYS[1], name .. '|' .. id)
    return 0
  end
  write_sheets(batch, lane, sheets, written)
  write_outcomes(batch, outcomes, values)
  for i, letter in pairs(letters) do
    local message = batch .. '-' .. int(outcomes[i][1])
    redis.call('ZADD', key('dead'), int(now), message)
    redis.call('HSET', key('letters'), message, letter)
  end
  for i, m in ipairs(moves) do
    local entry = { n = m[4], c = m[5], batch = batch, expires = int(m[6]), body = bodies[i] }
    if m[7] >= 0 then entry.a = m[7] end
    if m[8] > 0 then entry.r = m[8] end
    if m[9] ~= '' then
      leave(m[9], m[1], m[2], m[3], entry, true)
    elseif m[1] > 0 then
      schedule(now + m[1], m[2], m[3], entry, true)
    else
      push(m[2], m[3], RETURNED, entry, now)
    end
  end
  for field, n in pairs(item[6]) do
    local failed = string.match(field, '^error:')
    count(failed and key('errors', lane) or key('batch', batch), field, n)
    if field == 'retried' or field == 'deferred' then count_lane(lane, field, n) end
  end
  for _, o in ipairs(outcomes) do
    if o[3] == 's' or o[3] == 'd' then count_lane(lane, WORDS[o[3]], 1) end
  end
  if done == 1 then
    remove(queue, id)
    redis.call('HDEL', KEYS[1], name .. '|' .. id)
  end
  return 1
end

-- Pauses that began or became longer here: other workers may hold slots within them.
local paused = {}
local function pause(what, hash, field, before, wait, ...)
  local ends = now + wait
  if ends <= before then return end
  redis.call('HSET', hash, field, int(ends), ...)
  if ends > before + 100000 then paused[#paused + 1] = what end
end

local function pause_lane(what, lane, wait)
  local hash = key('lane', lane)
  pause(what, hash, 'paused', tonumber(redis.call('HGET', hash, 'paused') or '0'), wait)
end

-- One event counts once: answers that come while the limit is paused, or within a second of the
-- last cut, belong to the same one.
local function pause_limit(name, wait)
  local hash = key('limit', name)
  local v = redis.call('HMGET', hash, 'pause', 'factor', 'factored', 'interval')
  if not v[4] then return end
  local before, factored = tonumber(v[1] or '0'), tonumber(v[3] or '0')
  if before >= now or now - factored <= 1000000 then return pause(name, hash, 'pause', before, wait) end
  local factor = math.min(1, tonumber(v[2] or '1') + 0.05 * (now - factored) / 1000000)
  pause(name, hash, 'pause', before, wait, 'factor', math.max(0.05, factor * 0.7), 'factored', int(now))
end

local function throttle(what, wait)
  local lane = string.match(what, '^lane:(.*)$')
  if lane then pause_lane(what, lane, wait) else pause_limit(what, wait) end
end

-- Opens when failures outweigh four times the answers by 20 (20 in a row, or lasting trouble), or at
-- once when the provider is down. After that a probe decides.
local function breaker(provider, ok, failed, down)
  local hash = key('breaker', provider)
  local v = redis.call('HMGET', hash, 'state', 'fails', 'cooldown')
  local state, fails, cooldown = v[1] or 'closed', tonumber(v[2] or '0'), tonumber(v[3] or '0')
  if state == 'open' then return end
  if failed == 0 and state == 'half' then
    redis.call('DEL', hash)
    return ring(provider)
  end
  fails = math.max(0, fails + failed - 4 * ok)
  if down == 1 or state == 'half' or fails >= 20 then
    cooldown = math.min(300000000, math.max(5000000, cooldown * 2))
    redis.call('HSET', hash, 'state', 'open', 'fails', 0, 'until', int(now + cooldown), 'cooldown', int(cooldown))
  elseif v[2] or fails > 0 then
    redis.call('HSET', hash, 'fails', fails)
  end
end

local number = ARGV[4]
for i, item in ipairs(plan.entries) do
  verdicts[i] = settle(item)
  if verdicts[i] == 0 then number = number .. ' ' .. i end
end
for _, t in ipairs(plan.throttled) do throttle(t[1], t[2]) end
if #paused > 0 then announce('by:' .. worker .. ' ' .. table.concat(paused, ' ')) end
for _, b in ipairs(plan.breakers) do breaker(b[1], b[2], b[3], b[4]) end
local waiting = {} -- tenant -> change of its messages without an outcome
for hash, fields in pairs(counts) do
  local left = fields.left
  if left then
    redis.call('INCRBY', key('queued'), left)
    local tenant = redis.call('HGET', hash, 'tenant')
    if tenant then waiting[tenant] = (waiting[tenant] or 0) + left end
  end
  for field, change in pairs(fields) do
    local value = redis.call('HINCRBY', hash, field, change)
    if field == 'left' and value <= 0 then forget_later(hash, ttl) end
    if string.match(field, '^error:') then redis.call('EXPIRE', hash, ttl) end
  end
end
for tenant, change in pairs(waiting) do
  if change ~= 0 then count_tenant(tenant, change) end
end
redis.call('HSET', KEYS[1], '#seq', number)
return { 'settled', verdicts }
