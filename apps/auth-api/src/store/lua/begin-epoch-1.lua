--[[
  Begins a new epoch, unless somebody else has.

  KEYS[1] epoch  hash {id, born}

  ARGV[1] id of the epoch that is to end; '' : there must be none
  ARGV[2] id of the new one
  ARGV[3] instant (us) after all that is known of the log and of earlier births: it is not born before that, whatever a clock says

  Returns 1 if it began, 0 if another epoch is there already.
]]
local id = redis.call('HGET', KEYS[1], 'id') or ''
if id ~= ARGV[1] and id ~= '' then return 0 end
redis.call('HSET', KEYS[1], 'id', ARGV[2], 'born', text(math.max(clock(), tonumber(ARGV[3]))))
return 1
