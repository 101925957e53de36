--[[
  Whether a mail may be sent now. If it may, its place in the pace of its domain and of its recipient is taken; if it has to wait, a place
  to come is reserved for it, so that it waits once and is not overtaken.

  The pace is a token bucket, kept as the instant (milliseconds of Redis TIME) at which it will be full again (GCRA, ITU-T I.371).

  KEYS[1] ledger of the mail
  KEYS[2] pace of the domain
  KEYS[3] pace of the recipient

  ARGV[1] seconds the ledger remembers
  ARGV[2] milliseconds between two mails to the domain
  ARGV[3] mails to the domain at once
  ARGV[4], ARGV[5] the same of the recipient

  Reply: 'accepted' or 'withdrawn': not to be sent; a list of one: why it failed; 'go'; or the milliseconds it has to wait.
]]
local note = redis.call('GET', KEYS[1])
if note == 'accepted' or note == 'withdrawn' then
  return note
end

-- Told once: the job ends by it, and if an operator has it tried again the mail server is asked. What was known before is known again.
local before, failure = string.match(note or '', '^failed:(%a*):(.*)$')
if failure then
  if before == '' then
    redis.call('DEL', KEYS[1])
  else
    redis.call('SET', KEYS[1], before, 'EX', ARGV[1])
  end
  return { failure }
end

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local reserved = note and string.match(note, '^reserved:(%d+)$')
if reserved then
  local wait = tonumber(reserved) - now
  if wait > 0 then
    return wait
  end
  redis.call('DEL', KEYS[1])
  return 'go'
end

local wait = 0
for bucket = 2, 3 do
  local interval = tonumber(ARGV[bucket * 2 - 2])
  local burst = tonumber(ARGV[bucket * 2 - 1])
  local full = math.max(tonumber(redis.call('GET', KEYS[bucket]) or now), now) + interval
  redis.call('SET', KEYS[bucket], string.format('%.3f', full), 'PX', math.ceil(full - now))
  wait = math.max(wait, math.ceil(full - now - interval * burst))
end

-- A mail whose data has been begun keeps that note: it is worth more than its place.
if wait <= 0 or note == 'sending' then
  return 'go'
end
redis.call('SET', KEYS[1], 'reserved:' .. string.format('%d', now + wait), 'EX', ARGV[1])
return wait
