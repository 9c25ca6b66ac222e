#!lua flags=allow-oom
-- Forgets dead letters that are older than their retention, some at a time. Running it again forgets
-- the next ones.
-- KEYS[1] dead
-- ARGV 3 retention (us), 4 most letters
-- returns the number forgotten
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', int(clock() - tonumber(ARGV[3])), 'LIMIT', 0, ARGV[4])
for _, message in ipairs(old) do
  redis.call('ZREM', KEYS[1], message)
  redis.call('HDEL', key('letters'), message)
end
return #old
