-- keys: job outbox ties
-- needs: record ties
--
-- ARGV: offset, how many. Answers the time, and the ids that a keeper is to send by now, for longest first, each with
-- the beginning of its record and whether it has gates.

local ids = call('ZRANGEBYSCORE', OUTBOX, '-inf', exact(now), 'LIMIT', 0, ARGV[2])
local found, gone = {}, {}
for k, s in ipairs(fetch(JOB, ids)) do
    if s and in_line(s) then
        found[#found + 1] = ids[k]
        found[#found + 1] = sub(s, 1, body_of(s) - 1)
        found[#found + 1] = has(byte(s, 18), TIED) and gates_of(ids[k]) and '1' or ''
    else
        gone[#gone + 1] = ids[k] -- somebody claimed it here, and not by its message
    end
end
many('ZREM', OUTBOX, gone)
return {string.format('%.6f', now), found}
