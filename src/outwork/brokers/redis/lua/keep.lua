-- keys: job ids outbox pace
-- needs: record outbox
--
-- ARGV: offset, horizon, grace, stale, where to begin ('-' or '(' and an id), how many to look at. Keeps an outbox from
-- now on, and puts in it what waits already. Answers where to go on, '' when that is done.

local known = call('HMGET', PACE, 'horizon', 'grace', 'stale', 'whole')
if known[1] ~= ARGV[2] or known[2] ~= ARGV[3] or known[3] ~= ARGV[4] then
    call('HSET', PACE, 'horizon', ARGV[2], 'grace', ARGV[3], 'stale', ARGV[4])
end
if known[4] then return '' end
local ids = call('ZRANGEBYLEX', IDS, ARGV[5], '+', 'LIMIT', 0, ARGV[6])
for k, s in ipairs(fetch(JOB, ids)) do
    if s and in_line(s) and not call('ZSCORE', OUTBOX, ids[k]) then mark(ids[k], s, false) end
end
write_marks()
if #ids == tonumber(ARGV[6]) then return '(' .. ids[#ids] end
call('HSET', PACE, 'whole', 1)
return ''
