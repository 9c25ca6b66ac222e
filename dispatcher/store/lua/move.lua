#!lua flags=allow-oom
-- Moves waiting and scheduled entries of one lane to others. Each entry moves in one step, so a second
-- run finds it gone from its place. What a worker holds stays with it.
-- KEYS[1] hash of the lane
-- ARGV 3 lane, 4 action (see actions.lua), 5 msgpack {lanes = {{lane, limits, tenant, weight}...},
--      entries = {{queue ('' = scheduled), id, {{lane, class, n, c, a or -1, r or -1, true if the lane
--      is in another cell}...}}...}},
--      6.. a body per new entry
-- returns {messages moved, messages of entries that were not there to be moved}
local plan, now, blob, moved, missed = cmsgpack.unpack(ARGV[5]), clock(), 5, 0, 0
for _, lane in ipairs(plan.lanes) do
  redis.call('HSET', key('lane', lane[1]), 'limits', lane[2], 'w:' .. lane[3], lane[4])
end

local function take_scheduled(id)
  local packed, due = redis.call('HGET', key('items'), id), redis.call('ZSCORE', key('scheduled'), id)
  local item = packed and cmsgpack.unpack(packed)
  if not item or not due or item[1] ~= ARGV[3] then return nil end
  redis.call('ZREM', key('scheduled'), id)
  redis.call('HDEL', key('items'), id)
  redis.call('HINCRBY', key('batch', item[5]), 'scheduled', -item[3])
  return { batch = item[5], expires = item[6] }, tonumber(due)
end

-- What a batch says of the lanes of its messages (see enqueue.lua).
local function rename(batch, lane)
  local lanes = redis.call('HGET', key('batch', batch), 'lanes')
  local listed = lanes and ' ' .. lanes .. ' '
  local at, ends = string.find(listed or '', ' ' .. ARGV[3] .. ' ', 1, true)
  if not at then return end
  local instead = string.find(listed, ' ' .. lane .. ' ', 1, true) and ' ' or ' ' .. lane .. ' '
  listed = string.sub(listed, 1, at - 1) .. instead .. string.sub(listed, ends + 1)
  redis.call('HSET', key('batch', batch), 'lanes', string.sub(listed, 2, -2))
end

local function put(part, from, place, body, name, waits)
  rename(from.batch, part[1])
  local entry = { n = part[3], c = part[4], batch = from.batch, expires = from.expires, body = body }
  if part[5] >= 0 then entry.a = part[5] end
  if part[6] >= 0 then entry.r = part[6] end
  if part[7] then
    local due = type(place) == 'number' and place - (waits and now or 0) or 0
    leave(own_name(name), due, part[1], part[2], entry, waits)
  elseif type(place) == 'number' then
    schedule(place, part[1], part[2], entry, waits)
    ring(provider_of(part[1]))
  else
    push(part[1], part[2], place, entry, now)
  end
end

for _, item in ipairs(plan.entries) do
  local from, place
  if item[1] == '' then from, place = take_scheduled(item[2]) else from, place = take(item[1], item[2]) end
  for number, part in ipairs(item[3]) do
    blob = blob + 1
    if from then
      local waits = item[1] == '' and string.sub(item[2], 1, 1) == WAITS
      put(part, from, place, ARGV[blob], ARGV[3] .. '|' .. item[1] .. '|' .. item[2] .. '.' .. number, waits)
      moved = moved + part[3]
    else
      missed = missed + part[3]
    end
  end
end
unlist(ARGV[3])
if moved > 0 then note(ARGV[4], moved) end
return { moved, missed }
