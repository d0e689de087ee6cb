-- keys: job running claims
-- needs: record
--
-- ARGV: offset, lease, then pairs of id and claim id. Answers the ids that are lost and those asked to stop.

call('ZREM', RUNNING, '') -- a full server must not refuse what follows
local lease = ARGV[2]
local ids, put, lost, cancel, claims = {}, {}, {}, {}, {}
for i = 3, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local lease_until = pack('>d', now + lease)
for k, s in ipairs(fetch(JOB, ids)) do
    local claim = ARGV[2 * k + 2]
    local t = s and tail_of(s)
    if s and byte(s, 1) == RUNNING_BYTE and claim_of(s, t) == claim then
        put[#put + 1] = ids[k]
        put[#put + 1] = sub(s, 1, t + 7) .. lease_until .. sub(s, t + 16)
        claims[claim] = worker_of(s, t)
        if has(byte(s, 2), ASKED) then cancel[#cancel + 1] = ids[k] end
    else
        lost[#lost + 1] = ids[k]
    end
end
many('HSET', JOB, put)
-- The score of a claim is a lower bound of its leases: it is never raised here, tend does that when it comes by.
for claim, worker in pairs(claims) do
    call('ZADD', CLAIMS, 'XX', 'LT', string.format('%.17g', now + lease), claim .. '\0' .. worker)
end
return {lost, cancel}
