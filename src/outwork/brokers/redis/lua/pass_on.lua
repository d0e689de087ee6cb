-- keys: ready later
-- needs: record tally waiting
--
-- ARGV: offset, queues. A worker stopped waiting and may have swallowed a ring: ring again where something is ready.

for i = 2, #ARGV do
    if first_of(READY, ARGV[i]) or first_of(LATER, ARGV[i]) then ring(ARGV[i]) end
end
return 1
