#!lua flags=allow-oom
-- Brings one queue in order: entries that are out of everybody's reach go back, its group and its place
-- among lanes and tenants are restored, consumers of workers that are gone leave. Each entry moves in
-- one step, so a second run finds only the rest.
-- KEYS[1] queue
-- ARGV 3 its name (lane:class:tenant), 4 most entries to put back
-- returns {entries put back, messages put back, consumers that left, 1 if the queue could not be
--      found or its counters were wrong, 1 if there is more to put back}
local name, left, now = ARGV[3], tonumber(ARGV[4]), clock()
local lane, class, tenant = split_queue(name)
local queue, workers, FRONT = KEYS[1], key('workers'), 16
local entries, messages, consumers, wrong = 0, 0, 0, 0
if redis.call('TYPE', queue).ok ~= 'stream' then return { 0, 0, 0, 0, 0 } end
if not group_of(queue) then restore_group(queue, now) end

-- As many of its rows may have been sent as its holder noted, all of them where that is not known.
local function put_back(id, holder)
  local found, field = redis.call('XRANGE', queue, id, id)[1], name .. '|' .. id
  if not found then return redis.call('XACK', queue, GROUP, id) end
  local entry, granted = fields_of(found[2]), holder and redis.call('HGET', key('held', holder), field)
  entry.a = int(math.max(tonumber(entry.a or '0'), tonumber(granted or entry.n)))
  entry.r = int(tonumber(entry.r or '0') + 1)
  push(lane, class, RETURNED, entry, now)
  remove(queue, id)
  if granted then redis.call('HDEL', key('held', holder), field) end
  entries, messages, left = entries + 1, messages + tonumber(entry.n), left - 1
end

-- Entries of a worker that is gone. Its consumer leaves with the last of them: with one pending it
-- would take it along.
local function reap(consumer)
  if redis.call('ZSCORE', workers, consumer.name) then return end
  while consumer.pending > 0 and left > 0 do
    local pending = redis.call('XPENDING', queue, GROUP, '-', '+', math.min(left, 100), consumer.name)
    for _, item in ipairs(pending) do put_back(item[1], consumer.name) end
    consumer.pending = #pending > 0 and consumer.pending - #pending or 0
  end
  if redis.call('EXISTS', queue) == 0 then return end
  if #redis.call('XPENDING', queue, GROUP, '-', '+', 1, consumer.name) > 0 then return end
  redis.call('XGROUP', 'DELCONSUMER', queue, GROUP, consumer.name)
  consumers = consumers + 1
end

-- Entries that were given out, and are pending for nobody. Whatever else was given out is settled in
-- time, so in the end these stand in front.
local function pick_up()
  local group = group_of(queue)
  if group.lag and redis.call('XLEN', queue) == group.pending + group.lag then return end
  for _, item in ipairs(redis.call('XRANGE', queue, '-', group.last, 'COUNT', math.min(FRONT, left))) do
    if #redis.call('XPENDING', queue, GROUP, item[1], item[1], 1) == 0 then put_back(item[1]) end
  end
end

local function find_again()
  if select(2, waiting_in(queue, 1)) == 0 then return end
  local shown = tonumber(redis.call('HGET', key('lane', lane), 'depth:' .. class) or '0')
  if tenant == RETURNED then
    shown = math.min(shown, tonumber(redis.call('HGET', key('lane', lane), 'back:' .. class) or '0'))
  else
    local vt = redis.call('HGET', key('lane', lane), 'vt:' .. class) or '0'
    wrong = redis.call('ZADD', key('fair', lane .. ':' .. class), 'NX', vt, tenant)
  end
  if shown <= 0 or wrong == 1 then wrong = math.max(wrong, recount(lane, class)) end
  if not redis.call('ZSCORE', key('lanes', provider_of(lane)), lane) then
    wrong = 1
    list_lane(lane, class, now)
  end
end

if redis.call('EXISTS', queue) == 0 then return { 0, 0, 0, 0, 0 } end
for _, item in ipairs(redis.call('XINFO', 'CONSUMERS', queue, GROUP)) do
  if left > 0 and redis.call('EXISTS', queue) == 1 then reap(fields_of(item)) end
end
if left > 0 and redis.call('EXISTS', queue) == 1 then pick_up() end
if redis.call('EXISTS', queue) == 1 then
  if redis.call('XLEN', queue) == 0 then redis.call('DEL', queue) else find_again() end
end
return { entries, messages, consumers, wrong, left <= 0 and 1 or 0 }
