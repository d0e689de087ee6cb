-- keys: job ready later aside knots expiry counts outbox pace ties cell attention until paused
-- needs: record tally waiting outbox ties cells gates following
--
-- ARGV: offset, verb (pause, resume), what. PAUSED holds what is paused, with since when.

call('HDEL', CELL, '') -- a full server must not refuse what follows
local resuming = 'resume:' .. ARGV[3]
if ARGV[2] == 'resume' then
    call('HDEL', PAUSED, ARGV[3])
    cell_of(resuming)
    put_cell(resuming, resume(ARGV[3]) and {at = now} or nil)
elseif not call('HGET', PAUSED, ARGV[3]) then
    call('HSET', PAUSED, ARGV[3], exact(now))
    cell_of(resuming)
    put_cell(resuming, nil)
end
write_cells()
write_tally()
ring_for_entries()
return 1
