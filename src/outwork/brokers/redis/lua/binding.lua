-- Enqueue a batch in which jobs have ties, as `ledger.enqueue` does.
--
-- Each job comes as six arguments: id, head, timing, body (see `laying`), what TIES holds of it, or '', and '=' with its
-- fair key, or ''.
--
-- Nothing is written before all is known, and then an HSET first, which a full server refuses: so a batch is written
-- whole or not at all.

-- Take the unique key, or answer for a job that finds it held.
local function take_key(job, unique)
    local name = 'unique:' .. unique.key
    local cell = cell_of(name)
    if cell and (not cell.ends or cell.ends > now) then
        local holder = books().now_at(cell.job)
        if holder or cell.ends then -- else a server that may evict keys has lost the job
            local conflict = unique.conflict or 'return'
            if conflict == 'return' then return 'S' .. cell.job end
            if conflict == 'raise' then return 'D' .. cell.job end
            if holder and waits(holder.s) then
                book.replace(holder, job, unique, cell.first)
                return 'S' .. cell.job
            end
        end
    end
    put_cell(name, {job = job.id, first = now, ends = unique.seconds and now + unique.seconds})
    return ''
end

-- The answer for a new job: '', 'S' and 'D' with the job that has its unique key, or 'U' with one that nobody knows.
local function let_in(job)
    local ties, answer = job.ties or {}, ''
    for _, other in ipairs(ties.after or {}) do
        if not known[other] and not batch[other] then return 'U' .. other end
    end
    if ties.unique then answer = take_key(job, ties.unique) end
    if answer == '' then
        job.enters = true
        job.s = laid(job.head, job.timing, job.apart and '' or job.body)
        if job.fair and byte(job.s, 1) == READY_NOW then job.s = books().in_turn(job.s, job.fair) end
        entering[#entering + 1] = job
    end
    return answer
end

-- Those that this one reports to are told that it is there; others were cancelled, or have waited long enough.
local function arrive(job)
    for _, other in ipairs(job.reports) do
        local name = 'after:' .. other
        local cell = cell_of(name)
        if cell then
            cell.missing = math.max(0, cell.missing - 1)
            if cell.missing == 0 then cell.at = nil end
            put_cell(name, cell)
        end
    end
end

local function line_up(job)
    if byte(job.s, 1) == HELD_BACK then
        enter_aside(job.id, job.s, names_of(job.s), job.knot)
    else
        enter(job.id, job.s, names_of(job.s))
    end
end

local function write_bound()
    local put, bodies, index, tied, whole = {}, {}, {}, {}, {}
    for _, job in ipairs(entering) do
        put[#put + 1], put[#put + 2] = job.id, job.s
        index[#index + 1], index[#index + 2] = '0', job.id
    end
    for id, job in pairs(touching) do put[#put + 1], put[#put + 2] = id, job.s end
    many('HSET', JOB, put)
    for _, job in ipairs(entering) do
        line_up(job)
        if in_line(job.s) then mark(job.id, job.s, true) end
    end
    for id, job in pairs(touching) do
        if job.replaced then
            local names = names_of(job.s)
            job.knot = withdraw(id, job.before, names) or job.knot
            line_up(job)
            if not job.apart and has(byte(job.before, 18), BODY_APART) then whole[#whole + 1] = id end
        end
    end
    for _, jobs in ipairs({entering, touching}) do
        for _, job in pairs(jobs) do
            if job.apart then bodies[#bodies + 1], bodies[#bodies + 2] = job.id, job.apart end
            if job.tied then
                tied[#tied + 1], tied[#tied + 2] = job.id, packed_ties(job.ties)
            elseif job.packed and job.packed ~= '' then
                tied[#tied + 1], tied[#tied + 2] = job.id, job.packed
            end
        end
    end
    many('HSET', BODY, bodies)
    many('HDEL', BODY, whole)
    many('HSET', TIES, tied)
    many('ZADD', IDS, index)
    write_entries()
    write_marks()
    write_cells()
end

-- The batch that begins at this argument. An answer for each of its jobs.
local function bind(first)
    local given, named, waits_for_others = {}, {}, false
    for i = first, #ARGV, 6 do
        local packed, head, body, fair = ARGV[i + 4], ARGV[i + 1], ARGV[i + 3], ARGV[i + 5]
        local ties = packed ~= '' and read_ties(packed) or nil
        given[#given + 1] = {
            id = ARGV[i], head = head, timing = ARGV[i + 2], body = body, packed = packed, ties = ties,
            reports = ties and {unpack(ties.reports or {})} or {}, -- without those that come after it
            apart = has(byte(head, 1), BODY_APART) and body,
            fair = fair ~= '' and sub(fair, 2),
        }
        named[#named + 1] = ARGV[i]
        if ties then
            waits_for_others = waits_for_others or ties.awaits or ties.after or ties.reports
            for _, other in ipairs(ties.after or {}) do named[#named + 1] = other end
        end
    end
    if waits_for_others and look_is_due() then -- some have waited long enough for others to come
        call('HSET', CELL, '', '') -- a full server refuses the batch here
        books().attend()
    end
    for k, s in ipairs(fetch(JOB, named)) do known[named[k]] = s end
    for _, job in ipairs(given) do
        if not known[job.id] then batch[job.id] = job end
    end
    local answers = {}
    for k, job in ipairs(given) do
        local new = batch[job.id]
        answers[k] = new and not new.enters and let_in(new) or ''
    end
    for _, job in ipairs(entering) do
        local ties = job.ties
        if ties and (ties.awaits or ties.after) then
            books().hold_back(job, ties)
        end
    end
    for _, job in ipairs(entering) do arrive(job) end
    write_bound()
    return answers
end

-- Wake those who wait for what came in: of ready jobs it is known that they are there.
local function ring_for_batch()
    for queue in pairs(touched) do ring(queue) end
    touched = {}
    ring_for_entries()
end
