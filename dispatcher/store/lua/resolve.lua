#!lua flags=allow-oom
-- Writes what has become of messages: only forward in the order of statuses, and for an operator only
-- where it was unknown. Running it again finds other values than those that were read, and leaves them.
-- KEYS[1] dead
-- ARGV 3 status retention (s), 4 action (see actions.lua; '' = receipts tell),
--      5 msgpack {{message, batch, index, lane, status letter before, after, counter of the code it had
--      or '', of the one it gets or ''}...},
--      6.. per message: the value that was read or '', the new one, the letter that was read or '' where
--      it does not matter, the new one or '' for none
-- returns per message 1 (resolved), 0 (it has gone as far or further, or waits again) or -1 (there is
--      another value or letter by now)
local WORDS = { u = 'unknown', s = 'sent', f = 'undelivered', v = 'delivered', r = 'read', d = 'dead',
  e = 'expired', c = 'cancelled', x = 'suppressed' }
local RANK = { q = 0, z = 0, u = 1, s = 2, d = 2, e = 2, c = 2, x = 2, f = 3, v = 4, r = 5 }
local BLOCK, DONE, KEPT, CHANGED = 1024, 1, 0, -1

local function count(batch, before, after, code_before, code_after)
  redis.call('HINCRBY', batch, WORDS[before], -1)
  redis.call('HINCRBY', batch, WORDS[after], 1)
  if code_before ~= '' then redis.call('HINCRBY', batch, code_before, -1) end
  if code_after ~= '' then redis.call('HINCRBY', batch, code_after, 1) end
  -- No status outlives its batch: a replay would take the message for one that the batch counts.
  if redis.call('TTL', batch) >= 0 then redis.call('EXPIRE', batch, ARGV[3]) end
end

local function write_letter(message, letter)
  if letter ~= '' then return redis.call('HSET', key('letters'), message, letter) end
  redis.call('ZREM', KEYS[1], message)
  redis.call('HDEL', key('letters'), message)
end

local function resolve(item, old, new, read, letter)
  local message, index, before, after = item[1], item[3], item[5], item[6]
  local batch, status = key('batch', item[2]), key('status', item[2] .. ':' .. math.floor(index / BLOCK))
  if (redis.call('HGET', status, index) or '') ~= old then return CHANGED end
  if read ~= '' and redis.call('HGET', key('letters'), message) ~= read then return CHANGED end
  if RANK[before] == 0 or RANK[after] <= RANK[before] then return KEPT end
  if ARGV[4] ~= '' and before ~= 'u' then return KEPT end
  if old ~= '' then
    redis.call('HSET', status, index, new)
    redis.call('EXPIRE', status, ARGV[3])
  end
  -- A batch that was forgotten, and is known again by what was replayed of it, counts only that.
  local counted = old ~= '' or redis.call('HEXISTS', batch, 'reopened') == 0
  if counted and redis.call('HEXISTS', batch, 'total') == 1 then count(batch, before, after, item[7], item[8]) end
  if before == 'u' then
    for _, hash in ipairs({ key('lane', item[4]), key('totals') }) do
      redis.call('HINCRBY', hash, after == 'd' and 'dead' or 'sent', 1)
    end
  end
  write_letter(message, letter)
  return DONE
end

local answers, done = {}, 0
for i, item in ipairs(cmsgpack.unpack(ARGV[5])) do
  local blob = 4 * i + 2
  answers[i] = resolve(item, ARGV[blob], ARGV[blob + 1], ARGV[blob + 2], ARGV[blob + 3])
  if answers[i] == DONE then done = done + 1 end
end
if done > 0 and ARGV[4] ~= '' then note(ARGV[4], done) end
return answers
