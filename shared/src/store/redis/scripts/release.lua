-- Gives a shard back, if it is still this sweeper's.
-- KEYS: 1 the lease of the shard
-- ARGV: the sweeper
if redis.call('GET', KEYS[1]) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
