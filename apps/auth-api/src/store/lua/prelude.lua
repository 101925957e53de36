-- Put before every script by store/lua.ts.

-- Lua prints large numbers with an exponent; instants are wanted digit by digit.
local function text(number) return string.format('%.0f', number) end

-- Microseconds by the one clock that issue and revocation share.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- The gate of a user: what was issued at or before `cutoff` is refused, while `closed` lies ahead nothing is issued.
local function read_gate(key)
  local gate = redis.call('HMGET', key, 'cutoff', 'closed_until', 'suspended_until', 'last_issued', 'generation')
  local closed_until, suspended_until = tonumber(gate[2] or 0), tonumber(gate[3] or 0)
  return {
    cutoff = tonumber(gate[1] or 0),
    closed_until = closed_until,
    suspended_until = suspended_until,
    closed = math.max(closed_until, suspended_until),
    last_issued = tonumber(gate[4] or 0),
    generation = gate[5] or '0',
  }
end

-- Index and gate live as long as the longest-lived session, and the gate as long as access tokens and a closed door.
local function keep(sessions, gate, now_us, access_ms, closed_us)
  local last = redis.call('ZRANGE', sessions, -1, -1, 'WITHSCORES')[2]
  if last == 'inf' then
    redis.call('PERSIST', sessions)
    redis.call('PERSIST', gate)
    return
  end
  local now_ms = math.floor(now_us / 1000)
  local last_ms = tonumber(last or 0)
  if last then redis.call('PEXPIREAT', sessions, text(last_ms)) end
  redis.call('PEXPIREAT', gate, text(math.max(last_ms, now_ms + access_ms, math.ceil((closed_us or 0) / 1000))))
end
