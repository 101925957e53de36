--[[
  Ends sessions of one user; index and sessions change together.

  KEYS[1] sessions  sorted set: session id → expiry (ms)
  KEYS[2] ended     sorted set: session id → until (ms)

  ARGV[1] what a session's key holds before its id
  ARGV[2] ms an ended session's access tokens may live (ACCESS_TOKEN_TTL)
  ARGV[3] 'one' | 'all' | 'others'
  ARGV[4] the session to end ('one') or to keep ('others')

  Returns the ids whose access tokens must be refused from now on: the sessions that end now and, so that a call repeated after a lost
  reply or a failed write to the revocation log completes it, those that ended a short while ago. Empty for 'one': not this user's session.
]]
local time = redis.call('TIME')
local now_ms = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms)

local live = redis.call('ZRANGE', KEYS[1], 0, -1)
for _, id in ipairs(live) do
  if ARGV[3] == 'all' or (ARGV[3] == 'one') == (id == ARGV[4]) then
    redis.call('DEL', ARGV[1] .. id)
    redis.call('ZREM', KEYS[1], id)
    redis.call('ZADD', KEYS[2], now_ms + tonumber(ARGV[2]), id)
    redis.call('PEXPIRE', KEYS[2], ARGV[2])
  end
end

if ARGV[3] ~= 'one' then return redis.call('ZRANGE', KEYS[2], 0, -1) end
if redis.call('ZSCORE', KEYS[2], ARGV[4]) then return { ARGV[4] } end
return {}
