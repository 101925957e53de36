--[[
  Opens a session; index and session change together.

  KEYS[1] session   hash
  KEYS[2] sessions  sorted set: session id → expiry (ms)
  KEYS[3] ended     sorted set: session id → until (ms)

  ARGV[1] session id
  ARGV[2] idle ms (REFRESH_TOKEN_TTL)
  ARGV[3] max age ms (SESSION_MAX_AGE)
  ARGV[4] most sessions of one user
  ARGV[5] ms an ended session's access tokens may live (ACCESS_TOKEN_TTL)
  ARGV[6] what KEYS[1] holds before the session id
  ARGV[7] device name   ARGV[8] user agent   ARGV[9] ip

  Returns {issued us, ms until the refresh token expires, 1 if it is the user's only session, ended session id …}: with the evicted
  sessions those that ended a short while ago, so that a later call completes a write to the revocation log that failed.
]]
local time = redis.call('TIME')
local now_us = time[1] * 1000000 + time[2]
local now_ms = math.floor(now_us / 1000)
local life_ms = math.min(tonumber(ARGV[2]), tonumber(ARGV[3]))

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms)
local others = redis.call('ZCARD', KEYS[2])

-- The oldest go first: expiry orders them by their last use.
local surplus = others + 1 - tonumber(ARGV[4])
if surplus > 0 then
  for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, surplus - 1)) do
    redis.call('DEL', ARGV[6] .. id)
    redis.call('ZREM', KEYS[2], id)
    redis.call('ZADD', KEYS[3], now_ms + tonumber(ARGV[5]), id)
  end
  redis.call('PEXPIRE', KEYS[3], ARGV[5])
end

redis.call('HSET', KEYS[1], 'counter', 0, 'rotations', '0=' .. string.format('%.0f', now_us),
  'created_at', string.format('%.0f', now_us), 'last_seen_at', string.format('%.0f', now_us),
  'device_name', ARGV[7], 'user_agent', ARGV[8], 'ip', ARGV[9])
redis.call('PEXPIRE', KEYS[1], life_ms)
redis.call('ZADD', KEYS[2], now_ms + life_ms, ARGV[1])
local index_ms = redis.call('PTTL', KEYS[2])
if index_ms < life_ms then redis.call('PEXPIRE', KEYS[2], life_ms) end

local result = { string.format('%.0f', now_us), life_ms, others == 0 and 1 or 0 }
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now_ms)
for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do result[#result + 1] = id end
return result
