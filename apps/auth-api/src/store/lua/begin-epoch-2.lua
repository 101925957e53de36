--[[
  Begins a new epoch, unless somebody else has, or this Redis has lost nothing: whoever asks may have looked at another one of the same name.

  KEYS[1] epoch        hash {id, born}
  KEYS[2] revocations  stream

  ARGV[1] id of the epoch that is to end; '' : there must be none
  ARGV[2] id of the new one
  ARGV[3] instant (us) after all that is known of the log and of earlier births: it is not born before that, whatever a clock says
  ARGV[4] id of an entry of the epoch that is to end, whose absence shows that it is lost; '0-0': it is without that
  ARGV[5] second until which that entry matters, and stays in the log

  Returns 1 if it began, 0 if another epoch is there already or nothing is lost here.
]]
local function parts(entry)
  local ms, count = string.match(entry, '^(%d+)-(%d+)$')
  return tonumber(ms), tonumber(count)
end

local function lost(entry, until_s)
  if entry == '0-0' then return true end
  local info = redis.pcall('XINFO', 'STREAM', KEYS[2])
  if info.err then return true end
  local last
  for at = 1, #info, 2 do
    if info[at] == 'last-generated-id' then last = info[at + 1] end
  end
  local entry_ms, entry_count = parts(entry)
  local last_ms, last_count = parts(last)
  if last_ms < entry_ms or last_ms == entry_ms and last_count < entry_count then return true end
  return last_ms < until_s * 1000 and #redis.call('XRANGE', KEYS[2], entry, entry) == 0
end

local id = redis.call('HGET', KEYS[1], 'id') or ''
if id ~= ARGV[1] and id ~= '' then return 0 end
if id ~= '' and not lost(ARGV[4], tonumber(ARGV[5])) then return 0 end
redis.call('HSET', KEYS[1], 'id', ARGV[2], 'born', text(math.max(clock(), tonumber(ARGV[3]))))
return 1
