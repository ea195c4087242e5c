-- Moves users within one shard of the deadline index.
-- KEYS: 1 the shard
-- ARGV: for each user: member, expected deadline in ms or '', new deadline in ms or '' to take the user out
-- Where the index holds something else than expected, somebody else is at work: then an earlier moment wins. One that is
-- earlier than what is to be is made another one, by a millisecond: whoever it has led here already may be about to take it
-- out, for what they found before this.
-- What is taken out goes last: in a slot that moves a script may not make a key anew that it has emptied.
local moved, gone = {}, {}
for i = 1, #ARGV, 3 do
  local member, expected, new = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
  local current = tonumber(redis.call('ZSCORE', KEYS[1], member) or nil)
  if new then
    if not current or current == expected or new < current then
      moved[#moved + 1] = ARGV[i + 2]
      moved[#moved + 1] = member
    elseif current < new then
      moved[#moved + 1] = string.format('%.0f', current - 1)
      moved[#moved + 1] = member
    end
  elseif current and current == expected then
    gone[#gone + 1] = member
  end
end
if #moved > 0 then
  redis.call('ZADD', KEYS[1], unpack(moved))
end
if #gone > 0 then
  redis.call('ZREM', KEYS[1], unpack(gone))
end
