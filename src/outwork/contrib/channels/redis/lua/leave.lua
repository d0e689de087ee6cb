-- group, channel
return redis.call('ZREM', P .. 'g:' .. ARGV[1], ARGV[2])
