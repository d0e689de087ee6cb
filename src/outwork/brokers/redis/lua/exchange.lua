-- keys: job body errors result ready later aside knots held claims expiry ended counts watch outbox pace
-- keys: ties cell attention until paused stops
-- needs: record tally waiting outbox ending failing holding handing attention
-- opens: ties cells gates following
--
-- ARGV: offset, claim id, worker, limit, free, lease, keep, keep_failed, number of queues, then for each queue its name
-- and share, then for each settlement: id, how, text. How is a kind, the claim id, a NUL, and a value:
--   D done (keep, result)   F dead (keep, errors)   B result too large (keep, message)   C cancelled (errors)
--   A again, N again and not counted (delay, errors)   R released, M released as unknown (delay)   H held
--
-- Every phase removes before it adds, because a server that is full refuses a script's first write if that adds:
-- workers go on settling when nothing can be enqueued any more.

local claim_id, worker, limit, free = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local lease, keep, keep_failed, queue_count = ARGV[6], ARGV[7], ARGV[8], tonumber(ARGV[9])
local first = 10 + 2 * queue_count

-- ---- settle ----

local put, results, failures = {}, {}, {}
local done = {}      -- how many jobs of these names were successful
local releasing = {} -- how many jobs a claim lost, and its worker
local stopped = {}   -- jobs that were asked to stop
local let_go_jobs = 0

-- Back to where jobs wait, counted or not.
local function wait_again(id, s, names, due, failed, missed, text, hold)
    local flags = byte(s, 18)
    if text ~= '' or failed + missed > 0 then flags = with(flags, HISTORY) end
    if text ~= '' then
        failures[#failures + 1] = id
        failures[#failures + 1] = text
    end
    s = sub(s, 1, 17) .. char(flags) .. sub(s, 19, 31) .. pack('>I4', number_at('>I4', s, 32) + failed)
        .. sub(s, 36, 39) .. pack('>I4', number_at('>I4', s, 40) + missed) .. sub(s, 44)
    if has(flags, ASKED) then
        count('C', names, 1)
        return finish(id, s, 'C', keep_failed)
    end
    if hold then
        s = 'H' .. NEVER .. sub(s, 18)
        enter_aside(id, s, names, books().note_pause(id, names))
        return s
    end
    due = due or number_at('>d', s, 24)
    s = (due > now and 'S' or 'R') .. NEVER .. sub(s, 18, 23) .. pack('>d', due) .. sub(s, 32)
    enter(id, s, names)
    mark(id, s, true)
    return s
end

local function settle(id, s, t, names, kind, value, text)
    count('X', names, -1)
    if kind == 'F' or kind == 'B' then
        local failed = number_at('>I4', s, 32) + 1
        if kind == 'B' then
            remember(id, 'ResultNotSerializable', text, failed + number_at('>I4', s, 36), worker_of(s, t))
        else
            failures[#failures + 1] = id
            failures[#failures + 1] = text
        end
        count('F', names, 1)
        s = sub(s, 1, 17) .. char(with(byte(s, 18), HISTORY)) .. sub(s, 19, 31) .. pack('>I4', failed) .. sub(s, 36)
        return finish(id, s, 'F', value == '' and keep_failed or value)
    elseif kind == 'C' then
        if text ~= '' then
            failures[#failures + 1] = id
            failures[#failures + 1] = text
            s = sub(s, 1, 17) .. char(with(byte(s, 18), HISTORY)) .. sub(s, 19)
        end
        count('C', names, 1)
        return finish(id, s, 'C', keep_failed)
    elseif kind == 'A' or kind == 'N' then
        return wait_again(id, s, names, now + value, kind == 'A' and 1 or 0, 0, text)
    end
    if kind == 'H' then return wait_again(id, s, names, nil, 0, 0, '', true) end
    local delay = tonumber(value)
    return wait_again(id, s, names, delay > 0 and now + delay or nil, 0, kind == 'M' and 1 or 0, '')
end

local hows = {}

local function read_how(how)
    local cut = find(how, '\0', 1, true)
    local read = {kind = sub(how, 1, 1), claim = sub(how, 2, cut - 1), value = sub(how, cut + 1)}
    if read.kind == 'D' then
        local long = tonumber(read.value == '' and keep or read.value)
        read.ending = front_for('D', long)
        read.reporting = front_for('D', math.max(long, keep_failed)) -- somebody comes for its result, perhaps late
    end
    read.losing = releasing[read.claim] or {jobs = 0}
    releasing[read.claim] = read.losing
    hows[how] = read
    return read
end

local answers = {}
if #ARGV >= first then -- no job comes twice: the broker sees to that
    local ids = {}
    for i = first, #ARGV, 3 do ids[#ids + 1] = ARGV[i] end
    call('HDEL', HELD, '')
    local i, p, stops = first, 0, call('EXISTS', STOPS) == 1
    for k, s in ipairs(fetch(JOB, ids)) do
        local how, text, answer = hows[ARGV[i + 1]] or read_how(ARGV[i + 1]), ARGV[i + 2], 'S'
        i = i + 3
        if s then
            local t = tail_of(s)
            if sub(s, t + 11, t + 10 + byte(s, t + 8)) == how.claim then
                answer = 'A'
                if byte(s, 1) == RUNNING then
                    answer = 'D'
                    local id, names, losing, ending = ids[k], names_of(s), how.losing, how.ending
                    local flags, ties = byte(s, 18), nil
                    if flags >= TIED then
                        ties = books().ties_of(id, s)
                        if ending and ties.reports then ending = how.reporting end
                    end
                    if stops and has(flags, ASKED) then stopped[#stopped + 1] = worker_of(s, t) .. '\0' .. id end
                    losing.jobs = losing.jobs + 1
                    losing.worker = losing.worker or worker_of(s, t)
                    if not ending then
                        s = settle(id, s, t, names, how.kind, how.value, text)
                    else
                        done[names] = (done[names] or 0) + 1
                        ending.ids[#ending.ids + 1] = id
                        if #text <= 1024 then
                            s = ending.front .. sub(s, 18) .. text
                        else
                            results[#results + 1] = id
                            results[#results + 1] = text
                            s = ending.front .. char(with(flags, RESULT_APART)) .. sub(s, 19)
                        end
                    end
                    if ties then s = books().moved(id, s, ties, true) end
                    put[p + 1], put[p + 2] = id, s
                    p = p + 2
                end
            end
        end
        answers[k] = answer
    end
    for claim, losing in pairs(releasing) do
        if losing.jobs > 0 then let_go(claim, losing.worker, losing.jobs) end
    end
    for names, jobs in pairs(done) do
        count('X', names, -jobs)
        count('D', names, jobs)
    end
    many('HSET', JOB, put)
    many('HSET', RESULT, results)
    many('HSET', ERRORS, failures)
    many('ZREM', STOPS, stopped)
    write_entries()
    write_marks()
    write_endings()
    if book then let_go_jobs = book.follow() end
end

-- ---- claim ----

local front, tail = 'X' .. pack('>dd', now + lease, 0), pack('>dBI2', now, #claim_id, #worker) .. claim_id .. worker
local claimed = {}
local parked = {} -- jobs that stop at a gate, and their records
local PARKING = 1000
put = {}

-- Whether a ready job may not be claimed now: it waited too long, is solo, stops at a gate, or is lost (the server may
-- evict keys).
local function barred(flags, id, s)
    if not s or has(flags, EXPIRES) and number_at('>d', s, 56) <= now then return 'late' end
    local gates = flags >= TIED and books().gates_of(id)
    if not gates and flags % 4 == 0 then return false end
    if free <= 0 then return 'solo' end
    local gate = gates and book.closed_gate(gates)
    if gate then
        local names = names_of(s)
        s = 'H' .. sub(s, 2)
        count('R', names, -1)
        enter_aside(id, s, names, book.stop_at(gate))
        parked[#parked + 1] = id
        parked[#parked + 1] = s
        return 'parked'
    end
    if gates then book.pass(gates) end
    free = free - 1
    return false
end

-- Take up to `left` ready jobs of a queue. True if some may remain that another worker could take.
local function claim_from(queue, left)
    local low, high, after = '[' .. queue .. '\0', '(' .. queue .. '\1', #queue + 11
    local skipped = 0
    while left > 0 do
        local asked = #parked > 0 and math.max(left, 50) or left
        local members = call('ZRANGEBYLEX', READY, low, high, 'LIMIT', skipped, asked)
        local ids, leaving, unexpiring = {}, {}, {}
        for k, member in ipairs(members) do ids[k] = sub(member, after) end
        for k, s in ipairs(fetch(JOB, ids)) do
            if left == 0 then break end
            local flags = s and byte(s, 18) or 0
            local bar = (flags > 0 or not s) and barred(flags, ids[k], s)
            if bar == 'solo' then
                skipped = skipped + 1
            else
                leaving[#leaving + 1] = members[k] -- one that is late stays in EXPIRY, and tend ends it
                if bar ~= 'late' and has(flags, EXPIRES) then unexpiring[#unexpiring + 1] = ids[k] end
                if not bar then
                    left = left - 1
                    local id, b, t, n = ids[k], body_of(s), tail_of(s), #taken + 1
                    local names = sub(s, 64, b - 1)
                    claimed[names] = (claimed[names] or 0) + 1
                    put[2 * n - 1], put[2 * n] = id, front .. sub(s, 18, t - 1) .. tail
                    hand_out(n, id, s, b, t)
                end
            end
        end
        many('ZREM', READY, leaving)
        many('ZREM', EXPIRY, unexpiring)
        if left > 0 and #members < asked then return skipped > 0 end
        if skipped >= limit or #parked >= PARKING then return true end
    end
    return first_of(READY, queue) ~= nil
end

local look, next_due = next_look(), nil
if look and look <= now then books().attend() end
local held, held_records = held_by(claim_id)
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
        if #held > 0 or left <= 0 then
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
    call('ZADD', CLAIMS, exact(now + lease), claim_id .. '\0' .. worker)
    call('HSET', HELD, 'n' .. claim_id, #taken, 'i' .. claim_id, table.concat(taken, '\0'))
    many('HSET', JOB, put)
    for names, jobs in pairs(claimed) do
        count('R', names, -jobs)
        count('X', names, jobs)
    end
end
if #parked > 0 then
    many('HSET', JOB, parked)
    write_entries()
    local waiting = {}
    for k = 1, #parked, 2 do waiting[#waiting + 1] = parked[k] end
    unmark(waiting)
end
if book then
    book.write_cells()
    look = next_look()
end
if look then
    next_due = math.min(next_due or math.huge, math.max(0, look - now))
    if book and look == book.soonest_set() and limit > 0 and #taken >= limit then ring(ARGV[10]) end -- it is left to another worker, too
end
for n, s in ipairs(held_records) do hand_out(n, held[n], s, body_of(s), tail_of(s)) end
fetch_bodies_apart()
write_tally()
ring_for_entries()
return {
    table.concat(answers), next_due and string.format('%.6f', next_due) or '', let_go_jobs > 0 and 1 or 0, taken, bodies, history,
    fetch(ERRORS, with_history),
}
