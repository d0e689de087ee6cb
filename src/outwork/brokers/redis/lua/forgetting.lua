-- Forget jobs that have ended or wait; their records are given. (What ENDED says of them is left to tend.)

local function forget(ids, records)
    local bodies, results, histories, tied = {}, {}, {}, {}
    for k, s in ipairs(records) do
        local names, flags = names_of(s), byte(s, 18)
        if has(flags, BODY_APART) then bodies[#bodies + 1] = ids[k] end
        if has(flags, RESULT_APART) then results[#results + 1] = ids[k] end
        if has(flags, HISTORY) then histories[#histories + 1] = ids[k] end
        if has(flags, TIED) then tied[#tied + 1] = ids[k] end
        if waits(s) then
            withdraw(ids[k], s, names)
        else
            count(sub(s, 1, 1), names, -1)
        end
    end
    many('HDEL', JOB, ids)
    many('HDEL', BODY, bodies)
    many('HDEL', RESULT, results)
    many('HDEL', ERRORS, histories)
    many('HDEL', TIES, tied)
    if call('EXISTS', PROGRESS) == 1 then many('HDEL', PROGRESS, ids) end
    many('ZREM', IDS, ids)
end
