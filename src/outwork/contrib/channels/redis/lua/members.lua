-- group
return redis.call('ZRANGEBYSCORE', P .. 'g:' .. ARGV[1], '(' .. now, '+inf')
