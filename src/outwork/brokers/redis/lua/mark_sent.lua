-- keys: outbox pace
-- needs: record outbox
--
-- ARGV: offset, ids. Those that are in the outbox are to be sent again after a long time only.

if not kept() then return 0 end
local again, put = exact(now + pace.stale), {}
for i = 2, #ARGV do
    put[#put + 1] = again
    put[#put + 1] = ARGV[i]
end
return call('ZADD', OUTBOX, 'XX', unpack(put))
