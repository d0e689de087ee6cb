-- What the moves of a job mean for others. A script notes the moves of jobs with ties, and of those that were held back;
-- when they are written, it calls `follow`.

local SOME = 500                                                         -- jobs that one call lets go at most, where any number may be held
local freed, left, told, released, gone, paused = {}, {}, {}, {}, {}, {} -- as in `ledger.follow`
local noted = false

local function add(counter, name, by)
    counter[name] = (counter[name] or 0) + by
end

-- Note that a job has left RUNNING (`ran`), or has ended, or both. `knot`: what had held it.
local function note(id, ties, ran, ended, knot)
    noted = true
    for _, gate in ipairs(ties.gates or {}) do
        local name = 'gate:' .. gate.key
        if ran and gate.most > 0 then add(left, name, 1) end
        if ran or (ended and not knot) then add(freed, name, 1) end
    end
    if ended then
        for _, other in ipairs(ties.reports or {}) do add(told, 'after:' .. other, 1) end
        if ties.unique then released['unique:' .. ties.unique.key] = id end
        if knot == 'after:' .. id then gone[knot] = true end
    end
end

-- The record of a job with ties that has moved, as `note` says, with what is left of them.
local function moved(id, s, ties, ran, knot)
    local ended = has_ended(s)
    note(id, ties, ran, ended, knot)
    return ended and spend(id, s, ties) or s
end

-- Note that a job is held back because its task is paused: what holds it.
local function note_pause(id, names)
    local what = 'task:' .. sub(names, find(names, '\0', 1, true) + 1)
    paused[what] = paused[what] or {}
    table.insert(paused[what], id)
    noted = true
    return 'pause:' .. what
end

-- Take up to `most` jobs from those that a knot holds, in the order of their line. The caller sets them free.
local function take_held(knot, most)
    local low = aside_of(knot)
    local members = call('ZRANGEBYLEX', ASIDE, '[' .. low, '(' .. low .. '\255', 'LIMIT', 0, most)
    local ids = {}
    for k, member in ipairs(members) do ids[k] = sub(member, #low + 10) end
    many('ZREM', ASIDE, members)
    many('HDEL', KNOTS, ids)
    return ids
end

local function holds_any(knot)
    local low = aside_of(knot)
    return #call('ZRANGEBYLEX', ASIDE, '[' .. low, '(' .. low .. '\255', 'LIMIT', 0, 1) > 0
end

-- Jobs that were held back are so no more. How many.
local function set_free(ids)
    if #ids == 0 then return 0 end
    local put = {}
    for k, s in ipairs(fetch(JOB, ids)) do
        local id = ids[k]
        if s and byte(s, 1) == HELD_BACK then
            local names = names_of(s)
            withdraw(id, s, names)
            s = (number_at('>d', s, 24) > now and 'S' or 'R') .. sub(s, 2)
            enter(id, s, names)
            mark(id, s, false)
            put[#put + 1] = id
            put[#put + 1] = s
        end
    end
    many('HSET', JOB, put)
    write_entries()
    write_marks()
    return #put / 2
end

-- So many of those that a job waits for have ended: it is one of the `free` when none is left.
local function tell(name, number, free)
    local cell = cell_of(name)
    if not cell then return end
    if cell.left > number then
        cell.left = cell.left - number
        put_cell(name, cell)
    else
        put_cell(name, nil)
        free[#free + 1] = sub(name, 7)
    end
end

-- Do what was noted. How many jobs were let go.
local function follow()
    if not noted then return 0 end
    local free = {}
    for name, id in pairs(released) do
        local cell = cell_of(name)
        if cell and cell.job == id and not cell.ends then put_cell(name, nil) end
    end
    for name, number in pairs(left) do
        local cell = cell_of(name)
        if cell then
            cell.running = math.max(0, (cell.running or 0) - number)
            put_gate(name, cell)
        end
    end
    for name in pairs(gone) do
        if cell_of(name) then put_cell(name, nil) end
    end
    for name, number in pairs(told) do tell(name, number, free) end
    for what, ids in pairs(paused) do
        if not call('HGET', PAUSED, what) then
            for _, id in ipairs(ids) do free[#free + 1] = id end
        end
    end
    for name, number in pairs(freed) do
        for _, id in ipairs(take_held(name, number)) do free[#free + 1] = id end
    end
    freed, left, told, released, gone, paused, noted = {}, {}, {}, {}, {}, {}, false
    local number = set_free(free)
    write_cells()
    return number
end

-- ---- time ----

-- Let go as many as may pass now. They pass when they are claimed: nothing is spent here.
local function open_gate(name, cell)
    local gate, spent, number = cell.gate, cell.spent or 0, 0
    local room = gate.most > 0 and gate.most - (cell.running or 0) or SOME
    while number < room and (gate.rate == 0 or next_pass(gate, spent) <= now) do
        number = number + 1
        if gate.rate > 0 then spent = passed(gate, spent) end
    end
    if number > 0 then set_free(take_held(name, number)) end
    cell.at = holds_any(name) and look_again(gate, cell, spent) or nil
    put_gate(name, cell)
end

-- Let go what a pause has held that is over. Whether there is more.
local function resume(what)
    local some = take_held('pause:' .. what, SOME)
    set_free(some)
    return #some == SOME
end

-- Look at the cells whose time has come.
local function attend()
    local due = call('ZRANGEBYSCORE', ATTENTION, '-inf', exact(now), 'LIMIT', 0, SOME)
    if #due == 0 then return end
    call('HDEL', CELL, '') -- a full server must not refuse what follows
    for _, name in ipairs(due) do
        local cell, kind = cell_of(name), sub(name, 1, 5)
        if not cell then
            call('ZREM', ATTENTION, name)
        elseif kind == 'gate:' then
            open_gate(name, cell)
        elseif kind == 'after' then
            local free, missing = {}, cell.missing
            cell.missing, cell.at = 0, nil
            put_cell(name, cell)
            tell(name, missing, free)
            set_free(free)
        elseif not resume(sub(name, 8)) then
            put_cell(name, nil)
        end
    end
    write_cells()
end
