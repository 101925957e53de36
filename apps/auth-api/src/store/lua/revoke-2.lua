--[[
  Appends to the revocation log and takes from its start what no longer matters.

  KEYS[1] revocations  stream
  KEYS[2] line life    string: the seconds a line lives at least, as other instances say (announce-life-1.lua)

  ARGV[1] seconds what is revoked can live at most
  ARGV[2] instant (us) at which the last of it was issued, if that may lie ahead of the clock; 0
  ARGV[3] …  of each entry the name of its field, and its text but for `until` (packages/verifier/src/log-entry.ts)

  Returns the second from which none of it matters any more, and the id of the last entry.
]]
-- Never before the last line, whatever a clock does: verifiers count by the ids, and those never fall back.
local now_s = tonumber(redis.call('TIME')[1])
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)[1]
if last then now_s = math.max(now_s, math.floor(tonumber(string.match(last[1], '^%d+')) / 1000)) end
-- A clock that has stepped back: what was issued ahead of it outlives what is issued now. By a day at most, which is more than a clock set
-- to another time zone is off: a line that stays keeps all that come after it, and nobody can say whether this instant ever was.
local issued_s = math.min(math.ceil(tonumber(ARGV[2]) / 1000000), now_s + 86400)
local life_s = math.max(tonumber(ARGV[1]), tonumber(redis.call('GET', KEYS[2]) or 0))
local until_s = math.max(now_s, issued_s) + life_s
local id
for at = 3, #ARGV, 2 do id = redis.call('XADD', KEYS[1], '*', ARGV[at], until_s .. ' ' .. ARGV[at + 1]) end

-- By what each entry says of itself: another instance may have been told of another life.
local function still_matters(fields) return tonumber(string.match(fields[2], '^%d+') or 0) >= now_s end
local from = '-'
-- So many at a time, after a quiet time too: Redis serves nobody else meanwhile. Each write takes away more than it adds.
for _ = 1, 64 do
  for _, entry in ipairs(redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', 64)) do
    if still_matters(entry[2]) then
      redis.call('XTRIM', KEYS[1], 'MINID', '=', entry[1])
      return { until_s, id }
    end
    from = '(' .. entry[1]
  end
end
redis.call('XTRIM', KEYS[1], 'MINID', '=', string.sub(from, 2))
return { until_s, id }
