--[[
  Moves a user's cut-off and door. What was issued at or before the cut-off is refused; while the door is closed nothing is issued.

  KEYS[1] gate      hash
  KEYS[2] sessions  sorted set: session id → expiry (ms)

  ARGV[1] what a session's key holds before its id
  ARGV[2] cut-off us; '' : now. A later instant closes the door until then instead: nothing can be issued before it, so the cut-off is now
  ARGV[3] 'keep', or the instant (us) until which the user is suspended, 0: no more
  ARGV[4] ms access tokens may live (ACCESS_TOKEN_TTL): the gate is kept at least that long

  Sessions whose tokens are all refused now are forgotten.

  Returns {cut-off us, closed until us, suspended until us}
]]
local now_us = clock()
local gate = read_gate(KEYS[1])
local cutoff_us, closed_us, suspended_us = gate.cutoff, gate.closed_until, gate.suspended_until

-- After everything that was issued, whatever a clock does: a clock that stepped back must not save a token.
local latest_us = math.max(now_us, gate.last_issued)
local asked_us = ARGV[2] == '' and latest_us or tonumber(ARGV[2])
if asked_us > latest_us then
  closed_us = math.max(closed_us, asked_us)
  asked_us = latest_us
end
cutoff_us = math.max(cutoff_us, asked_us)
if ARGV[3] ~= 'keep' then suspended_us = tonumber(ARGV[3]) end

for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local issued = redis.call('HGET', ARGV[1] .. id, 'issued_at')
  if not issued or tonumber(issued) <= cutoff_us then
    redis.call('DEL', ARGV[1] .. id)
    redis.call('ZREM', KEYS[2], id)
  end
end

redis.call('HSET', KEYS[1], 'cutoff', text(cutoff_us), 'closed_until', text(closed_us), 'suspended_until', text(suspended_us))
redis.call('HINCRBY', KEYS[1], 'generation', 1)
keep(KEYS[2], KEYS[1], now_us, tonumber(ARGV[4]), math.max(closed_us, suspended_us))
return { text(cutoff_us), text(closed_us), text(suspended_us) }
