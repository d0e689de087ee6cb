-- keys: job paused stops
-- needs: record
--
-- ARGV: offset, worker. Answers what is paused, and which jobs of this worker are to stop. STOPS holds, ordered by its
-- members alone, worker NUL id of those that were asked to.

local members = call('ZRANGEBYLEX', STOPS, '[' .. ARGV[2] .. '\0', '(' .. ARGV[2] .. '\1')
local ids, stop = {}, {}
for k, member in ipairs(members) do ids[k] = sub(member, #ARGV[2] + 2) end
for k, s in ipairs(fetch(JOB, ids)) do
    if s and byte(s, 1) == RUNNING and has(byte(s, 18), ASKED) then stop[#stop + 1] = ids[k] end
end
return {call('HKEYS', PAUSED), stop}
