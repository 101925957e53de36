--[[
  Says how long what this instance issues lives, so that a line of the revocation log lives as long, whoever writes it.

  KEYS[1] line life  string: seconds; the longest that was announced and still matters

  ARGV[1] seconds
]]
if tonumber(ARGV[1]) >= tonumber(redis.call('GET', KEYS[1]) or 0) then redis.call('SET', KEYS[1], ARGV[1], 'EX', ARGV[1]) end
