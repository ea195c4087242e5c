-- Ends what commits began: moves users within the deadline index, takes out what was pending of those of whom all is known
-- to be published, and then their reminders.
-- KEYS: shards of the deadline index; for each user of whom all is published: the hash, what is pending; shards of the
--       reminders
-- ARGV: seconds to live, number of shards of the deadline index, of users of whom all is published, of shards of the reminders;
--       for each shard of the deadline index: n, for each of n users: member, expected deadline in ms or '', new deadline in
--       ms or '' to take the user out;
--       for each user of whom all is published: the revision up to which;
--       for each shard of the reminders: n, for each of n users: member, the reminder in ms that is to go, or '', the one to
--       set instead, or ''
-- What can't be read holds up no other; it fails the call in the end, and keeps the reminders.
local call, KEYS, ARGV = redis.call, KEYS, ARGV

-- What is taken out goes last: in a slot that moves a script may not make a key anew that it has emptied.
local function write(shard, moved, gone)
  if #moved > 0 then
    call('ZADD', shard, unpack(moved))
  end
  if #gone > 0 then
    call('ZREM', shard, unpack(gone))
  end
end

-- Where the index holds something else than expected, somebody else is at work: then an earlier moment wins. One that is
-- earlier than what is to be is made another one, by a millisecond: whoever it has led here already may be about to take it
-- out, for what they found before this.
local function move(shard, first, last)
  local moved, gone = {}, {}
  for i = first, last, 3 do
    local member, expected, new = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2])
    local current = tonumber(call('ZSCORE', shard, member) or nil)
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
  write(shard, moved, gone)
end

-- Unless the record has moved on. If heartbeats can renew a session without a decision from now on, its letter becomes a
-- capital.
local function confirm(user, pending, revision)
  local known = call('HMGET', user, 'r', 'p')
  local renewable = known[2]
  if renewable and known[1] == revision then
    local session = call('HGET', user, renewable)
    if session then
      call('HSET', user, renewable, string.upper(string.sub(session, 1, 1)) .. string.sub(session, 2))
    end
    call('HDEL', user, 'p')
    call('DEL', pending)
    call('EXPIRE', user, ARGV[1])
  end
end

-- Unless somebody else has set it anew.
local function remind(shard, first, last)
  local moved, gone = {}, {}
  for i = first, last, 3 do
    local member, old, new = ARGV[i], ARGV[i + 1], ARGV[i + 2]
    if new ~= '' then
      moved[#moved + 1] = new
      moved[#moved + 1] = member
    else
      local current = call('ZSCORE', shard, member)
      if current and tonumber(current) == tonumber(old) then
        gone[#gone + 1] = member
      end
    end
  end
  write(shard, moved, gone)
end

local key, at, failure = 1, 5, nil

local function try(work, ...)
  local is_done, reason = pcall(work, ...)
  if not is_done then
    failure = reason
  end
end

local function on_shards(count, work)
  for _ = 1, tonumber(count) do
    local last = at + 3 * ARGV[at]
    try(work, KEYS[key], at + 1, last)
    key, at = key + 1, last + 1
  end
end

on_shards(ARGV[2], move)
for _ = 1, tonumber(ARGV[3]) do
  try(confirm, KEYS[key], KEYS[key + 1], ARGV[at])
  key, at = key + 2, at + 1
end
if not failure then
  on_shards(ARGV[4], remind)
end
return failure
