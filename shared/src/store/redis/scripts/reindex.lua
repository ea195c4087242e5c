-- Moves users within one shard of the deadline index.
-- KEYS: 1 the shard
-- ARGV: for each user: member, expected deadline in ms or '', new deadline in ms or '' to take the user out
-- Where the index holds something else than expected, somebody else is at work: then an earlier moment wins.
for i = 1, #ARGV, 3 do
  local member, expected, new = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local current = tonumber(redis.call('ZSCORE', KEYS[1], member) or nil)
  if new then
    if not current or current == expected or new < current then
      redis.call('ZADD', KEYS[1], new, member)
    end
  elseif current and current == expected then
    redis.call('ZREM', KEYS[1], member)
  end
end
