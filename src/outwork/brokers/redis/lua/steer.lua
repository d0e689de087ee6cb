-- keys: job body errors result ready later aside knots expiry ended ids counts watch outbox pace
-- keys: ties cell attention until paused stops progress
-- needs: record tally waiting outbox ties cells gates following ending forgetting
--
-- ARGV: offset, verb (cancel, retry, delete, prune), keep_failed, ids. Answers a letter for each, '-' for unknown: the
-- state afterwards, or for a delete the one before. Jobs are taken one after the other, since one may be named twice.

call('HDEL', JOB, '') -- a full server must not refuse what follows
local verb, keep_failed = ARGV[2], ARGV[3]
attend()
local answers = {}

local function cancel(id, s, t, names)
    if waits(s) then
        local ties, knot = ties_of(id, s), withdraw(id, s, names)
        unmark({id})
        count('C', names, 1)
        s = finish(id, unclaimed(s, t), 'C', keep_failed)
        if ties then s = moved(id, s, ties, false, knot) end
    elseif byte(s, 1) == RUNNING then
        s = sub(s, 1, 17) .. char(with(byte(s, 18), ASKED)) .. sub(s, 19)
        call('ZADD', STOPS, 0, worker_of(s, t) .. '\0' .. id)
    else
        return s
    end
    call('HSET', JOB, id, s)
    follow()
    return s
end

local function retry(id, s, t, names)
    local state = sub(s, 1, 1)
    if state ~= 'F' and state ~= 'C' then return s end
    local flags = byte(s, 18)
    count(state, names, -1)
    s = unclaimed(s, t)
    local kept = flags % 2
    for _, flag in ipairs({BODY_APART, HISTORY, TIED}) do kept = kept + (has(flags, flag) and flag or 0) end
    s = 'R' .. NEVER .. char(kept) .. sub(s, 19, 23) .. pack('>d', now) .. sub(NEVER, 1, 12) .. sub(s, 44, 55)
        .. sub(NEVER, 1, 8) .. sub(s, 64)
    call('HSET', JOB, id, s)
    enter(id, s, names)
    write_entries()
    mark(id, s, false)
    write_marks()
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
            local ties = waits(s) and ties_of(id, s)
            local knot = ties and byte(s, 1) == HELD_BACK and call('HGET', KNOTS, id)
            forget({id}, {s})
            unmark({id})
            announce({id})
            if ties then
                note(id, ties, false, true, knot) -- as if it had been cancelled
                follow()
            end
        end
        answers[#answers + 1] = state_of(s)
    end
end
write_endings()
write_tally()
ring_for_entries()
return table.concat(answers)
