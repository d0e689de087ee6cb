-- Forget jobs that have ended or wait; their records are given. (What ENDED says of them is left to tend.)

local function forget(ids, records)
    for k, s in ipairs(records) do
        local names = names_of(s)
        if waits(s) then
            withdraw(ids[k], s, names)
        else
            count(sub(s, 1, 1), names, -1)
        end
    end
    for _, key in ipairs({JOB, BODY, ERRORS, RESULT}) do many('HDEL', key, ids) end
    many('ZREM', IDS, ids)
end
