-- keys: workers alive stops
--
-- ARGV: offset, worker.

call('ZREM', ALIVE, ARGV[2])
call('HDEL', WORKERS, ARGV[2])
many('ZREM', STOPS, call('ZRANGEBYLEX', STOPS, '[' .. ARGV[2] .. '\0', '(' .. ARGV[2] .. '\1'))
return 1
