#!lua flags=allow-oom
-- Writes limits and the limits of known lanes from a configuration. A limit that was known and has
-- lost its state restarts as if it were fully booked; a new one starts free. Running it again
-- writes the same values.
-- KEYS[1] control
-- ARGV 3 msgpack {lost = 1 where new ones count as such that lost their state,
--      limits = {{name, interval, burst, segments (0|1), ramp, {{period, count, ends, next}...}}...},
--      lanes = {{lane, limits}...}}
-- returns the control number
local plan = cmsgpack.unpack(ARGV[3])
local now = clock()
local changed = {}

local function set(hash, field, value)
  if redis.call('HGET', hash, field) == value then return false end
  if value then redis.call('HSET', hash, field, value) else redis.call('HDEL', hash, field) end
  return true
end

-- The counts stay while their period lasts; a writer whose clock is ahead does not begin the next one.
local function write_quotas(hash, quotas)
  local wanted, different = {}, false
  for _, quota in ipairs(quotas) do
    local period, ends = quota[1], tonumber(redis.call('HGET', hash, 'ends:' .. quota[1]) or '0')
    wanted[period] = true
    different = set(hash, 'quota:' .. period, tostring(quota[2])) or different
    if ends <= now then redis.call('HSET', hash, 'used:' .. period, 0) end
    if ends <= now or quota[3] <= ends then
      redis.call('HSET', hash, 'ends:' .. period, int(quota[3]), 'next:' .. period, int(quota[4]))
    end
    redis.call('HSET', hash, 'since:' .. period, int(now))
  end
  for _, period in ipairs({ 'day', 'month' }) do
    if not wanted[period] then different = set(hash, 'quota:' .. period, false) or different end
  end
  return set(hash, 'quotas', #quotas > 0 and '1' or false) or different
end

local function write_limit(name, limit)
  local hash = key('limit', name)
  local different = set(hash, 'interval', string.format('%.6f', limit[2]))
  different = set(hash, 'burst', tostring(limit[3])) or different
  different = set(hash, 'segments', limit[4] == 1 and '1' or false) or different
  different = set(hash, 'ramp', limit[5] ~= '' and limit[5] or false) or different
  different = write_quotas(hash, limit[6]) or different
  redis.call('HSETNX', hash, 'born', int(now))
  local new = redis.call('SADD', key('limits'), name) == 1 and plan.lost ~= 1
  if redis.call('HEXISTS', hash, 'tat') == 0 then
    redis.call('HSET', hash, 'tat', int(new and 0 or now + H + G + limit[2]))
    redis.call('HDEL', hash, 'step', 'units')
  end
  return different and not new
end

local names = {}
for _, limit in ipairs(plan.limits) do
  if write_limit(limit[1], limit) then
    changed[#changed + 1] = limit[1]
    names[limit[1]] = true
  end
end
if #changed > 0 then wake_lanes(names) end
for _, lane in ipairs(plan.lanes) do
  local known = redis.call('HEXISTS', key('lane', lane[1]), 'limits') == 1 -- else no slots were given of it
  if set(key('lane', lane[1]), 'limits', lane[2]) and known then changed[#changed + 1] = 'lane:' .. lane[1] end
  redis.call('ZADD', key('lanes', provider_of(lane[1])), 'XX', 'LT', int(now), lane[1])
end
if #changed > 0 then announce(table.concat(changed, ' ')) end
return tonumber(redis.call('GET', KEYS[1]) or '0')
