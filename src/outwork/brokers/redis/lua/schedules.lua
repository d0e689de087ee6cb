-- keys: schedules
--
-- ARGV: offset. Answers the last slot of each schedule.

return call('HGETALL', SCHEDULES)
