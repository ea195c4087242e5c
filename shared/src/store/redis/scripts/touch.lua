-- Renews sessions that are known, live, told of and alone, which the letter of the session says; nothing is decided here.
-- KEYS: the hash of each user
-- ARGV: the heartbeat up to which a session is over, the timeout in ms, seconds to live, a letter for each user: the
--       platform that the heartbeat names, or else the default; for each user: the session's field, time of the heartbeat
-- Moments are in ms and of 13 digits, so that they compare as they are.
-- Answers the places of those heartbeats that must be decided in full.
-- A session reads: letter (a capital: it may be renewed here), heartbeat, previous heartbeat, since, what is unusual.
local call, byte, sub = redis.call, string.byte, string.sub
local over, ttl, platforms = ARGV[1], ARGV[3], ARGV[4]
-- It may have been long on its way here, and whoever has read since has told the end of a session.
local time = call('TIME')
local late = string.format('%.0f', time[1] * 1000 + math.floor(time[2] / 1000) - ARGV[2])
if late > over then
  over = late
end
local refused = {}
for i = 1, #KEYS do
  local key, field, at = KEYS[i], ARGV[2 * i + 3], ARGV[2 * i + 4]
  local session = call('HGET', key, field) or 'none'
  local heartbeat = sub(session, 2, 14)
  local letter = byte(session) or 0
  -- An adopted session runs on the first platform by the alphabet that its heartbeats name, as the rules have it.
  local moves = #session > 40 and sub(session, 41, 42) == ',a' and byte(platforms, i) < letter
  -- One from before its life may tell that it began sooner, or of another life.
  if letter < 97 and heartbeat > over and at >= sub(session, 28, 40) and not moves then
    if at > heartbeat then
      local renewed = sub(session, 1, 1) .. at .. heartbeat .. sub(session, 28)
      call('HSET', key, field, renewed, 'last_seen', sub(at, 1, 10))
    end
    call('EXPIRE', key, ttl)
  else
    refused[#refused + 1] = i
  end
end
return refused
