--[[
  Whether access tokens still stand for their sessions: all that are asked about at once.

  of each token
  KEYS  session  hash
  KEYS  gate     hash
  ARGV  instant (us) at which it was issued
  then, unless on Redis Cluster, where users have slots of their own
  KEYS  log      stream

  Returns { of each token 1: the session lives and the token is not cut off; 0; or an error }, and if asked the id of the log's last entry
]]
local function is_live(session_key, gate_key, issued_us)
  if redis.call('EXISTS', session_key) == 0 then return 0 end
  return tonumber(issued_us) > tonumber(redis.call('HGET', gate_key, 'cutoff') or 0) and 1 or 0
end

local answers = {}
for n, issued_us in ipairs(ARGV) do answers[n] = alone(is_live, KEYS[2 * n - 1], KEYS[2 * n], issued_us) end

local log = KEYS[2 * #ARGV + 1]
if not log then return { answers } end
local last = redis.call('XREVRANGE', log, '+', '-', 'COUNT', 1)[1]
return { answers, last and last[1] or '0-0' }
