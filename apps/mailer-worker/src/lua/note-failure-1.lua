--[[
  The mail failed for good while nobody held its job: notes why, for when the job comes back (take-mail-3.lua), unless the mail has ended.

  KEYS[1] ledger of the mail

  ARGV[1] why
  ARGV[2] seconds the ledger remembers

  Reply: 1 if it was noted, 0 if the mail has ended.
]]
local note = redis.call('GET', KEYS[1])
if note == 'accepted' or note == 'withdrawn' then
  return 0
end
-- Whether it may have arrived stays said, however many tries of this mail end with one conversation.
local begun = note and (note == 'sending' or string.find(note, '^failed:sending:'))
redis.call('SET', KEYS[1], 'failed:' .. (begun and 'sending' or '') .. ':' .. ARGV[1], 'EX', ARGV[2])
return 1
