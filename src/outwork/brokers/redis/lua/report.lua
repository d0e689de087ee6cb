-- keys: job cell progress
-- needs: record
--
-- ARGV: offset, then for each report: id, claim id, progress. PROGRESS holds the last one of each job.

call('HDEL', CELL, '') -- a full server must not refuse what follows
local ids, put = {}, {}
for i = 2, #ARGV, 3 do ids[#ids + 1] = ARGV[i] end
for k, s in ipairs(fetch(JOB, ids)) do
    if s and byte(s, 1) == RUNNING and claim_of(s, tail_of(s)) == ARGV[3 * k] then
        put[#put + 1] = ids[k]
        put[#put + 1] = ARGV[3 * k + 1]
    end
end
many('HSET', PROGRESS, put)
return 1
