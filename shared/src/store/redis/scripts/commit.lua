-- Writes a user's record if it is still the one that was loaded.
-- KEYS: 1 the user's hash, 2 the user's profile, 3 what is pending
-- ARGV: expected revision ('' if there was no hash),
--       the field of the session that a heartbeat may have renewed since ('' if none), and its value without the letter,
--       the moment in ms from which on this comes too late ('' if there is none),
--       seconds to live,
--       what is pending ('' if nothing is; else the hash lives until that is confirmed),
--       n, n fields to delete, m, m pairs to set,
--       then either nothing, or the profile: moment to expire at in ms (0: never), n, n fields to delete, pairs to set
-- No key is taken out and made anew: in a slot that moves a script may not make one, and fails in the middle.
-- Answers 1, or 0 if somebody else wrote in between, or if it comes too late.
local known = redis.call('HMGET', KEYS[1], 'r', ARGV[2])
if (known[1] or '') ~= ARGV[1] or string.sub(known[2] or '', 2) ~= ARGV[3] then
  return 0
end
if ARGV[4] ~= '' then
  local time = redis.call('TIME')
  if time[1] * 1000 + time[2] / 1000 >= tonumber(ARGV[4]) then
    return 0
  end
end

local at = 7
local function take(count)
  local list = {}
  for i = 1, count do
    list[i] = ARGV[at]
    at = at + 1
  end
  return list
end
local function count()
  return tonumber(take(1)[1])
end

local deleted = take(count())
if #deleted > 0 then
  redis.call('HDEL', KEYS[1], unpack(deleted))
end
redis.call('HSET', KEYS[1], unpack(take(2 * count())))
if ARGV[6] == '' then
  redis.call('EXPIRE', KEYS[1], ARGV[5])
else
  redis.call('PERSIST', KEYS[1])
  redis.call('SET', KEYS[3], ARGV[6])
end

if at <= #ARGV then
  local expires_at = count()
  local absent = take(count())
  redis.call('HSET', KEYS[2], unpack(take(#ARGV - at + 1)))
  if #absent > 0 then
    redis.call('HDEL', KEYS[2], unpack(absent))
  end
  if expires_at > 0 then
    redis.call('PEXPIREAT', KEYS[2], expires_at)
  else
    redis.call('PERSIST', KEYS[2])
  end
end
return 1
