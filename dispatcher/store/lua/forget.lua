#!lua flags=allow-oom
-- Lets batches that were in several cells be forgotten here. Running it again finds them so.
-- KEYS[1] janitor
-- ARGV 3 status retention (s), 4.. batches
-- returns how many
local many = 0
for i = 4, #ARGV do
  local hash = key('batch', ARGV[i])
  if tonumber(redis.call('HGET', hash, 'left') or '0') <= 0 and redis.call('HDEL', hash, 'spread') == 1 then
    redis.call('EXPIRE', hash, ARGV[3])
    many = many + 1
  end
end
return many
