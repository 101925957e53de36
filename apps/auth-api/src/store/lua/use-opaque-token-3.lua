--[[
  Checks an opaque token and lets its use renew its life. Touches this token's session only.

  KEYS[1] session   hash
  KEYS[2] sessions  sorted set: session id → expiry (ms), +inf: never
  KEYS[3] gate      hash

  ARGV[1] session id
  ARGV[2] base64url SHA-256 of the token
  ARGV[3] OPAQUE_TOKEN_TTL ms; -1: none
  ARGV[4] 1: RESET_TOKEN_TTL_ON_USE
  ARGV[5] 1: OVERWRITE_NONE_TTL
  ARGV[6] instant (us) of the epoch's birth: what is older was issued by a Redis that is lost
  ARGV[7] ms access tokens may live (ACCESS_TOKEN_TTL)

  Returns {'ok', issued us, created us, ms it still lives; -1: for ever}
       or {'gone'}  not known, ended, cut off, or the door is closed
]]
local session = redis.call('HMGET', KEYS[1], 'token_hash', 'issued_at', 'created_at', 'last_seen_at')
if session[1] ~= ARGV[2] then return { 'gone' } end
local now_us = clock()
local gate = read_gate(KEYS[3])
local issued_us = tonumber(session[2])
if issued_us <= gate.cutoff or issued_us < tonumber(ARGV[6]) or gate.closed > now_us then return { 'gone' } end

-- A device seen every second is not worth a write every second.
if now_us - tonumber(session[4]) > 60000000 then redis.call('HSET', KEYS[1], 'last_seen_at', text(now_us)) end

local ttl_ms = tonumber(ARGV[3])
local left_ms = redis.call('PTTL', KEYS[1])
local immortal = left_ms < 0
if ARGV[4] == '1' and not (immortal and (ttl_ms < 0 or ARGV[5] ~= '1')) then
  if ttl_ms < 0 then
    redis.call('PERSIST', KEYS[1])
    redis.call('ZADD', KEYS[2], '+inf', ARGV[1])
  else
    redis.call('PEXPIRE', KEYS[1], ttl_ms)
    redis.call('ZADD', KEYS[2], math.floor(now_us / 1000) + ttl_ms, ARGV[1])
  end
  keep(KEYS[2], KEYS[3], now_us, tonumber(ARGV[7]), gate.closed)
  left_ms = ttl_ms
end
return { 'ok', session[2], session[3], left_ms }
