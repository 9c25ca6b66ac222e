#!lua flags=allow-oom
-- Puts back what a worker holds. Each entry moves in one step, so a second run finds only the rest.
-- KEYS[1] held of that worker
-- ARGV 3 worker, 4 mode, 5 lease (us; 0: it has ended), 6 heartbeat seen (mode dead) or
--      provider whose entries are meant (mode unseen); mode unseen: 7 number of the worker's last claim of
--      it, 8 of the last one that was answered, 9 of its last settle that was, 10.. fields to leave
-- mode dead: the worker is silent; what it was granted may have been sent
-- mode unseen: the worker itself never saw these entries (a lost reply); certainly unsent
-- mode leave: the worker itself ends with nothing in flight; unsent as far as it did not say otherwise
-- returns {'alive'} when a dead worker is not dead, {'forgotten'} where what the worker was answered is not
--      known (nothing is put back), else {'done'|'more', entries moved, messages moved}
local worker, mode = ARGV[3], ARGV[4]
local now, workers = clock(), key('workers')
if mode == 'dead' then
  local beat, lease = redis.call('ZSCORE', workers, worker), tonumber(ARGV[5])
  if lease > 0 then lease = math.max(lease, tonumber(redis.call('HGET', KEYS[1], '#lease') or '0')) end
  local silent = now - tonumber(beat or '0')
  if registered(worker) and (beat ~= ARGV[6] or math.max(0, silent) < lease) then return { 'alive' } end
end
local keep, start = {}, mode == 'unseen' and ARGV[6] .. '/' or ''
for i = 10, #ARGV do keep[ARGV[i]] = true end
if mode == 'unseen' then
  local claimed = last_claim(KEYS[1], ARGV[6], ARGV[8], ARGV[9])
  if not claimed then return { 'forgotten' } end
  -- A call that comes late knows nothing of what was claimed since.
  if claimed > tonumber(ARGV[7]) then return { 'done', 0, 0 } end
end

local function put_back(field, granted)
  local name, id = string.match(field, '^(.*)|([^|]*)$')
  local queue = key('queue', name)
  redis.call('HDEL', KEYS[1], field)
  if not owned(queue, id, worker) then return 0 end
  local found = redis.call('XRANGE', queue, id, id)
  if not found[1] then return 0 end
  local entry = fields_of(found[1][2])
  local lane, class = split_queue(name)
  if mode == 'dead' then entry.a = int(math.max(tonumber(entry.a or '0'), granted)) end
  entry.r = int(tonumber(entry.r or '0') + (mode == 'dead' and 1 or 0))
  push(lane, class, RETURNED, entry, now)
  remove(queue, id)
  return tonumber(entry.n)
end

local entries, messages, most, more = 0, 0, 500, false
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local field = all[i]
  if string.sub(field, 1, 1) ~= '#' and string.sub(field, 1, #start) == start and not keep[field] then
    if entries >= most then more = true; break end
    local n = put_back(field, tonumber(all[i + 1]))
    if n > 0 then entries = entries + 1; messages = messages + n end
  end
end
if more and mode == 'dead' then redis.call('ZADD', workers, 'XX', 0, worker) end
if not more and mode ~= 'unseen' then
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', workers, worker)
end
return { more and 'more' or 'done', entries, messages }
