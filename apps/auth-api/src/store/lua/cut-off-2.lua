--[[
  Moves a user's cut-off and door. What was issued at or before the cut-off is refused; while the door is closed nothing is issued.

  KEYS[1] gate      hash
  KEYS[2] sessions  sorted set: session id → expiry (ms)

  ARGV[1] what a session's key holds before its id
  ARGV[2] cut-off us; '' : now. A later instant closes the door until then instead: nothing can be issued before it, so the cut-off is now
  ARGV[3] 'keep', or the instant (us) until which the user is suspended, 0: no more
  ARGV[4] ms access tokens may live (ACCESS_TOKEN_TTL): the gate is kept at least that long

  Sessions whose tokens are all refused now are forgotten. Ending a suspension that is not there changes nothing.

  Returns {cut-off us, closed until us, suspended until us}
]]
local now_us = clock()
local gate = read_gate(KEYS[1])
local cutoff_us, closed_us, suspended_us = gate.cutoff, gate.closed_until, gate.suspended_until
-- Lifting what is not there, or a second time because the answer was lost, ends nobody's session.
if ARGV[3] == '0' and suspended_us <= now_us then return { text(cutoff_us), text(closed_us), text(suspended_us) } end

-- When what opens each session again was issued: its refresh token, or its opaque one.
local opened = {}
-- A cut-off comes after everything that was issued, whatever a clock does: one that stepped back must not save a token.
local latest_us = math.max(now_us, gate.last_issued)
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local session = redis.call('HMGET', ARGV[1] .. id, 'counter', 'seen', 'created', 'rotated')
  latest_us = math.max(latest_us, tonumber((session[1] and session[2] or session[3]) or 0))
  opened[id] = tonumber(session[4] or session[3] or 0)
end

local asked_us = ARGV[2] == '' and latest_us or tonumber(ARGV[2])
if asked_us > latest_us then
  closed_us = math.max(closed_us, asked_us)
  asked_us = latest_us
end
cutoff_us = math.max(cutoff_us, asked_us)
if ARGV[3] ~= 'keep' then suspended_us = tonumber(ARGV[3]) end

for id, opened_us in pairs(opened) do
  if opened_us <= cutoff_us then
    redis.call('DEL', ARGV[1] .. id)
    redis.call('ZREM', KEYS[2], id)
  end
end
keep_index(KEYS[2])

write_gate(KEYS[1], now_us, tonumber(ARGV[4]), math.max(closed_us, suspended_us), 'cutoff', text(cutoff_us),
  'closed_until', text(closed_us), 'suspended_until', text(suspended_us), 'last_issued', text(latest_us),
  'generation', next_generation(gate, now_us))
return { text(cutoff_us), text(closed_us), text(suspended_us) }
