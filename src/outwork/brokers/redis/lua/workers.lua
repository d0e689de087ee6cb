-- keys: workers alive
--
-- ARGV: offset. Answers the presence of those seen within their time, each after the 8 bytes of when that was.

return fetch(WORKERS, call('ZRANGEBYSCORE', ALIVE, exact(now), '+inf'))
