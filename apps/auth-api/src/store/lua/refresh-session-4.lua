--[[
  Rotates a session's refresh token, or gives the same successor again inside the grace.

  KEYS[1] session   hash
  KEYS[2] sessions  sorted set: session id → expiry (ms)
  KEYS[3] ended     sorted set: session id → until (ms)
  KEYS[4] gate      hash

  ARGV[1] session id
  ARGV[2] counter of the refresh token presented
  ARGV[3] instant of the first login it names (us)
  ARGV[4] instant it was issued (us)
  ARGV[5] grace us (REFRESH_GRACE)
  ARGV[6] idle ms (REFRESH_TOKEN_TTL)
  ARGV[7] max age ms (SESSION_MAX_AGE)
  ARGV[8] ms an ended session's access tokens may live (ACCESS_TOKEN_TTL)

  The session says when its current refresh token was issued (`rotated`; `created` before the first rotation), and `earlier` as
  `,counter=us,…` of those before it, the newest first, that a token inside the grace may still ask for (about 64 of them, so that a client
  refreshing in a tight loop costs itself a replay and the server nothing).

  Returns {'ok', counter, its issue instant us, now us, ms until it expires, device name}
       or {'gone', now us}   no such session: logged out, idle too long, or lost with Redis; the caller tells which by the token's own instants
       or {'ended', now us}  the same, and that it ended is still owed to the revocation log
       or {'cut'}      issued at or before the user's cut-off, or the door is closed
       or {'expired'}  past its maximum age; it has ended now
       or {'reused'}   a token replaced longer ago than the grace; the session has ended now
]]
local now_us = clock()
local session = redis.call('HMGET', KEYS[1], 'counter', 'created', 'rotated', 'earlier', 'device_name', 'seen')
if not session[1] or session[2] ~= ARGV[3] then
  return { redis.call('ZSCORE', KEYS[3], ARGV[1]) and 'ended' or 'gone', text(now_us) }
end

local gate = read_gate(KEYS[4])
if tonumber(ARGV[4]) <= gate.cutoff or gate.closed > now_us then return { 'cut' } end

-- One order for issue and cut-off, whatever a clock does.
local now_ms = math.floor(now_us / 1000)
now_us = math.max(now_us, gate.cutoff + 1, tonumber(session[6]))
local presented = tonumber(ARGV[2])
local current = tonumber(session[1])
local grace_us, access_ms = tonumber(ARGV[5]), tonumber(ARGV[8])
local left_ms = math.floor(tonumber(session[2]) / 1000) + tonumber(ARGV[7]) - now_ms

local function finish(why)
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZADD', KEYS[3], now_ms + access_ms, ARGV[1])
  redis.call('PEXPIRE', KEYS[3], access_ms)
  return { why }
end

if left_ms <= 0 then return finish('expired') end
-- A counter from the future: Redis is an older copy than the one that issued this token.
if presented > current then return { 'gone', text(now_us) } end

local earlier = session[4] or ''

local issued = text(now_us)
if presented < current then
  -- The presented token was replaced when its successor was issued.
  local replaced = presented + 1 == current and session[3] or string.match(earlier, ',' .. presented + 1 .. '=(%d+)')
  if not replaced or now_us - tonumber(replaced) > grace_us then return finish('reused') end
  -- The access token that goes with the answer is issued now.
  redis.call('HSET', KEYS[1], 'seen', issued)
  local life_ms = redis.call('PTTL', KEYS[1])
  remember_issue(KEYS[4], gate, now_us, now_us, life_ms, access_ms)
  return { 'ok', presented + 1, replaced, issued, life_ms, session[5] or '' }
end

local life_ms = math.min(tonumber(ARGV[6]), left_ms)
redis.call('HSET', KEYS[1], 'counter', current + 1, 'rotated', issued, 'seen', issued)
if session[3] and now_us - tonumber(session[3]) <= grace_us then
  -- 1600 characters hold 64 of them; what is cut or too old is no longer asked for.
  redis.call('HSET', KEYS[1], 'earlier', string.sub(',' .. current .. '=' .. session[3] .. earlier, 1, 1600))
elseif session[4] then
  redis.call('HDEL', KEYS[1], 'earlier')
end
redis.call('PEXPIRE', KEYS[1], life_ms)
redis.call('ZADD', KEYS[2], now_ms + life_ms, ARGV[1])
-- A longer life only; an index that never expires stays one.
redis.call('PEXPIREAT', KEYS[2], text(now_ms + life_ms), 'GT')
remember_issue(KEYS[4], gate, now_us, now_us, life_ms, access_ms)
return { 'ok', current + 1, issued, issued, life_ms, session[5] or '' }
