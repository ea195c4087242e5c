-- Takes out what was pending, now that it is known to be published, unless the record has moved on.
-- KEYS: 1 the user's hash, 2 what is pending
-- ARGV: revision that was published, seconds to live
if redis.call('HGET', KEYS[1], 'r') == ARGV[1] then
  redis.call('HDEL', KEYS[1], 'p')
  redis.call('DEL', KEYS[2])
  redis.call('EXPIRE', KEYS[1], ARGV[2])
end
