-- keys: job body errors result ready later expiry ended ids counts watch running
-- needs: record tally waiting ending forgetting
--
-- ARGV: offset, verb (cancel, retry, delete, prune), keep_failed, ids. Answers a letter for each, '-' for unknown: the
-- state afterwards, or for a delete the one before. Jobs are taken one after the other, since one may be named twice.

call('ZREM', RUNNING, '') -- a full server must not refuse what follows
local verb, keep_failed = ARGV[2], ARGV[3]
local answers = {}

local function cancel(id, s, t, names)
    if waits(s) then
        withdraw(id, s, names)
        count('C', names, 1)
        s = sub(s, 1, t + 23) .. '\0' .. worker_of(s, t)
        s = finish(id, s, t, 'C', keep_failed)
    elseif byte(s, 1) == RUNNING_BYTE then
        s = sub(s, 1, 1) .. char(with(byte(s, 2), ASKED)) .. sub(s, 3)
    else
        return s
    end
    call('HSET', JOB, id, s)
    return s
end

local function retry(id, s, t, names)
    local state = sub(s, 1, 1)
    if state ~= 'F' and state ~= 'C' then return s end
    local flags = byte(s, 2)
    count(state, names, -1)
    call('ZREM', ENDED, id)
    s = 'R' .. char((flags % 2) + (has(flags, HISTORY) and HISTORY or 0)) .. sub(s, 3, 5) .. pack('>d', now)
        .. string.rep('\0', 12) .. sub(s, 26, 37) .. string.rep('\0', 8) .. names .. sub(s, t, t + 7)
        .. string.rep('\0', 17) .. worker_of(s, t)
    call('HSET', JOB, id, s)
    enter(id, s, names)
    return s
end

for i = 4, #ARGV do
    local id = ARGV[i]
    local s = call('HGET', JOB, id)
    if not s then
        answers[#answers + 1] = '-'
    else
        local t = tail_of(s)
        local names = sub(s, 46, t - 1)
        if verb == 'cancel' then
            s = cancel(id, s, t, names)
        elseif verb == 'retry' then
            s = retry(id, s, t, names)
            write_entries()
        elseif byte(s, 1) ~= RUNNING_BYTE and not (verb == 'prune' and waits(s)) then
            forget({id}, {s})
            finished[#finished + 1] = id
        end
        answers[#answers + 1] = state_of(s)
    end
end
write_endings()
write_tally()
ring_for_entries()
return table.concat(answers)
