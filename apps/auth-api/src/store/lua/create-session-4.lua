--[[
  Opens a session; index and session change together, and the door is asked in the same breath.

  KEYS[1] session   hash
  KEYS[2] sessions  sorted set: session id → expiry (ms), +inf: never
  KEYS[3] ended     sorted set: session id → until (ms)
  KEYS[4] gate      hash

  ARGV[1] session id
  ARGV[2] life ms of the token to be issued (REFRESH_TOKEN_TTL capped by SESSION_MAX_AGE, or OPAQUE_TOKEN_TTL); -1: never expires
  ARGV[3] most sessions of one user
  ARGV[4] ms an ended session's access tokens may live (ACCESS_TOKEN_TTL)
  ARGV[5] what KEYS[1] holds before the session id
  ARGV[6] generation of the gate that was seen before the password was checked
  ARGV[7] base64url SHA-256 of the opaque token; '' for a JWT pair
  ARGV[8] device name   ARGV[9] user agent   ARGV[10] ip

  Returns {'ok', issued us, life ms, 1 if it is the user's only session, evicted session id …}
       or {'closed', until us}   suspended, or cut off until an instant to come
       or {'changed'}            everything was revoked since the password was checked: check it again
]]
local now_us = clock()
local now_ms = math.floor(now_us / 1000)
local gate = read_gate(KEYS[4])
if gate.closed > now_us then return { 'closed', text(gate.closed) } end
if gate.generation ~= ARGV[6] then return { 'changed' } end
-- One order for issue and cut-off, whatever a clock does.
local issued_us = math.max(now_us, gate.cutoff + 1)

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms)
local others = redis.call('ZCARD', KEYS[2])

-- The oldest go first: expiry orders them by their last use.
local evicted = {}
local surplus = others + 1 - tonumber(ARGV[3])
if surplus > 0 then
  evicted = redis.call('ZRANGE', KEYS[2], 0, surplus - 1)
  for _, id in ipairs(evicted) do
    redis.call('DEL', ARGV[5] .. id)
    redis.call('ZREM', KEYS[2], id)
    redis.call('ZADD', KEYS[3], now_ms + tonumber(ARGV[4]), id)
  end
  redis.call('PEXPIRE', KEYS[3], ARGV[4])
end

local issued = text(issued_us)
redis.call('HSET', KEYS[1], 'issued_at', issued, 'created_at', issued, 'last_seen_at', issued,
  'device_name', ARGV[8], 'user_agent', ARGV[9], 'ip', ARGV[10])
if ARGV[7] == '' then
  redis.call('HSET', KEYS[1], 'counter', 0, 'rotations', '0=' .. issued)
else
  redis.call('HSET', KEYS[1], 'token_hash', ARGV[7])
end

local life_ms = tonumber(ARGV[2])
if life_ms < 0 then
  redis.call('ZADD', KEYS[2], '+inf', ARGV[1])
else
  redis.call('PEXPIRE', KEYS[1], life_ms)
  redis.call('ZADD', KEYS[2], now_ms + life_ms, ARGV[1])
end
redis.call('HSET', KEYS[4], 'last_issued', text(math.max(issued_us, gate.last_issued)))
keep(KEYS[2], KEYS[4], now_us, tonumber(ARGV[4]))

local result = { 'ok', issued, life_ms, others == 0 and 1 or 0 }
for _, id in ipairs(evicted) do result[#result + 1] = id end
return result
