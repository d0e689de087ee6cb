-- keys: job body ready later aside knots expiry ids counts outbox pace ties cell attention until paused schedules
-- needs: record tally waiting outbox ties cells laying attention batch
-- opens: gates following rebinding turns
-- then: binding
--
-- ARGV: offset, schedule, its last slot ('' for none), the next one (8 bytes each), then the jobs, see `binding`.
-- Answers 1, or 0 if its last slot is another one.

if (call('HGET', SCHEDULES, ARGV[2]) or '') ~= ARGV[3] then return 0 end
if ARGV[5] then bind(5) end
call('HSET', SCHEDULES, ARGV[2], ARGV[4])
write_tally()
ring_for_batch()
return 1
