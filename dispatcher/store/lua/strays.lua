#!lua flags=allow-oom
-- Lets what waits here for providers of other cells leave; what is due goes to its lane first, also where no
-- worker claims any more. What a worker has stays with it. Running it again finds what is left.
-- KEYS[1] providers
-- ARGV 3 entries to look at, 4.. providers that are in other cells
-- returns messages that leave
local now, left, messages = clock(), tonumber(ARGV[3]), 0

local function send_on(lane, class, tenant)
  local queue = lane .. ':' .. class .. ':' .. tenant
  local group = group_of(key('queue', queue))
  local first = group and '(' .. group.last or '-'
  for _, item in ipairs(redis.call('XRANGE', key('queue', queue), first, '+', 'COUNT', left)) do
    local from = take(queue, item[1])
    left = left - 1
    if from then
      local entry = { n = tonumber(from.n), c = tonumber(from.c), batch = from.batch, expires = from.expires,
        body = from.body, a = tonumber(from.a), r = tonumber(from.r) }
      leave(own_name(queue .. '|' .. item[1]), 0, lane, class, entry)
      messages = messages + entry.n
    end
  end
end

local function empty(lane)
  for _, class in ipairs({ 'urgent', 'normal', 'bulk' }) do
    local tenants = redis.call('ZRANGE', key('fair', lane .. ':' .. class), 0, -1)
    table.insert(tenants, 1, RETURNED)
    for _, tenant in ipairs(tenants) do
      if left > 0 then send_on(lane, class, tenant) end
    end
  end
  unlist(lane)
end

forward(now)
for i = 4, #ARGV do
  for _, lane in ipairs(redis.call('ZRANGE', key('lanes', ARGV[i]), 0, -1)) do
    if left > 0 then empty(lane) end
  end
end
return messages
