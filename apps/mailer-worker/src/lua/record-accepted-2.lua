--[[
  A mail server has taken the mail: notes it, and reports it to auth-api.

  KEYS[1] ledger of the mail
  KEYS[2] mails accepted and not yet acknowledged, of the same hash tag

  ARGV[1] id of the mail
  ARGV[2] seconds the ledger remembers

  Reply: RECORDED, which no other command answers
]]
redis.call('SET', KEYS[1], 'accepted', 'EX', ARGV[2])
redis.call('SADD', KEYS[2], ARGV[1])
return redis.status_reply('RECORDED')
