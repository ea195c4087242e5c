-- Takes reminders out of one shard, unless somebody else has set them anew.
-- KEYS: 1 the shard
-- ARGV: for each user: member, the reminder's moment in ms
local gone = {}
for i = 1, #ARGV, 2 do
  local current = redis.call('ZSCORE', KEYS[1], ARGV[i])
  if current and tonumber(current) == tonumber(ARGV[i + 1]) then
    gone[#gone + 1] = ARGV[i]
  end
end
if #gone > 0 then
  redis.call('ZREM', KEYS[1], unpack(gone))
end
