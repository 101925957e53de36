--[[
  The mail's data is about to be sent: notes it, unless the mail has ended.

  KEYS[1] ledger of the mail

  ARGV[1] the note: sending
  ARGV[2] seconds the ledger remembers

  Reply: the earlier note, 'sending', 'accepted' or 'withdrawn'; false if the data was never begun.
]]
local note = redis.call('GET', KEYS[1])
if note == 'accepted' or note == 'withdrawn' then
  return note
end
redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])
return note == ARGV[1] and note
