-- What is claimed. CLAIMS holds claim id NUL worker, by the earliest moment at which one of its leases may end (a lower
-- bound: tend corrects it when it comes by). HELD holds, for each claim, how many jobs it still has ('n' and claim id)
-- and which it began with ('i' and claim id): a claim costs two writes, however many jobs it has.

-- The jobs that a claim holds: their ids and records.
local function held_by(claim)
    local all, ids, records = call('HGET', HELD, 'i' .. claim), {}, {}
    if not all then return ids, records end
    local began = {}
    for id in string.gmatch(all, '[^%z]+') do began[#began + 1] = id end
    for k, s in ipairs(fetch(JOB, began)) do
        if s and byte(s, 1) == RUNNING and claim_of(s, tail_of(s)) == claim then
            ids[#ids + 1] = began[k]
            records[#records + 1] = s
        end
    end
    return ids, records
end

-- A claim lost some of its jobs.
local function let_go(claim, worker, jobs)
    if call('HINCRBY', HELD, 'n' .. claim, -jobs) <= 0 then
        call('HDEL', HELD, 'n' .. claim, 'i' .. claim)
        call('ZREM', CLAIMS, claim .. '\0' .. worker)
    end
end
