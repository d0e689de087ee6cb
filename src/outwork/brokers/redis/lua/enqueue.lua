-- keys: job body ready later expiry ids counts
-- needs: record tally waiting
--
-- ARGV: offset, then for each job: id, head, timing, body
--   head    flags, length of names, place (4 bytes), max_crashes (4 bytes), names
--   body    in the record, or in BODY, if the flags say so
--   timing  '' or: which of due, delay, expires are given (1, 2, 4), and the three of them
--
-- The first write is an HSET, which a full server refuses: so a batch is written whole or not at all.

local at = pack('>d', now)
local put, bodies, index, ready = {}, {}, {}, entries.ready
local fresh, plain = {}, {}
local no_tail = sub(NEVER, 1, 11)

-- A record up to the length of its body, and from there to its body.
local function front_of(head, state)
    return state .. NEVER .. sub(head, 1, 3)
end

local function middle_of(head, due, expires)
    return sub(head, 4, 4) .. due .. sub(NEVER, 1, 12) .. sub(head, 5, 8) .. at .. expires .. sub(head, 9)
end

-- How the record of a job that may start at once begins, and its place in READY: the same for all that have this head.
local function plain_of(head, names)
    local queue = queue_of(names)
    local known = {
        front = front_of(head, 'R'), middle = middle_of(head, at, sub(NEVER, 1, 8)),
        start = queue .. '\0' .. sub(head, 4, 4) .. at, names = names, queue = queue, jobs = 0,
    }
    plain[head] = known
    return known
end

local function timed(id, head, timing, names, length, rest)
    local state, due, expires = 'R', now, sub(NEVER, 1, 8)
    local given, when, delay, patience = unpacked('>Bddd', timing)
    if has(given, 1) then due = when end
    if has(given, 2) then due = now + delay end
    if due > now then state = 'S' end
    if has(given, 4) then expires = pack('>d', math.max(due, now) + patience) end
    local s = front_of(head, state) .. length .. middle_of(head, pack('>d', math.max(due, 0)), expires) .. rest
    enter(id, s, names)
    return s
end

local ids = {}
for i = 2, #ARGV, 4 do ids[#ids + 1] = ARGV[i] end
local known, n, r = fetch(JOB, ids), 1, 1 -- places in lists: `#` searches for the end each time
for k, id in ipairs(ids) do
    if not known[k] and not fresh[id] then
        fresh[id] = true
        local head, timing, body = ARGV[4 * k - 1], ARGV[4 * k], ARGV[4 * k + 1]
        local names = plain[head] and plain[head].names or sub(head, 9)
        if has(byte(head, 1), BODY_APART) then
            bodies[#bodies + 1] = id
            bodies[#bodies + 1] = body
            body = ''
        end
        local length = pack('>I2', #body)
        put[n], index[n], index[n + 1] = id, '0', id
        if timing == '' then
            local same = plain[head] or plain_of(head, names)
            same.jobs = same.jobs + 1
            put[n + 1] = same.front .. length .. same.middle .. body .. no_tail
            ready[r], ready[r + 1] = '0', same.start .. id
            r = r + 2
        else
            put[n + 1] = timed(id, head, timing, names, length, body .. no_tail)
            r = #ready + 1
        end
        n = n + 2
    end
end

many('HSET', JOB, put)
many('HSET', BODY, bodies)
many('ZADD', IDS, index)
write_entries()
for _, same in pairs(plain) do
    count('R', same.names, same.jobs)
    ring(same.queue)
end
write_tally()
ring_for_entries()
return 1
