--[[
  Rotates sessions' refresh tokens, or gives the same successor again inside the grace. Many at once, because a call costs as much as one; each
  is on its own, also when a write for it fails.

  ARGV[1] grace us (REFRESH_GRACE)
  ARGV[2] idle ms (REFRESH_TOKEN_TTL)
  ARGV[3] max age ms (SESSION_MAX_AGE)
  ARGV[4] ms an ended session's access tokens may live (ACCESS_TOKEN_TTL)

  and then of each refresh token presented
  KEYS  session   hash
  KEYS  sessions  sorted set: session id → expiry (ms)
  KEYS  ended     sorted set: session id → until (ms)
  KEYS  gate      hash
  ARGV  session id
  ARGV  its counter
  ARGV  instant of the first login it names (us)
  ARGV  instant it was issued (us)

  The session says when its current refresh token was issued (`rotated`; `created` before the first rotation), and `earlier` as
  `,counter=us,…` of those before it, the newest first, that a token inside the grace may still ask for (64 of them at least, so that a client
  refreshing in a tight loop costs itself a replay, and neither the server nor its session anything).

  Returns of each {'ok', counter, its issue instant us, now us, ms until it expires, device name}
       or {'gone', now us}   no such session: logged out, idle too long, or lost with Redis; the caller tells which by the token's own instants.
                             Or a token of which nobody knows any more whether it was replaced within the grace: neither good nor a theft
       or {'ended', now us}  the same, and that it ended is still owed to the revocation log. Or the session is an older copy of itself; it has
                             ended now
       or {'cut'}      issued at or before the user's cut-off, or the door is closed
       or {'expired'}  past its maximum age; it has ended now
       or {'reused'}   a token replaced longer ago than the grace; the session has ended now
       or an error
]]
local grace_us, idle_ms, max_age_ms, access_ms = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
-- Most characters of `earlier`, the `+` not counted: at least 64 entries.
local EARLIER = 1600
local clock_us = clock()
local now_ms = math.floor(clock_us / 1000)

-- As many whole ones as there is room for; a `+` at the end says that there were more.
local function shortened(earlier)
  if #earlier <= EARLIER then return earlier end
  return string.match(string.sub(earlier, 1, EARLIER), '^(.*),') .. '+'
end

-- Whether `earlier` may lack a token that was replaced within the grace: there were more, and the last that is left is one.
local function cut_off_in_grace(earlier, now_us)
  local oldest = string.match(earlier, '=(%d+)%+$')
  return oldest and now_us - tonumber(oldest) <= grace_us
end

local function refresh(session_key, sessions_key, ended_key, gate_key, session_id, counter, created, token_issued)
  local session = redis.call('HMGET', session_key, 'counter', 'created', 'rotated', 'earlier', 'device_name', 'seen')
  if not session[1] or session[2] ~= created then
    return { redis.call('ZSCORE', ended_key, session_id) and 'ended' or 'gone', text(clock_us) }
  end

  local gate = read_gate(gate_key)
  if tonumber(token_issued) <= gate.cutoff or gate.closed > clock_us then return { 'cut' } end

  -- One order for issue and cut-off, whatever a clock does.
  local now_us = math.max(clock_us, gate.cutoff + 1, tonumber(session[6]))
  local presented = tonumber(counter)
  local current = tonumber(session[1])
  local left_ms = math.floor(tonumber(session[2]) / 1000) + max_age_ms - now_ms

  local function finish(why)
    redis.call('DEL', session_key)
    redis.call('ZREM', sessions_key, session_id)
    owe_end(ended_key, session_id, clock_us, tonumber(session[6]), access_ms)
    return { why }
  end

  if left_ms <= 0 then return finish('expired') end
  -- A counter from the future: Redis is an older copy than the one that issued this token, to which a token that was replaced is the current one.
  if presented > current then
    finish('ended')
    return { 'ended', text(now_us) }
  end

  local earlier = session[4] or ''

  local issued = text(now_us)
  if presented < current then
    -- The presented token was replaced when its successor was issued.
    local replaced = presented + 1 == current and session[3] or string.match(earlier, ',' .. presented + 1 .. '=(%d+)')
    if not replaced and cut_off_in_grace(earlier, now_us) then return { 'gone', text(now_us) } end
    if not replaced or now_us - tonumber(replaced) > grace_us then return finish('reused') end
    -- The access token that goes with the answer is issued now.
    redis.call('HSET', session_key, 'seen', issued)
    local life_ms = redis.call('PTTL', session_key)
    remember_issue(gate_key, gate, now_us, now_us, life_ms, access_ms)
    return { 'ok', presented + 1, replaced, issued, life_ms, session[5] or '' }
  end

  local life_ms = math.min(idle_ms, left_ms)
  redis.call('HSET', session_key, 'counter', current + 1, 'rotated', issued, 'seen', issued)
  if session[3] and now_us - tonumber(session[3]) <= grace_us then
    -- What is too old is no longer asked for.
    redis.call('HSET', session_key, 'earlier', shortened(',' .. current .. '=' .. session[3] .. earlier))
  elseif session[4] then
    redis.call('HDEL', session_key, 'earlier')
  end
  redis.call('PEXPIRE', session_key, life_ms)
  redis.call('ZADD', sessions_key, now_ms + life_ms, session_id)
  -- A longer life only; an index that never expires stays one.
  redis.call('PEXPIREAT', sessions_key, text(now_ms + life_ms), 'GT')
  remember_issue(gate_key, gate, now_us, now_us, life_ms, access_ms)
  return { 'ok', current + 1, issued, issued, life_ms, session[5] or '' }
end

local answers = {}
for n = 1, #KEYS / 4 do
  answers[n] = alone(refresh, KEYS[4 * n - 3], KEYS[4 * n - 2], KEYS[4 * n - 1], KEYS[4 * n], unpack(ARGV, 4 * n + 1, 4 * n + 4))
end
return answers
