-- Writes users' records, each if it is still the one that was loaded.
-- KEYS: for each user: the hash, the profile, what is pending
-- ARGV: seconds to live; for each user:
--       expected revision ('' if there was no hash),
--       the field of the session that a heartbeat may have renewed since ('' if none), and its value without the letter,
--       the moment in ms from which on this comes too late ('' if there is none),
--       what is pending ('' if nothing is; else the hash lives until that is confirmed),
--       n, n fields to delete, m, m pairs to set,
--       then of the profile: the moment in ms to expire at (0: never), n, n fields to delete, m, m pairs to set;
--       or only '', which leaves it as it is
-- No key is taken out and made anew: in a slot that moves a script may not make one, and fails in the middle.
-- Answers the places of those whom somebody else wrote in between, or for whom it comes too late.
-- Each list is handed over from where it stands: to copy it first into a table costs as much as a command or two.
local call, ARGV, unpack = redis.call, ARGV, unpack
local time = call('TIME')
local now = time[1] * 1000 + time[2] / 1000

local refused, at = {}, 2
for place = 1, #KEYS / 3 do
  local user, pending = KEYS[3 * place - 2], ARGV[at + 4]
  local gone = at + 5
  local set = gone + 1 + ARGV[gone]
  local expires_at = set + 1 + 2 * ARGV[set]

  local known = call('HMGET', user, 'r', ARGV[at + 1])
  local is_same = (known[1] or '') == ARGV[at] and string.sub(known[2] or '', 2) == ARGV[at + 2]
  local is_written = is_same and (ARGV[at + 3] == '' or now < tonumber(ARGV[at + 3]))
  if is_written then
    if set > gone + 1 then
      call('HDEL', user, unpack(ARGV, gone + 1, set - 1))
    end
    call('HSET', user, unpack(ARGV, set + 1, expires_at - 1))
    if pending == '' then
      call('EXPIRE', user, ARGV[1])
    else
      -- A hash that was not there has no end.
      if known[1] then
        call('PERSIST', user)
      end
      call('SET', KEYS[3 * place], pending)
    end
  else
    refused[#refused + 1] = place
  end

  at = expires_at + 1
  if ARGV[expires_at] ~= '' then
    local profile = KEYS[3 * place - 1]
    gone = expires_at + 1
    set = gone + 1 + ARGV[gone]
    at = set + 1 + 2 * ARGV[set]
    if is_written then
      call('HSET', profile, unpack(ARGV, set + 1, at - 1))
      if set > gone + 1 then
        call('HDEL', profile, unpack(ARGV, gone + 1, set - 1))
      end
      if ARGV[expires_at] == '0' then
        call('PERSIST', profile)
      else
        call('PEXPIREAT', profile, ARGV[expires_at])
      end
    end
  end
end
return refused
