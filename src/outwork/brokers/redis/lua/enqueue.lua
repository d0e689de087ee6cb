-- keys: job body ready later expiry ids counts outbox pace
-- needs: record tally waiting outbox laying
--
-- ARGV: offset, then for each job: id, head, timing, body (see `laying`). None of them has ties.
--
-- The first write is an HSET, which a full server refuses: so a batch is written whole or not at all.

local put, bodies, index, ready = {}, {}, {}, entries.ready
local fresh, plain = {}, {}

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

local soon = kept() and exact(now + pace.grace)
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
        put[n], index[n], index[n + 1] = id, '0', id
        if timing == '' then
            local same = plain[head] or plain_of(head, names)
            same.jobs = same.jobs + 1
            put[n + 1] = same.front .. pack('>I2', #body) .. same.middle .. body .. no_tail
            ready[r], ready[r + 1] = '0', same.start .. id
            r = r + 2
            if soon then
                marks[#marks + 1] = soon
                marks[#marks + 1] = id
            end
        else
            local s = laid(head, timing, body)
            put[n + 1] = s
            enter(id, s, names)
            mark(id, s, true)
            r = #ready + 1
        end
        n = n + 2
    end
end

many('HSET', JOB, put)
many('HSET', BODY, bodies)
many('ZADD', IDS, index)
write_entries()
write_marks()
for _, same in pairs(plain) do
    count('R', same.names, same.jobs)
    ring(same.queue)
end
write_tally()
ring_for_entries()
return 1
