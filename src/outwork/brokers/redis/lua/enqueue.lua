-- keys: job body ready later expiry ids counts
-- needs: record tally waiting
--
-- ARGV: offset, then for each job: id, head, timing, body
--   head    flags, length of names, place (4 bytes), max_crashes (4 bytes), names
--   timing  '' or: which of due, delay, expires are given (1, 2, 4), and the three of them
--
-- The first write is an HSET, which a full server refuses: so a batch is written whole or not at all.

local ids = {}
for i = 2, #ARGV, 4 do ids[#ids + 1] = ARGV[i] end
local known = fetch(JOB, ids)
local at = pack('>d', now)
local counters, no_moment, no_tail = string.rep('\0', 12), string.rep('\0', 8), string.rep('\0', 25)
local put, bodies, index = {}, {}, {}
local fresh = {}

for k, id in ipairs(ids) do
    if not known[k] and not fresh[id] then
        fresh[id] = true
        local head, timing = ARGV[4 * k - 1], ARGV[4 * k]
        local names = sub(head, 9)
        local state, due, expires = 'R', at, no_moment
        if timing ~= '' then
            local given, when, delay, patience = unpacked('>Bddd', timing)
            if not has(given, 1) then when = now end
            if has(given, 2) then when = now + delay end
            if when > now then state = 'S' end
            due = pack('>d', math.max(when, 0))
            if has(given, 4) then expires = pack('>d', math.max(when, now) + patience) end
        end
        local s = state .. sub(head, 1, 4) .. due .. counters .. sub(head, 5, 8) .. at .. expires .. names .. no_tail
        put[#put + 1] = id
        put[#put + 1] = s
        bodies[#bodies + 1] = id
        bodies[#bodies + 1] = ARGV[4 * k + 1]
        index[#index + 1] = '0'
        index[#index + 1] = id
        enter(id, s, names)
    end
end

many('HSET', JOB, put)
many('HSET', BODY, bodies)
many('ZADD', IDS, index)
write_entries()
write_tally()
ring_for_entries()
return 1
