-- Writes limits and the limits of known lanes from a configuration. A limit that was known and has
-- lost its state restarts as if it were fully booked; a new one starts free. Running it again
-- writes the same values.
-- KEYS[1] control
-- ARGV 3 msgpack {limits = {{name, interval, burst}...}, lanes = {{lane, limits}...}}
-- returns the control number
local plan = cmsgpack.unpack(ARGV[3])
local now = clock()
local changed = false
for _, limit in ipairs(plan.limits) do
  local name, interval, burst = limit[1], string.format('%.6f', limit[2]), tostring(limit[3])
  local hash = key('limit', name)
  local old = redis.call('HMGET', hash, 'interval', 'burst', 'tat')
  if old[1] ~= interval or old[2] ~= burst then
    redis.call('HSET', hash, 'interval', interval, 'burst', burst)
    changed = true
  end
  local new = redis.call('SADD', key('limits'), name) == 1
  if not old[3] then
    redis.call('HSET', hash, 'tat', int(new and 0 or now + H + G + limit[2]))
  end
end
for _, lane in ipairs(plan.lanes) do
  local hash = key('lane', lane[1])
  if redis.call('HGET', hash, 'limits') ~= lane[2] then
    redis.call('HSET', hash, 'limits', lane[2])
    changed = true
  end
  redis.call('ZADD', key('lanes', provider_of(lane[1])), 'XX', 'LT', int(now), lane[1])
end
if changed then redis.call('INCR', KEYS[1]) end
return tonumber(redis.call('GET', KEYS[1]) or '0')
