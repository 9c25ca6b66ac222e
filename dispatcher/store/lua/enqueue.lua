-- Accepts one part of a batch. Running it again changes nothing: the part is guarded by its number
-- in the batch hash, and the second answer is `repeated` with the check value it has.
-- KEYS[1] batch hash
-- ARGV 3 batch, 4 part number, 5 check value of the part, 6 tenant, 7 channel, 8 options,
--      9 most messages queued (0 = any), 10 msgpack {own = most of the tenant (0 = any),
--      keep = seconds a batch without messages is kept (0 = for ever),
--      after = for messages of a part that other cells have, too: the check value that it has here so far,
--      '' for none; its value says which messages they are,
--      lanes = {{lane, limits, weight}...}, entries = {{lane, class, n, c, expires, due}...}},
--      11.. one body per entry
-- returns {'accepted', messages} | {'repeated', check} | {'full', queued} |
--         {'tenant_full', queued by the tenant}
local batch, part, LANES_MOST = ARGV[3], 'p:' .. ARGV[4], 8
local seen, lanes, due = unpack(redis.call('HMGET', KEYS[1], part, 'lanes', 'due'))
local plan = cmsgpack.unpack(ARGV[10])
if seen and seen ~= plan.after then return { 'repeated', seen } end

local total = 0
for _, item in ipairs(plan.entries) do total = total + item[3] end
local most, queued = tonumber(ARGV[9]), tonumber(redis.call('GET', key('queued')) or '0')
if most > 0 and queued + total > most then return { 'full', queued } end
local own, mine = plan.own or 0, tonumber(redis.call('HGET', key('queued_by'), ARGV[6]) or '0')
if own > 0 and mine + total > own then return { 'tenant_full', mine } end

-- The lanes of a batch, up to some, and when it is due: what its messages wait for before anything is
-- recorded of them.
local function add_lane(lane)
  if lanes and string.find(' ' .. lanes .. ' ', ' ' .. lane .. ' ', 1, true) then return end
  local _, many = string.gsub(lanes or '', '%S+', '')
  if many <= LANES_MOST then lanes = (lanes and lanes .. ' ' or '') .. (many < LANES_MOST and lane or '*') end
end

local now = clock()
for _, lane in ipairs(plan.lanes) do add_lane(lane[1]) end
for _, item in ipairs(plan.entries) do due = math.max(tonumber(due or '0'), item[6]) end
redis.call('HSETNX', KEYS[1], 'created', int(now))
redis.call('HSET', KEYS[1], part, ARGV[5], 'tenant', ARGV[6], 'channel', ARGV[7], 'options', ARGV[8],
  'lanes', lanes or '', 'due', int(due or 0))
if plan.after then redis.call('HSET', KEYS[1], 'spread', 1) end
redis.call('HDEL', KEYS[1], 'i:' .. ARGV[4])
redis.call('HINCRBY', KEYS[1], 'total', total)
local left = redis.call('HINCRBY', KEYS[1], 'left', total)
redis.call('PERSIST', KEYS[1])
if left <= 0 and (plan.keep or 0) > 0 then forget_later(KEYS[1], plan.keep) end
redis.call('INCRBY', key('queued'), total)
if total > 0 then redis.call('HINCRBY', key('queued_by'), ARGV[6], total) end
for _, lane in ipairs(plan.lanes) do
  redis.call('HSET', key('lane', lane[1]), 'limits', lane[2], 'w:' .. ARGV[6], lane[3])
end
for i, item in ipairs(plan.entries) do
  local lane, class, due = item[1], item[2], item[6]
  local entry = { n = item[3], c = item[4], batch = batch, expires = int(item[5]), body = ARGV[10 + i] }
  if due > now then
    schedule(due, lane, class, entry)
    ring(provider_of(lane))
  else
    push(lane, class, ARGV[6], entry, now)
  end
end
return { 'accepted', total }
