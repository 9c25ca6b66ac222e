#!lua
-- Does nothing, so a second run does no harm. As it may write, a server that would refuse a write
-- (loading, read-only, disk or memory full, too few replicas) refuses to run it.
-- KEYS[1] control
-- returns 1
return 1
