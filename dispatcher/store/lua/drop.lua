#!lua flags=allow-oom
-- Forgets dead letters; what became of their messages stays on record. Running it again finds them
-- gone.
-- KEYS[1] dead
-- ARGV 3 action (see actions.lua), 4.. messages
-- returns the number forgotten
local gone = 0
for i = 4, #ARGV do
  gone = gone + redis.call('ZREM', KEYS[1], ARGV[i])
  redis.call('HDEL', key('letters'), ARGV[i])
end
if gone > 0 then note(ARGV[3], gone) end
return gone
