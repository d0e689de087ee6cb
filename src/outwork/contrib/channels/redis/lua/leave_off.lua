-- pipe, session: it does not want to be told any more
redis.call('SREM', P .. 'w:' .. ARGV[1], ARGV[2])
return 0
