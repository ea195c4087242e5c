-- Writes a user's record if it is still the one that was loaded.
-- KEYS: 1 the user's hash, 2 the user's profile, 3 what is pending
-- ARGV: expected revision ('' if there was no hash), seconds to live,
--       what is pending ('' if nothing is; else the hash lives until that is confirmed),
--       n, n fields to delete, m, m pairs to set,
--       then either nothing, or the profile: moment to expire at in ms (0: never), pairs to set
-- Answers 1, or 0 if somebody else wrote in between.
if (redis.call('HGET', KEYS[1], 'r') or '') ~= ARGV[1] then
  return 0
end

local at = 4
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
if ARGV[3] == '' then
  redis.call('EXPIRE', KEYS[1], ARGV[2])
else
  redis.call('PERSIST', KEYS[1])
  redis.call('SET', KEYS[3], ARGV[3])
end

if at <= #ARGV then
  local expires_at = count()
  redis.call('DEL', KEYS[2])
  redis.call('HSET', KEYS[2], unpack(take(#ARGV - at + 1)))
  if expires_at > 0 then
    redis.call('PEXPIREAT', KEYS[2], expires_at)
  end
end
return 1
