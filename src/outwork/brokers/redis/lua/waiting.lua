-- Where jobs wait. READY and LATER hold the jobs of all queues, ordered by their members alone (every score is 0):
--
--    READY  queue NUL place(1) due(8) id        LATER  queue NUL due(8) id
--
-- so the order (priority, due, id) is exact, where a score of 53 bits could not hold a priority and a microsecond.
-- ASIDE holds in the same way those that are held back, by what holds them, their knot; KNOTS says which that is:
--
--    ASIDE  length of the knot(4) knot place(1) due(8) id

local entries = {ready = {}, later = {}, expiry = {}, aside = {}, knots = {}}
local touched = {}  -- queues that got a ready job
local earliest = {} -- queues that got a scheduled job, and the member of the earliest of those

local function first_of(key, queue)
    return call('ZRANGEBYLEX', key, '[' .. queue .. '\0', '(' .. queue .. '\1', 'LIMIT', 0, 1)[1]
end

local function due_of(member, queue)
    return number_at('>d', member, #queue + 2)
end

-- Wake one of those who wait for this queue, or the next one to come. The list never has more than one element.
local function ring(queue)
    local bell = PREFIX .. 'bell:' .. queue
    if call('EXISTS', bell) == 0 then
        call('DEL', bell) -- where this is the first write of a script, a full server must not refuse it
        call('LPUSH', bell, 1)
        call('EXPIRE', bell, 60)
    end
end

local function aside_of(knot)
    return pack('>I4', #knot) .. knot
end

-- Note a job that is held back from now on: written by `write_entries`.
local function enter_aside(id, s, names, knot)
    local aside, knots = entries.aside, entries.knots
    aside[#aside + 1] = '0'
    aside[#aside + 1] = aside_of(knot) .. sub(s, 23, 31) .. id
    knots[#knots + 1] = id
    knots[#knots + 1] = knot
    count('H', names, 1)
end

-- Note a job that waits from now on: written by `write_entries`.
local function enter(id, s, names)
    local queue = queue_of(names)
    if byte(s, 1) == READY_NOW then
        local ready = entries.ready
        ready[#ready + 1] = '0'
        ready[#ready + 1] = queue .. '\0' .. sub(s, 23, 31) .. id
        touched[queue] = true
    else
        local later, member = entries.later, queue .. '\0' .. sub(s, 24, 31) .. id
        later[#later + 1] = '0'
        later[#later + 1] = member
        if not earliest[queue] or member < earliest[queue] then earliest[queue] = member end
    end
    if has(byte(s, 18), EXPIRES) then
        local expiry = entries.expiry
        expiry[#expiry + 1] = exact(math.max(number_at('>d', s, 56), number_at('>d', s, 24)))
        expiry[#expiry + 1] = id
    end
    count(sub(s, 1, 1), names, 1)
end

local function write_entries()
    many('ZADD', READY, entries.ready)
    many('ZADD', LATER, entries.later)
    many('ZADD', EXPIRY, entries.expiry)
    if entries.aside[1] then -- not every script has these keys
        many('ZADD', ASIDE, entries.aside)
        many('HSET', KNOTS, entries.knots)
    end
    entries = {ready = {}, later = {}, expiry = {}, aside = {}, knots = {}}
end

-- A job that waits does so no longer. The knot of one that was held back.
local function withdraw(id, s, names)
    local start, knot = queue_of(names) .. '\0', nil
    if byte(s, 1) == READY_NOW then
        call('ZREM', READY, start .. sub(s, 23, 31) .. id)
    elseif byte(s, 1) == SCHEDULED then
        call('ZREM', LATER, start .. sub(s, 24, 31) .. id)
    else
        knot = call('HGET', KNOTS, id)
        if knot then call('ZREM', ASIDE, aside_of(knot) .. sub(s, 23, 31) .. id) end
        call('HDEL', KNOTS, id)
    end
    if has(byte(s, 18), EXPIRES) then call('ZREM', EXPIRY, id) end
    count(sub(s, 1, 1), names, -1)
    return knot
end

-- Make up to `most` jobs of a queue ready that are due. How many they were.
local function promote(queue, most)
    local low = '[' .. queue .. '\0'
    local due = call('ZRANGEBYLEX', LATER, low, low .. pack('>d', now) .. '\255', 'LIMIT', 0, most)
    if #due == 0 then return 0 end
    local ids, put = {}, {}
    for k, member in ipairs(due) do ids[k] = sub(member, #queue + 10) end
    many('ZREM', LATER, due)
    for k, s in ipairs(fetch(JOB, ids)) do
        if s then -- a server that may evict keys may have lost it
            local moved = 'R' .. sub(s, 2)
            local names = names_of(s)
            count('S', names, -1)
            enter(ids[k], moved, names)
            put[#put + 1] = ids[k]
            put[#put + 1] = moved
        end
    end
    many('HSET', JOB, put)
    write_entries()
    return #due
end

-- Ring for what this script added: where something is ready, or where the next one is due earlier than before.
local function ring_for_entries()
    for queue in pairs(touched) do
        if first_of(READY, queue) then ring(queue) end
    end
    for queue, member in pairs(earliest) do
        if first_of(LATER, queue) == member then ring(queue) end
    end
end
