-- What a batch changes of jobs that it is bound to, see `binding`.

-- A job as it is with what this batch has changed; nil if nobody knows it.
local function now_at(id)
    local job = batch[id]
    if job and job.enters then return job end
    if touching[id] then return touching[id] end
    local s = known[id]
    if s == nil then
        s = call('HGET', JOB, id)
        known[id] = s
    end
    return s and {id = id, s = s, before = s, ties = ties_of(id, s)} or nil
end

local function change(job)
    if not job.enters then touching[job.id] = job end
end

-- The waiting job goes on with what the later one asks for.
local function replace(holder, by, unique, first)
    local due, expires = times_of(by.timing, unique.patience and first + unique.patience)
    local s, flags = holder.s, byte(holder.s, 18)
    if by.fair and times_of(by.timing) <= now and state_of(s) ~= 'S' then
        due = number_at('>d', s, 24) -- it keeps its place in the line
    end
    flags = flags - flags % (2 * EXPIRES) + flags % EXPIRES -- without this one
    flags = flags - flags % (2 * BODY_APART) + flags % BODY_APART
    local asked = byte(by.head, 1)
    if has(asked, EXPIRES) then flags = flags + EXPIRES end
    if has(asked, BODY_APART) then flags = flags + BODY_APART end
    local state = byte(s, 1) == HELD_BACK and 'H' or due > now and 'S' or 'R'
    local body = has(asked, BODY_APART) and '' or by.body
    holder.s = state .. sub(s, 2, 17) .. char(flags) .. sub(s, 19, 20) .. pack('>I2', #body) .. sub(by.head, 4, 4)
        .. pack('>d', math.max(due, 0)) .. sub(s, 32, 55) .. expires .. names_of(s) .. body .. sub(s, tail_of(s))
    holder.apart = has(asked, BODY_APART) and by.body or false
    holder.replaced = true
    change(holder)
end

-- The job waits until the others have ended; those of `after` are told to say so.
local function hold_back(job, ties)
    local awaits = ties.awaits or 0
    local waiting_for = awaits
    for _, other in ipairs(ties.after or {}) do
        local upstream = now_at(other)
        if upstream and not has_ended(upstream.s) then
            waiting_for = waiting_for + 1
            local its = upstream.ties or {}
            its.reports = its.reports or {}
            table.insert(its.reports, job.id)
            upstream.ties, upstream.tied = its, true
            upstream.s = sub(upstream.s, 1, 17) .. char(with(byte(upstream.s, 18), TIED)) .. sub(upstream.s, 19)
            change(upstream)
        end
    end
    if waiting_for == 0 then return end
    job.knot = 'after:' .. job.id
    cell_of(job.knot)
    put_cell(job.knot, {
        left = waiting_for, missing = awaits, at = awaits > 0 and now + (ties.within or 600) or nil,
    })
    job.s = 'H' .. sub(job.s, 2)
end
