--[[
  Checks opaque tokens and lets their use renew their lives. Many at once, because a call costs more than a token; each is on its own, also
  when a write for it fails, and only its own session is touched.

  ARGV[1] OPAQUE_TOKEN_TTL ms; -1: none
  ARGV[2] 1: RESET_TOKEN_TTL_ON_USE
  ARGV[3] 1: OVERWRITE_NONE_TTL

  and then of each token
  KEYS  session   hash; its key ends in the session id, which is the hash of the token
  KEYS  sessions  sorted set: session id → expiry (ms), +inf: never
  KEYS  gate      hash
  ARGV  instant (us) of the epoch's birth: what is older was issued by a Redis that is lost

  Returns now us, then of each token
          'issued us,ms it still lives' (-1: for ever)
       or ''  not known, ended, cut off, or the door is closed
       or an error
]]
local ttl_ms, reset, overwrite = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3] == '1'
local now_us = clock()

local function use(session_key, sessions_key, gate_key, born_us)
  local session = redis.call('HMGET', session_key, 'created', 'seen', 'counter')
  -- What has a counter is a JWT pair's session.
  if not session[1] or session[3] then return '' end
  local gate = read_gate(gate_key)
  local issued_us = tonumber(session[1])
  if issued_us <= gate.cutoff or issued_us < tonumber(born_us) or gate.closed > now_us then return '' end

  -- A device seen every second is not worth a write every second.
  if now_us - tonumber(session[2]) > 60000000 then redis.call('HSET', session_key, 'seen', text(now_us)) end

  local left_ms = redis.call('PTTL', session_key)
  local immortal = left_ms < 0
  -- What was renewed within the last second is not worth a write, if a second is next to nothing of its life.
  local renewed = not immortal and ttl_ms > 0 and left_ms <= ttl_ms and left_ms > ttl_ms - math.min(1000, ttl_ms / 1000)
  if reset and not renewed and not (immortal and (ttl_ms < 0 or not overwrite)) then
    local session_id = string.match(session_key, '[^:]+$')
    if ttl_ms < 0 then
      redis.call('PERSIST', session_key)
      redis.call('ZADD', sessions_key, '+inf', session_id)
    else
      redis.call('PEXPIRE', session_key, ttl_ms)
      redis.call('ZADD', sessions_key, math.floor(now_us / 1000) + ttl_ms, session_id)
    end
    keep_index(sessions_key)
    left_ms = ttl_ms
  end
  return session[1] .. ',' .. left_ms
end

local answers = { text(now_us) }
for n = 1, #KEYS / 3 do
  answers[n + 1] = alone(use, KEYS[3 * n - 2], KEYS[3 * n - 1], KEYS[3 * n], ARGV[3 + n])
end
return answers
