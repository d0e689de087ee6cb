-- keys: job body ready later aside knots expiry ids counts outbox pace ties cell attention until paused
-- needs: record tally waiting outbox ties cells laying attention batch
-- opens: gates following rebinding turns
-- then: binding
--
-- ARGV: offset, then the jobs, see `binding`. Answers one text for each, see `let_in`.

local answers = bind(2)
write_tally()
ring_for_batch()
return answers
