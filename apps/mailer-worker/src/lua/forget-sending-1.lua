--[[
  The mail server has refused the data: the mail is as it was before.

  KEYS[1] ledger of the mail

  Reply: 1 if the note was there
]]
if redis.call('GET', KEYS[1]) == 'sending' then
  return redis.call('DEL', KEYS[1])
end
return 0
