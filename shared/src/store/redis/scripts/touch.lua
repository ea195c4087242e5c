-- Renews a session that is known, live, told of and alone; nothing else is decided here.
-- KEYS: 1 the user's hash
-- ARGV: the session's field, time of the heartbeat in ms, now in ms, heartbeat timeout in ms, seconds to live
-- Answers the session's deadline in ms, or 0 if the heartbeat must be decided in full.
-- A session reads: since,platform,heartbeat - since,heartbeat - previous heartbeat, then what is unusual about it.
local known = redis.call('HMGET', KEYS[1], ARGV[1], 'status', 'p', 'm', 't', 'r', 'last_seen')
local session, status, pending, several = known[1], known[2], known[3], known[4]
if not session or not status or status == 'offline' or pending or several then
  return 0
end
local since, platform, lasted, unusual = string.match(session, '^(%d+),(%a),(%d+),%d*(.*)$')
if not since or string.find(unusual, ',c', 1, true) then
  return 0
end

local at, timeout = tonumber(ARGV[2]), tonumber(ARGV[4])
local heartbeat = since + lasted
if heartbeat + timeout <= math.max(tonumber(ARGV[3]), tonumber(known[5])) then
  return 0
end
if at > heartbeat then
  local renewed = string.format('%s,%s,%.0f,%.0f%s', since, platform, at - since, at - heartbeat, unusual)
  local last_seen = math.max(math.floor(at / 1000), tonumber(known[7] or 0))
  redis.call('HSET', KEYS[1], ARGV[1], renewed, 'r', string.format('%.0f', known[6] + 1),
    'last_seen', string.format('%.0f', last_seen))
  heartbeat = at
end
redis.call('EXPIRE', KEYS[1], ARGV[5])
return string.format('%.0f', heartbeat + timeout)
