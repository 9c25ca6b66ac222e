#!lua flags=allow-oom
-- Suspends lanes, or has them go on. Running it again says the same again; an end moves by the time
-- between the two runs.
-- KEYS[1] suspended
-- ARGV 3 pattern, 4 us it lasts (0 = until resumed, '' = resume now), 5 reason, 6 action (see actions.lua)
-- returns {until (us, 0 for a resume), listed lanes it covers, 1 if it changed something}
local pattern, now = ARGV[3], clock()
read_rules()

local listed, providers, any = {}, {}, suspended_until(pattern) > now
for _, provider in ipairs(redis.call('HKEYS', key('providers'))) do
  for _, lane in ipairs(redis.call('ZRANGE', key('lanes', provider), 0, -1)) do
    if covers(pattern, lane) then
      listed[#listed + 1], providers[provider] = lane, true
      any = any or suspended_until(lane) > now
    end
  end
end

-- What has ended, and resumes of nothing that is left.
local function tidy()
  local oldest = math.huge
  for known, rule in pairs(rules) do
    if rule[2] <= now then
      redis.call('HDEL', KEYS[1], known)
    else
      oldest = math.min(oldest, rule[1])
    end
  end
  for known, number in pairs(resumes) do
    if number < oldest then redis.call('HDEL', key('resumed'), known) end
  end
  return oldest < math.huge
end

-- Patterns within this one end with it; others that cover its lanes hold but for these.
local function resume()
  for known, rule in pairs(rules) do
    if covers(pattern, known) then
      any = any or rule[2] > now
      redis.call('HDEL', KEYS[1], known)
      rules[known] = nil
    end
  end
  if not any then return end
  local number = tonumber(redis.call('GET', key('control')) or '0') + 1
  resumes[pattern] = number
  if tidy() then redis.call('HSET', key('resumed'), pattern, number) end
end

local ends = 0
if ARGV[4] == '' then
  resume()
  if not any then return { '0', listed, noted(ARGV[6]) } end
else
  local number, lasts = tonumber(redis.call('GET', key('control')) or '0') + 1, tonumber(ARGV[4])
  ends = lasts > 0 and now + lasts or FOREVER
  rules[pattern] = { number, ends }
  tidy()
  redis.call('HSET', KEYS[1], pattern, int(number) .. ' ' .. int(ends) .. ' ' .. ARGV[5])
end
for _, lane in ipairs(listed) do redis.call('ZADD', key('lanes', provider_of(lane)), 'XX', 'LT', int(now), lane) end
for provider in pairs(providers) do ring(provider) end
announce('lane:' .. pattern)
if noted(ARGV[6]) == 0 then note(ARGV[6], #listed) end
return { int(ends), listed, 1 }
