-- keys: job body errors result knots ties attention
-- needs: record attention
--
-- ARGV: offset, ids. Answers the time, for each kind of thing one value for each job, and of jobs with ties and those
-- that are held back their place in the list (from 0), ties and knot. Or 'attend': run that first.

if look_is_due() then return 'attend' end
local ids = {}
for i = 2, #ARGV do ids[#ids + 1] = ARGV[i] end
local records, bound = fetch(JOB, ids), {}
for k, s in ipairs(records) do
    if s and (byte(s, 18) >= TIED or byte(s, 1) == HELD_BACK) then
        bound[#bound + 1] = k - 1
        bound[#bound + 1] = call('HGET', TIES, ids[k])
        bound[#bound + 1] = call('HGET', KNOTS, ids[k])
    end
end
return {
    string.format('%.6f', now), bound, records, fetch(BODY, ids), fetch(ERRORS, ids), fetch(RESULT, ids),
}
