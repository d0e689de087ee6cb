-- Forget jobs that have ended or wait; their records are given.

local function forget(ids, records)
    for k, s in ipairs(records) do
        local names = sub(s, 46, tail_of(s) - 1)
        if waits(s) then
            withdraw(ids[k], s, names)
        else
            count(sub(s, 1, 1), names, -1)
        end
    end
    for _, key in ipairs({JOB, BODY, ERRORS, RESULT}) do many('HDEL', key, ids) end
    for _, key in ipairs({ENDED, IDS}) do many('ZREM', key, ids) end
end
