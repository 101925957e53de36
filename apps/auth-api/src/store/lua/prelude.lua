-- Put before every script by store/lua.ts.

-- Lua prints large numbers with an exponent; instants need every digit.
local function text(number) return string.format('%.0f', number) end

-- The answer to one of many questions: its own error, if it has one.
local function alone(ask, ...)
  local done, answer = pcall(ask, ...)
  return done and answer or type(answer) == 'table' and answer or { err = tostring(answer) }
end

-- Microseconds by the one clock that issue and revocation share.
local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000000 + time[2]
end

-- The gate of a user: what was issued at or before `cutoff` is refused, while `closed` lies ahead nothing is issued.
-- Most users have none: it is there only for as long as it can matter.
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

-- Writes fields of the gate; it lives as long as access tokens issued until now, as a login may take (a minute is plenty), and as a
-- closed door.
local function write_gate(key, now_us, access_ms, closed_us, ...)
  redis.call('HSET', key, ...)
  local gate = redis.call('HMGET', key, 'cutoff', 'last_issued', 'generation')
  -- Those may lie ahead of a clock that has stepped back.
  local latest_us = math.max(now_us, tonumber(gate[1] or 0), tonumber(gate[2] or 0), tonumber(gate[3] or 0))
  redis.call('PEXPIREAT', key, text(math.ceil(math.max(latest_us / 1000 + math.max(access_ms, 60000), closed_us / 1000))))
end

-- Another generation: never one that was there before, whether the gate was forgotten meanwhile or not.
local function next_generation(gate, now_us) return text(math.max(now_us, tonumber(gate.generation) + 1)) end

-- An index of sessions lives as long as the longest-lived entry in it.
local function keep_index(sessions)
  local last = redis.call('ZRANGE', sessions, -1, -1, 'WITHSCORES')[2]
  if last == 'inf' then
    redis.call('PERSIST', sessions)
  elseif last then
    redis.call('PEXPIREAT', sessions, text(tonumber(last)))
  end
end

-- That a session has ended is owed to the log for as long as what it was issued lives: that may have been ahead of a clock that has stepped
-- back since. The log learns of it from the score.
local function owe_end(ended, session_id, now_us, seen_us, access_ms)
  redis.call('ZADD', ended, math.ceil(math.max(now_us, seen_us) / 1000) + access_ms, session_id)
  keep_index(ended)
end

-- A cut-off comes after everything that was issued, whatever a clock does. The sessions themselves tell when that was, but for a session
-- that will be gone before its access token.
local function remember_issue(key, gate, now_us, issued_us, life_ms, access_ms)
  if life_ms < 0 or life_ms >= access_ms then return end
  write_gate(key, now_us, access_ms, gate.closed, 'last_issued', text(math.max(issued_us, gate.last_issued)))
end
