-- keys: job ids attention
-- needs: record fitting attention
--
-- ARGV: offset, where to begin ('+' or '(' and an id), how many are wanted, how many to look at, filter (4).
-- Answers where to go on ('' at the end) and the ids that fit, newest first. Or 'attend': run that first.

if look_is_due() then return 'attend' end
local wanted, budget = tonumber(ARGV[3]), tonumber(ARGV[4])
local ids = call('ZREVRANGEBYLEX', IDS, ARGV[2], '-', 'LIMIT', 0, budget)
local found = {}
for k, s in ipairs(fetch(JOB, ids)) do
    if s and fits(s, ARGV[5], ARGV[6], ARGV[7], ARGV[8]) then
        found[#found + 1] = ids[k]
        if #found == wanted then return {'(' .. ids[k], found} end
    end
end
return {#ids == budget and '(' .. ids[#ids] or '', found}
