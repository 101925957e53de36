--[[
  Whether access tokens still stand for their sessions: all that are asked about at once.

  of each token
  KEYS  session  hash
  KEYS  gate     hash
  ARGV  instant (us) at which it was issued

  Returns of each token 1: the session lives and the token is not cut off; 0; or an error
]]
local function is_live(session_key, gate_key, issued_us)
  if redis.call('EXISTS', session_key) == 0 then return 0 end
  return tonumber(issued_us) > tonumber(redis.call('HGET', gate_key, 'cutoff') or 0) and 1 or 0
end

local answers = {}
for n, issued_us in ipairs(ARGV) do answers[n] = alone(is_live, KEYS[2 * n - 1], KEYS[2 * n], issued_us) end
return answers
