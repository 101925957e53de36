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
  ARGV[7] 'jwt' | 'opaque': a JWT pair has a counter
  ARGV[8] the device, packed
  ARGV[9] its name, which each answer to a refresh holds; '' for none
  ARGV[10] instant (us) of the epoch's birth: nothing is issued before it, and what was is gone

  Returns {'ok', issued us, life ms, 1 if it is the user's only session, ended session id …}: those whose end is owed to the revocation
                             log, the evicted ones among them
       or {'closed', until us}   suspended, or cut off until an instant to come
       or {'changed'}            everything was revoked since the password was checked: check it again
]]
local now_us = clock()
local now_ms = math.floor(now_us / 1000)
local gate = read_gate(KEYS[4])
if gate.closed > now_us then return { 'closed', text(gate.closed) } end
if gate.generation ~= ARGV[6] then return { 'changed' } end
-- One order for issue and cut-off, whatever a clock does.
local born_us = tonumber(ARGV[10])
local issued_us = math.max(now_us, gate.cutoff + 1, born_us)

local function remove(id)
  redis.call('DEL', ARGV[5] .. id)
  redis.call('ZREM', KEYS[2], id)
end

redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now_ms)
local others = {}
for _, id in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  local session = redis.call('HMGET', ARGV[5] .. id, 'created', 'seen')
  local created_us = tonumber(session[1] or 0)
  -- Opened before the epoch's birth: it came back with an older copy of Redis and is refused everywhere.
  if created_us < born_us then
    remove(id)
  else
    others[#others + 1] = { id = id, created = created_us, seen = tonumber(session[2] or 0) }
  end
end

-- The oldest go first.
local surplus = #others + 1 - tonumber(ARGV[3])
if surplus > 0 then
  table.sort(others, function(a, b) return a.created < b.created end)
  for n = 1, surplus do
    remove(others[n].id)
    owe_end(KEYS[3], others[n].id, now_us, others[n].seen, tonumber(ARGV[4]))
  end
end

local issued = text(issued_us)
redis.call('HSET', KEYS[1], 'created', issued, 'seen', issued, 'device', ARGV[8])
if ARGV[9] ~= '' then redis.call('HSET', KEYS[1], 'device_name', ARGV[9]) end
if ARGV[7] == 'jwt' then redis.call('HSET', KEYS[1], 'counter', 0) end

local life_ms = tonumber(ARGV[2])
if life_ms < 0 then
  redis.call('ZADD', KEYS[2], '+inf', ARGV[1])
else
  redis.call('PEXPIRE', KEYS[1], life_ms)
  redis.call('ZADD', KEYS[2], now_ms + life_ms, ARGV[1])
end
keep_index(KEYS[2])
remember_issue(KEYS[4], gate, now_us, issued_us, life_ms, tonumber(ARGV[4]))

local result = { 'ok', issued, life_ms, #others == 0 and 1 or 0 }
redis.call('ZREMRANGEBYSCORE', KEYS[3], '-inf', now_ms)
for _, id in ipairs(redis.call('ZRANGE', KEYS[3], 0, -1)) do result[#result + 1] = id end
return result
