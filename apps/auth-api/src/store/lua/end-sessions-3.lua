--[[
  Ends sessions of one user; index and sessions change together.

  KEYS[1] sessions  sorted set: session id → expiry (ms)
  KEYS[2] ended     sorted set: session id → until (ms)
  KEYS[3] gate      hash

  ARGV[1] what a session's key holds before its id
  ARGV[2] ms an ended session's access tokens may live (ACCESS_TOKEN_TTL)
  ARGV[3] 'one' | 'others'
  ARGV[4] the session to end ('one') or to keep ('others')

  Returns the ids whose end is owed to the revocation log: the sessions that end now and those whose write failed before. Empty for 'one':
  not this user's session, or ended and logged.
]]
local now_us = clock()
local gate = read_gate(KEYS[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', math.floor(now_us / 1000))

local live = redis.call('ZRANGE', KEYS[1], 0, -1)
for _, id in ipairs(live) do
  if (ARGV[3] == 'one') == (id == ARGV[4]) then
    -- A clock that has stepped back since: a cut-off must still come after what this session was issued.
    local seen_us = tonumber(redis.call('HGET', ARGV[1] .. id, 'seen') or 0)
    if seen_us > math.max(now_us, gate.last_issued) then
      gate.last_issued = seen_us
      write_gate(KEYS[3], now_us, tonumber(ARGV[2]), gate.closed, 'last_issued', text(seen_us))
    end
    redis.call('DEL', ARGV[1] .. id)
    redis.call('ZREM', KEYS[1], id)
    owe_end(KEYS[2], id, now_us, seen_us, tonumber(ARGV[2]))
  end
end

keep_index(KEYS[1])
if ARGV[3] == 'one' then
  if redis.call('ZSCORE', KEYS[2], ARGV[4]) then return { ARGV[4] } end
  return {}
end
-- A login whose password was checked before this must be checked again.
write_gate(KEYS[3], now_us, tonumber(ARGV[2]), gate.closed, 'generation', next_generation(gate, now_us))
return redis.call('ZRANGE', KEYS[2], 0, -1)
