-- Reads lanes of a provider, some at a time. It changes nothing, however often it runs.
-- KEYS[1] lanes of the provider
-- ARGV 3 cursor, 0 at first, 4 lanes to read, about
-- returns {next cursor, 0 after the last, msgpack {{lane, limits, {waiting per class}, {put there per class
--      (ms, oldest entry, 0 for none)}, sent, retried, deferred, dead, until, paused, reason}...}}; a lane
--      may come twice
local CLASSES = { 'urgent', 'normal', 'bulk' }
-- Tenants whose oldest entry is looked at: those served least are the first.
local TENANTS_MOST = 16

local function oldest_of(lane, class)
  local name, oldest = lane .. ':' .. class, 0
  local tenants = redis.call('ZRANGE', key('fair', name), 0, TENANTS_MOST - 1)
  tenants[#tenants + 1] = RETURNED
  for _, tenant in ipairs(tenants) do
    local first = redis.call('XRANGE', key('queue', name .. ':' .. tenant), '-', '+', 'COUNT', 1)[1]
    local put = first and tonumber(string.match(first[1], '^%d+')) or 0
    if put > 0 and (oldest == 0 or put < oldest) then oldest = put end
  end
  return oldest
end

local function read(lane)
  local v = redis.call('HMGET', key('lane', lane), 'limits', 'depth:urgent', 'depth:normal', 'depth:bulk',
    'sent', 'retried', 'deferred', 'dead', 'paused')
  local function number(i) return math.max(0, tonumber(v[i] or '0')) end
  local oldest = {}
  for i, class in ipairs(CLASSES) do oldest[i] = number(i + 1) > 0 and oldest_of(lane, class) or 0 end
  local suspended, reason = suspended_until(lane)
  return { lane, v[1] or '', { number(2), number(3), number(4) }, oldest, number(5), number(6), number(7),
    number(8), suspended, number(9), reason }
end

local reply, found = redis.call('ZSCAN', KEYS[1], ARGV[3], 'COUNT', ARGV[4]), {}
for i = 1, #reply[2], 2 do found[#found + 1] = read(reply[2][i]) end
return { reply[1], cmsgpack.pack(found) }
