-- keys: job ended
-- needs: record ending fitting
--
-- ARGV: offset, first rank, how many to look at, filter (4), ages of SUCCESSFUL and of other jobs, in seconds.
-- Answers the rank to go on from (-1 at the end) and the ids of those that fit and ended so long ago. One that was
-- retried by hand and ended again may come twice.

local rank, budget = tonumber(ARGV[2]), tonumber(ARGV[3])
local found, looked = {}, 0
while looked < budget do
    local member = call('ZRANGE', ENDED, rank, rank)[1]
    if not member then return {-1, found} end
    rank = rank + 1
    local ids = ids_in(member)
    looked = looked + #ids
    for k, s in ipairs(fetch(JOB, ids)) do
        if s and has_ended(s) then
            local age = now - (byte(s, 1) == 68 and ARGV[8] or ARGV[9])
            if number_at('>d', s, 10) <= age and fits(s, ARGV[4], ARGV[5], ARGV[6], ARGV[7]) then
                found[#found + 1] = ids[k]
            end
        end
    end
end
return {rank, found}
