-- keys: job held claims
-- needs: record
--
-- ARGV: offset, lease, then pairs of id and claim id. Answers the ids that are lost and those asked to stop.

call('HDEL', HELD, '') -- a full server must not refuse what follows
local ids, put, lost, cancel, claims = {}, {}, {}, {}, {}
for i = 3, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local lease_until = pack('>d', now + ARGV[2])
for k, s in ipairs(fetch(JOB, ids)) do
    local claim = ARGV[2 * k + 2]
    local t = s and tail_of(s)
    if s and byte(s, 1) == RUNNING and claim_of(s, t) == claim then
        put[#put + 1] = ids[k]
        put[#put + 1] = 'X' .. lease_until .. sub(s, 10)
        claims[claim] = worker_of(s, t)
        if has(byte(s, 18), ASKED) then cancel[#cancel + 1] = ids[k] end
    else
        lost[#lost + 1] = ids[k]
    end
end
many('HSET', JOB, put)
-- The score of a claim is a lower bound of its leases: it is never raised here, tend does that when it comes by.
for claim, worker in pairs(claims) do
    call('ZADD', CLAIMS, 'XX', 'LT', exact(now + ARGV[2]), claim .. '\0' .. worker)
end
return {lost, cancel}
