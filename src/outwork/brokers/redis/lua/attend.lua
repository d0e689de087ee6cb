-- keys: job ready later aside knots expiry counts outbox pace ties cell attention until paused
-- needs: record tally waiting outbox ties cells gates following
--
-- ARGV: offset. Looks at the cells whose time has come.

attend()
write_tally()
ring_for_entries()
return 1
