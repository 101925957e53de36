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

  `rotations` of the session holds `counter=us` of the current refresh token and of each that a token inside the grace may still ask for
  (the latest 64, so that a client refreshing in a tight loop costs itself a replay and the server nothing).

  Returns {'ok', counter, its issue instant us, now us, ms until it expires, device name}
       or {'gone'}     no such session: logged out, idle too long, or lost with Redis; the caller tells which by the token's own instants
       or {'cut'}      issued at or before the user's cut-off, or the door is closed
       or {'expired'}  past its maximum age; it has ended now
       or {'reused'}   a token replaced longer ago than the grace; the session has ended now
]]
local session = redis.call('HMGET', KEYS[1], 'counter', 'rotations', 'created_at', 'device_name')
if not session[1] or session[3] ~= ARGV[3] then return { 'gone' } end

local now_us = clock()
local gate = read_gate(KEYS[4])
if tonumber(ARGV[4]) <= gate.cutoff or gate.closed > now_us then return { 'cut' } end

-- One order for issue and cut-off, whatever a clock does.
now_us = math.max(now_us, gate.cutoff + 1)
local now_ms = math.floor(now_us / 1000)
local presented = tonumber(ARGV[2])
local current = tonumber(session[1])
local left_ms = math.floor(tonumber(session[3]) / 1000) + tonumber(ARGV[7]) - now_ms

local function finish(why)
  redis.call('DEL', KEYS[1])
  redis.call('ZREM', KEYS[2], ARGV[1])
  redis.call('ZADD', KEYS[3], now_ms + tonumber(ARGV[8]), ARGV[1])
  redis.call('PEXPIRE', KEYS[3], ARGV[8])
  return { why }
end

if left_ms <= 0 then return finish('expired') end
-- A counter from the future: Redis is an older copy than the one that issued this token.
if presented > current then return { 'gone' } end

local rotated = {}
for counter, us in string.gmatch(session[2], '(%d+)=(%d+)') do rotated[tonumber(counter)] = us end

local issued = text(now_us)
if presented < current then
  -- The presented token was replaced when its successor was issued.
  local replaced = rotated[presented + 1]
  if not replaced or now_us - tonumber(replaced) > tonumber(ARGV[5]) then return finish('reused') end
  -- The access token that goes with the answer is issued now: a cut-off must come after it.
  redis.call('HSET', KEYS[4], 'last_issued', text(math.max(now_us, gate.last_issued)))
  return { 'ok', presented + 1, replaced, issued, redis.call('PTTL', KEYS[1]), session[4] }
end

local kept = { (current + 1) .. '=' .. issued }
for counter, us in pairs(rotated) do
  if now_us - tonumber(us) <= tonumber(ARGV[5]) and counter > current - 63 then kept[#kept + 1] = counter .. '=' .. us end
end
local life_ms = math.min(tonumber(ARGV[6]), left_ms)
redis.call('HSET', KEYS[1], 'counter', current + 1, 'rotations', table.concat(kept, ','), 'issued_at', issued, 'last_seen_at', issued)
redis.call('PEXPIRE', KEYS[1], life_ms)
redis.call('ZADD', KEYS[2], now_ms + life_ms, ARGV[1])
redis.call('HSET', KEYS[4], 'last_issued', text(math.max(now_us, gate.last_issued)))
keep(KEYS[2], KEYS[4], now_us, tonumber(ARGV[8]))
return { 'ok', current + 1, issued, issued, life_ms, session[4] }
