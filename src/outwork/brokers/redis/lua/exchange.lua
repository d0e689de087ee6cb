-- keys: job body errors result ready later running claims expiry ended counts watch
-- needs: record tally waiting ending failing
--
-- ARGV: offset, claim id, worker, limit, free, lease, keep, keep_failed, number of queues, then for each queue its name
-- and share, then for each settlement: id, claim id, kind, value, text
--   D done (keep, result)   F dead (keep, errors)   B result too large (keep, message)   C cancelled
--   A again, N again and not counted (delay, errors)   R released, M released as unknown (delay)
--
-- Every phase removes before it adds, because a server that is full refuses a script's first write if that adds:
-- workers go on settling when nothing can be enqueued any more.

local claim_id, worker, limit, free = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local lease, keep, keep_failed, queue_count = ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9])
local first = 10 + 2 * queue_count

-- ---- settle ----

local put, results, failures, gone = {}, {}, {}, {}
local released = {} -- claim ids that lost a job, and their workers

-- Back to where jobs wait. Counters are changed in place: nothing of it is on the path of a job that succeeds.
local function wait_again(id, s, t, names, due, failed, missed, text)
    local flags = byte(s, 2)
    if text ~= '' or failed + missed > 0 then flags = with(flags, HISTORY) end
    if text ~= '' then
        failures[#failures + 1] = id
        failures[#failures + 1] = text
    end
    s = sub(s, 1, 1) .. char(flags) .. sub(s, 3, 13)
        .. pack('>I4', number_at('>I4', s, 14) + failed) .. sub(s, 18, 21)
        .. pack('>I4', number_at('>I4', s, 22) + missed) .. sub(s, 26)
    if has(flags, ASKED) then
        count('C', names, 1)
        return finish(id, s, t, 'C', keep_failed)
    end
    if due then s = sub(s, 1, 5) .. pack('>d', due) .. sub(s, 14) end
    local state = number_at('>d', s, 6) > now and 'S' or 'R'
    s = state .. sub(s, 2, t + 7) .. pack('>d', 0) .. sub(s, t + 16)
    enter(id, s, names)
    return s
end

local function settle(id, s, t, kind, value, text)
    local names = sub(s, 46, t - 1)
    count('X', names, -1)
    if kind == 'D' then
        count('D', names, 1)
        results[#results + 1] = id
        results[#results + 1] = text
        return finish(id, s, t, 'D', value == '' and keep or value)
    elseif kind == 'F' or kind == 'B' then
        local attempt = number_at('>I4', s, 14) + 1
        if kind == 'B' then
            call('ZREM', RUNNING, '')
            remember(id, 'ResultNotSerializable', text, attempt + number_at('>I4', s, 18), worker_of(s, t))
        else
            failures[#failures + 1] = id
            failures[#failures + 1] = text
        end
        count('F', names, 1)
        s = sub(s, 1, 1) .. char(with(byte(s, 2), HISTORY)) .. sub(s, 3, 13) .. pack('>I4', attempt) .. sub(s, 18)
        return finish(id, s, t, 'F', value == '' and keep_failed or value)
    elseif kind == 'C' then
        count('C', names, 1)
        return finish(id, s, t, 'C', keep_failed)
    elseif kind == 'A' or kind == 'N' then
        return wait_again(id, s, t, names, now + value, kind == 'A' and 1 or 0, 0, text)
    end
    local delay = tonumber(value)
    return wait_again(id, s, t, names, delay > 0 and now + delay or nil, 0, kind == 'M' and 1 or 0, '')
end

local answers = {}
if #ARGV >= first then
    local ids, current = {}, {}
    for i = first, #ARGV, 5 do ids[#ids + 1] = ARGV[i] end
    for k, s in ipairs(fetch(JOB, ids)) do current[ids[k]] = s end
    for k, id in ipairs(ids) do
        local i = first + 5 * (k - 1)
        local s, claim, answer = current[id], ARGV[i + 1], 'S'
        if s then
            local t = tail_of(s)
            if claim_of(s, t) == claim then
                answer = 'A'
                if byte(s, 1) == RUNNING_BYTE then
                    answer = 'D'
                    gone[#gone + 1] = claim .. '\0' .. id
                    released[claim] = released[claim] or worker_of(s, t)
                    s = settle(id, s, t, ARGV[i + 2], ARGV[i + 3], ARGV[i + 4])
                    current[id] = s
                    put[#put + 1] = id
                    put[#put + 1] = s
                end
            end
        end
        answers[k] = answer
    end
    many('ZREM', RUNNING, gone)
    for claim, holder in pairs(released) do
        if not call('ZRANGEBYLEX', RUNNING, '[' .. claim .. '\0', '(' .. claim .. '\1', 'LIMIT', 0, 1)[1] then
            call('ZREM', CLAIMS, claim .. '\0' .. holder)
        end
    end
    many('HSET', JOB, put)
    many('HSET', RESULT, results)
    for i = 1, #failures, 2 do
        if failures[i + 1] == '' then call('HDEL', ERRORS, failures[i]) end
    end
    many('HSET', ERRORS, failures)
    write_entries()
    write_endings()
end

-- ---- claim ----

local taken, states, running = {}, {}, {}
local tail = pack('>ddd', now, now + lease, 0) .. char(#claim_id) .. claim_id .. worker
put = {}

local function take(id, s, t, names)
    count('X', names, 1)
    count('R', names, -1)
    s = 'X' .. sub(s, 2, t - 1) .. tail
    taken[#taken + 1] = id
    states[#states + 1] = s
    running[#running + 1] = '0'
    running[#running + 1] = claim_id .. '\0' .. id
    put[#put + 1] = id
    put[#put + 1] = s
end

-- Take up to `left` ready jobs of a queue. True if some may remain that another worker could take.
local function claim_from(queue, left)
    local low, high, after = '[' .. queue .. '\0', '(' .. queue .. '\1', #queue + 11
    local skipped = 0
    while left > 0 do
        local asked = left
        local members = call('ZRANGEBYLEX', READY, low, high, 'LIMIT', skipped, asked)
        local ids, leaving, unexpiring = {}, {}, {}
        for k, member in ipairs(members) do ids[k] = sub(member, after) end
        for k, s in ipairs(fetch(JOB, ids)) do
            local flags = byte(s, 2)
            local late = flags >= EXPIRES and has(flags, EXPIRES) and number_at('>d', s, 38) <= now
            local solo = flags % 4 > 0
            if solo and not late and free <= 0 then
                skipped = skipped + 1
            else
                leaving[#leaving + 1] = members[k] -- one that is late stays in EXPIRY, and tend ends it
                if not late then
                    if solo then free = free - 1 end
                    left = left - 1
                    if has(flags, EXPIRES) then unexpiring[#unexpiring + 1] = ids[k] end
                    local t = tail_of(s)
                    take(ids[k], s, t, sub(s, 46, t - 1))
                end
            end
        end
        many('ZREM', READY, leaving)
        many('ZREM', EXPIRY, unexpiring)
        if #members < asked then return skipped > 0 end
        if skipped >= limit then return true end
    end
    return first_of(READY, queue) ~= nil
end

local next_due
local held = call('ZRANGEBYLEX', RUNNING, '[' .. claim_id .. '\0', '(' .. claim_id .. '\1')
local repeated = #held > 0
for i = 10, first - 1, 2 do
    local queue, share = ARGV[i], tonumber(ARGV[i + 1])
    local due = first_of(LATER, queue)
    if due and due_of(due, queue) <= now then
        promote(queue, 500)
        due = first_of(LATER, queue)
    end
    if limit > 0 then
        touched[queue] = nil
        local left, remain = math.min(share, limit - #taken), nil
        if repeated or left <= 0 then
            remain = first_of(READY, queue)
        else
            remain = claim_from(queue, left)
        end
        -- A worker that is full has another one watch what falls due.
        if remain or (due and #taken >= limit) then ring(queue) end
    end
    if due then next_due = math.min(next_due or math.huge, math.max(0, due_of(due, queue) - now)) end
end
if #taken > 0 then
    call('ZADD', CLAIMS, string.format('%.17g', now + lease), claim_id .. '\0' .. worker)
    many('ZADD', RUNNING, running)
    many('HSET', JOB, put)
elseif repeated then
    for k, member in ipairs(held) do taken[k] = sub(member, #claim_id + 2) end
    states = fetch(JOB, taken)
end
write_tally()
ring_for_entries()

-- ---- answer ----

local history, with_history = {}, {}
for k, s in ipairs(states) do
    if byte(s, 2) >= HISTORY then
        history[#history + 1] = k - 1
        history[#history + 1] = s
        with_history[#with_history + 1] = taken[k]
    end
end
return {
    table.concat(answers), next_due and string.format('%.6f', next_due) or '', taken, fetch(BODY, taken), history,
    fetch(ERRORS, with_history),
}
