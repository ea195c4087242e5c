-- Notes that a user types, unless they chose to be invisible.
-- KEYS: 1 who types in the channel, 2 whose typing the others were told of, 3 the user's profile, which holds every choice
--       that is not the default; not in a cluster, where it is in another slot and was looked at before
-- ARGV: user, now in Unix seconds with a fraction, seconds that an indicator lives, seconds within which it is not
--       told again
-- Answers 1 if the others are to be told; also to a repetition of the call that noted it, whose answer may be lost.
-- What is old goes last: in a slot that moves a script may not make a key anew that it has emptied.
local user, now = ARGV[1], tonumber(ARGV[2])
if KEYS[3] then
  local intent = redis.call('HGET', KEYS[3], 'intent')
  if intent and string.sub(intent, 1, 8) == 'offline,' then
    return 0
  end
end
local told = tonumber(redis.call('ZSCORE', KEYS[2], user) or nil)
redis.call('ZADD', KEYS[1], ARGV[2], user)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', string.format('%.3f', now - ARGV[3]))
redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[3] * 1000))
if told and told ~= now and now < told + ARGV[4] then
  return 0
end
redis.call('ZADD', KEYS[2], ARGV[2], user)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', string.format('%.3f', now - ARGV[4]))
redis.call('PEXPIRE', KEYS[2], math.ceil(ARGV[4] * 1000))
return 1
