-- keys: job body errors result
--
-- ARGV: offset, ids. Answers the time and, for each kind of thing, one value for each job.

local ids = {}
for i = 2, #ARGV do ids[#ids + 1] = ARGV[i] end
return {string.format('%.6f', now), fetch(JOB, ids), fetch(BODY, ids), fetch(ERRORS, ids), fetch(RESULT, ids)}
