-- keys: job ready later expiry counts attention
-- needs: record tally waiting attention
--
-- ARGV: offset, batch. Makes ready what is due, then answers the counts; 1 if more is due. Or
-- 'attend': run that first.

if look_is_due() then return 'attend' end
local more = 0
for _, field in ipairs(call('HKEYS', COUNTS)) do
    if byte(field, 1) == SCHEDULED and promote(queue_of(sub(field, 2)), tonumber(ARGV[2])) >= tonumber(ARGV[2]) then
        more = 1
    end
end
write_tally()
ring_for_entries()
return {more, call('HGETALL', COUNTS)}
