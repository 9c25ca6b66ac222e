#!lua flags=allow-oom
-- Marks a batch as cancelled in a cell that has no message of it: one may be on its way from another
-- cell. Running it again finds the mark.
-- KEYS[1] batch hash
-- ARGV 3 seconds the mark is kept where no message comes
-- returns 1 for a new mark, else 0
local new = redis.call('HSETNX', KEYS[1], 'cancel', int(clock()))
if redis.call('HEXISTS', KEYS[1], 'total') == 0 then
  forget_later(KEYS[1], ARGV[3])
elseif new == 1 then
  announce('*')
end
return new
