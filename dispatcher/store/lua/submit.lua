-- Fixes under an Idempotency-Key which batch a call is, before anything of it is queued; later keeps
-- the answer. The first call wins: running it again returns what is there.
-- KEYS[1] submit hash
-- ARGV 3 check value of the body, 4 batch, 5 accepted (us), 6 seconds kept, 7 answer or ''
-- returns {'other'} for a key that stands for another body, else {'fixed', batch, accepted, answer or ''}
local known = redis.call('HGET', KEYS[1], 'body')
if known and known ~= ARGV[3] then return { 'other' } end
if not known then
  redis.call('HSET', KEYS[1], 'body', ARGV[3], 'batch', ARGV[4], 'at', ARGV[5])
  redis.call('EXPIRE', KEYS[1], ARGV[6])
end
if ARGV[7] ~= '' then redis.call('HSETNX', KEYS[1], 'answer', ARGV[7]) end
local fixed = redis.call('HMGET', KEYS[1], 'batch', 'at', 'answer')
return { 'fixed', fixed[1], fixed[2], fixed[3] or '' }
