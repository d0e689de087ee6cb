-- group, channel, expiry
local group = P .. 'g:' .. ARGV[1]
redis.call('ZADD', group, now + tonumber(ARGV[3]), ARGV[2])
redis.call('ZREMRANGEBYSCORE', group, '-inf', now)
redis.call('PEXPIRE', group, math.max(math.ceil(tonumber(ARGV[3]) * 1000), redis.call('PTTL', group)))
return 0
