-- keys: ready later attention
-- needs: record tally waiting attention
--
-- ARGV: offset, queues. Answers 'now' if there is work, or in how many seconds a job is due, or ''. Rings that are left
-- over from work that others took are removed, so that they wake nobody.

local next_due = (next_look() or math.huge) - now
for i = 2, #ARGV do
    if first_of(READY, ARGV[i]) then return 'now' end
    local due = first_of(LATER, ARGV[i])
    if due then next_due = math.min(next_due, due_of(due, ARGV[i]) - now) end
end
if next_due <= 0 then return 'now' end
local bells = {}
for i = 2, #ARGV do bells[#bells + 1] = PREFIX .. 'bell:' .. ARGV[i] end
if #bells > 0 then call('DEL', unpack(bells)) end
return next_due < math.huge and string.format('%.6f', next_due) or ''
