-- keys: job body errors result ready later expiry ended ids counts watch
-- needs: record tally waiting ending forgetting
--
-- ARGV: offset, verb (cancel, retry, delete, prune), keep_failed, ids. Answers a letter for each, '-' for unknown: the
-- state afterwards, or for a delete the one before. Jobs are taken one after the other, since one may be named twice.

call('HDEL', JOB, '') -- a full server must not refuse what follows
local verb, keep_failed = ARGV[2], ARGV[3]
local answers = {}

local function cancel(id, s, t, names)
    if waits(s) then
        withdraw(id, s, names)
        count('C', names, 1)
        s = finish(id, unclaimed(s, t), 'C', keep_failed)
    elseif byte(s, 1) == RUNNING then
        s = sub(s, 1, 17) .. char(with(byte(s, 18), ASKED)) .. sub(s, 19)
    else
        return s
    end
    call('HSET', JOB, id, s)
    return s
end

local function retry(id, s, t, names)
    local state = sub(s, 1, 1)
    if state ~= 'F' and state ~= 'C' then return s end
    local flags = byte(s, 18)
    count(state, names, -1)
    s = unclaimed(s, t)
    local kept = flags % 2 + (has(flags, BODY_APART) and BODY_APART or 0) + (has(flags, HISTORY) and HISTORY or 0)
    s = 'R' .. NEVER .. char(kept) .. sub(s, 19, 23) .. pack('>d', now) .. sub(NEVER, 1, 12) .. sub(s, 44, 55)
        .. sub(NEVER, 1, 8) .. sub(s, 64)
    call('HSET', JOB, id, s)
    enter(id, s, names)
    write_entries()
    return s
end

for i = 4, #ARGV do
    local id = ARGV[i]
    local s = call('HGET', JOB, id)
    if not s then
        answers[#answers + 1] = '-'
    else
        local t = tail_of(s)
        local names = names_of(s)
        if verb == 'cancel' then
            s = cancel(id, s, t, names)
        elseif verb == 'retry' then
            s = retry(id, s, t, names)
        elseif byte(s, 1) ~= RUNNING and not (verb == 'prune' and waits(s)) then
            forget({id}, {s})
            announce({id})
        end
        answers[#answers + 1] = state_of(s)
    end
end
write_endings()
write_tally()
ring_for_entries()
return table.concat(answers)
