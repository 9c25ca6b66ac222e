#!lua flags=allow-oom
-- Remembers in which cells providers have their lanes. Running it again finds them remembered.
-- KEYS[1] places
-- ARGV 3.. <cell>/<provider>
-- returns how many were new
local new = 0
for i = 3, #ARGV do new = new + redis.call('SADD', KEYS[1], ARGV[i]) end
return new
