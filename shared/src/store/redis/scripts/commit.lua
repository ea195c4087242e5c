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
local call, ARGV, unpack = redis.call, ARGV, unpack
local user = KEYS[1]
local known = call('HMGET', user, 'r', ARGV[2])
if (known[1] or '') ~= ARGV[1] or string.sub(known[2] or '', 2) ~= ARGV[3] then
  return 0
end
if ARGV[4] ~= '' then
  local time = call('TIME')
  if time[1] * 1000 + time[2] / 1000 >= tonumber(ARGV[4]) then
    return 0
  end
end

-- Each list is handed over from where it stands: to copy it first into a table costs as much as a command or two.
local last = 7 + ARGV[7]
if last > 7 then
  call('HDEL', user, unpack(ARGV, 8, last))
end
local first = last + 2
last = last + 1 + 2 * ARGV[last + 1]
call('HSET', user, unpack(ARGV, first, last))
if ARGV[6] == '' then
  call('EXPIRE', user, ARGV[5])
else
  call('PERSIST', user)
  call('SET', KEYS[3], ARGV[6])
end

if last < #ARGV then
  local profile, expires_at = KEYS[2], ARGV[last + 1]
  first = last + 3
  last = last + 2 + ARGV[last + 2]
  call('HSET', profile, unpack(ARGV, last + 1))
  if last >= first then
    call('HDEL', profile, unpack(ARGV, first, last))
  end
  if tonumber(expires_at) > 0 then
    call('PEXPIREAT', profile, expires_at)
  else
    call('PERSIST', profile)
  end
end
return 1
