-- keys: job ended
-- needs: record fitting
--
-- ARGV: offset, first rank, how many to look at, filter (4), ages of SUCCESSFUL and of other jobs, in seconds.
-- Answers how many were looked at and the ids of those that fit and ended so long ago.

local from, budget = tonumber(ARGV[2]), tonumber(ARGV[3])
local ids = call('ZRANGE', ENDED, from, from + budget - 1)
local found = {}
for k, s in ipairs(fetch(JOB, ids)) do
    local age = now - (sub(s, 1, 1) == 'D' and ARGV[8] or ARGV[9])
    if number_at('>d', s, tail_of(s) + 16) <= age and fits(s, ARGV[4], ARGV[5], ARGV[6], ARGV[7]) then
        found[#found + 1] = ids[k]
    end
end
return {#ids, found}
