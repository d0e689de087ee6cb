-- keys: workers alive
--
-- ARGV: offset, worker.

call('ZREM', ALIVE, ARGV[2])
call('HDEL', WORKERS, ARGV[2])
return 1
