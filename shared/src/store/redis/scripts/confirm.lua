-- Takes out what was pending, now that it is known to be published, unless the record has moved on. If heartbeats can
-- renew a session without a decision from now on, its letter becomes a capital.
-- KEYS: 1 the user's hash, 2 what is pending
-- ARGV: revision that was published, seconds to live
local known = redis.call('HMGET', KEYS[1], 'r', 'p')
if known[1] ~= ARGV[1] or not known[2] then
  return
end
local session = redis.call('HGET', KEYS[1], known[2])
if session then
  redis.call('HSET', KEYS[1], known[2], string.upper(string.sub(session, 1, 1)) .. string.sub(session, 2))
end
redis.call('HDEL', KEYS[1], 'p')
redis.call('DEL', KEYS[2])
redis.call('EXPIRE', KEYS[1], ARGV[2])
