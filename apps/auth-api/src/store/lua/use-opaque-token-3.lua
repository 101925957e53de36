--[[
  Checks an opaque token and lets its use renew its life. Touches this token's session only.

  KEYS[1] session   hash
  KEYS[2] sessions  sorted set: session id → expiry (ms), +inf: never
  KEYS[3] gate      hash

  ARGV[1] session id: the hash of the token
  ARGV[2] OPAQUE_TOKEN_TTL ms; -1: none
  ARGV[3] 1: RESET_TOKEN_TTL_ON_USE
  ARGV[4] 1: OVERWRITE_NONE_TTL
  ARGV[5] instant (us) of the epoch's birth: what is older was issued by a Redis that is lost

  Returns {'ok', issued us, ms it still lives; -1: for ever, now us}
       or {'gone'}  not known, ended, cut off, or the door is closed
]]
local session = redis.call('HMGET', KEYS[1], 'created', 'seen', 'counter')
-- What has a counter is a JWT pair's session.
if not session[1] or session[3] then return { 'gone' } end
local now_us = clock()
local gate = read_gate(KEYS[3])
local issued_us = tonumber(session[1])
if issued_us <= gate.cutoff or issued_us < tonumber(ARGV[5]) or gate.closed > now_us then return { 'gone' } end

-- A device seen every second is not worth a write every second.
if now_us - tonumber(session[2]) > 60000000 then redis.call('HSET', KEYS[1], 'seen', text(now_us)) end

local ttl_ms = tonumber(ARGV[2])
local left_ms = redis.call('PTTL', KEYS[1])
local immortal = left_ms < 0
-- What was renewed within the last second is not worth a write, if a second is next to nothing of its life.
local renewed = not immortal and ttl_ms > 0 and left_ms <= ttl_ms and left_ms > ttl_ms - math.min(1000, ttl_ms / 1000)
if ARGV[3] == '1' and not renewed and not (immortal and (ttl_ms < 0 or ARGV[4] ~= '1')) then
  if ttl_ms < 0 then
    redis.call('PERSIST', KEYS[1])
    redis.call('ZADD', KEYS[2], '+inf', ARGV[1])
  else
    redis.call('PEXPIRE', KEYS[1], ttl_ms)
    redis.call('ZADD', KEYS[2], math.floor(now_us / 1000) + ttl_ms, ARGV[1])
  end
  keep_index(KEYS[2])
  left_ms = ttl_ms
end
return { 'ok', session[1], left_ms, text(now_us) }
