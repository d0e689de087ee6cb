-- keys: job body errors result ready later aside knots held claims expiry ended ids counts watch workers alive outbox pace
-- keys: ties cell attention until paused stops progress
-- needs: record tally waiting outbox ties cells gates following ending failing holding forgetting
--
-- ARGV: offset, keep_failed, rescue (1 or 0), batch, prune batch, worker or '', its ttl, its presence, dead workers

call('HDEL', HELD, '') -- a full server must not refuse what follows
local keep_failed, rescue, batch, prune_batch = ARGV[2], ARGV[3] == '1', tonumber(ARGV[4]), tonumber(ARGV[5])
local dead = {}
for i = 9, #ARGV do dead[ARGV[i]] = true end

-- ---- who is here ----

local silent = call('ZRANGEBYSCORE', ALIVE, '-inf', '(' .. exact(now), 'LIMIT', 0, batch)
for worker in pairs(dead) do silent[#silent + 1] = worker end
many('ZREM', ALIVE, silent)
many('HDEL', WORKERS, silent)
if ARGV[6] ~= '' then
    call('ZADD', ALIVE, exact(now + ARGV[7]), ARGV[6])
    call('HSET', WORKERS, ARGV[6], pack('>d', now) .. ARGV[8])
end

attend()

-- ---- rescue ----

local rescued, buried, put = 0, 0, {}

local function save(id, s)
    put[#put + 1] = id
    put[#put + 1] = s
end

local function rescue_one(id, s, worker)
    local t, flags = tail_of(s), byte(s, 18)
    local names = names_of(s)
    local crashes, most = number_at('>I4', s, 36) + 1, number_at('>I4', s, 44)
    local once, ties = has(flags, AT_MOST_ONCE), ties_of(id, s)
    local message
    if once then
        message = 'worker died; the task is delivered at most once, so it is not started again'
    elseif crashes > most then
        message = string.format('its worker died %d times', crashes)
    else
        message = string.format('its worker died or lost the lease (%d of %d crashes allowed)', crashes, most)
    end
    remember(id, 'WorkerDied', message, number_at('>I4', s, 32) + crashes, worker)
    count('X', names, -1)
    rescued = rescued + 1
    if has(flags, ASKED) then call('ZREM', STOPS, worker .. '\0' .. id) end
    s = unclaimed(s, t)
    s = 'R' .. NEVER .. char(with(with(flags, CRASHED), HISTORY)) .. sub(s, 19, 35) .. pack('>I4', crashes) .. sub(s, 40)
    if once or crashes > most then
        buried = buried + 1
        count('F', names, 1)
        s = finish(id, s, 'F', keep_failed)
    elseif has(flags, ASKED) then
        count('C', names, 1)
        s = finish(id, s, 'C', keep_failed)
    else
        enter(id, s, names)
        mark(id, s, false)
    end
    save(id, ties and moved(id, s, ties, true) or s)
end

-- The jobs of one claim whose lease ran out, or all of them. What is left keeps the claim, with its earliest end.
local function rescue_claim(member, all)
    local cut = find(member, '\0', 1, true)
    local claim, worker = sub(member, 1, cut - 1), sub(member, cut + 1)
    local ids, records = held_by(claim)
    local gone, earliest_end = 0, nil
    for k, s in ipairs(records) do
        local lease_until = number_at('>d', s, 2)
        if rescued < batch and (all or lease_until <= now) then
            gone = gone + 1
            rescue_one(ids[k], s, worker)
        elseif not earliest_end or lease_until < earliest_end then
            earliest_end = lease_until
        end
    end
    if gone > 0 then let_go(claim, worker, gone) end
    if earliest_end then call('ZADD', CLAIMS, exact(earliest_end), member) end
end

local more = false
if next(dead) then
    for _, member in ipairs(call('ZRANGE', CLAIMS, 0, -1)) do
        if dead[sub(member, find(member, '\0', 1, true) + 1)] and rescued < batch then rescue_claim(member, true) end
    end
end
if rescue then
    local due = call('ZRANGEBYSCORE', CLAIMS, '-inf', exact(now), 'LIMIT', 0, batch)
    for _, member in ipairs(due) do
        if rescued < batch then rescue_claim(member, false) end
    end
    more = #due >= batch
end

-- ---- promote ----

for _, field in ipairs(call('HKEYS', COUNTS)) do
    if byte(field, 1) == SCHEDULED then more = promote(queue_of(sub(field, 2)), batch) >= batch or more end
end
many('HSET', JOB, put)
write_entries()
write_marks()
follow()

-- ---- expire: last, because what was rescued or fell due just now may be late already ----

put = {}
local late = call('ZRANGEBYSCORE', EXPIRY, '-inf', exact(now), 'LIMIT', 0, batch)
local function expire_one(id, s)
    local names, ties = names_of(s), ties_of(id, s)
    withdraw(id, s, names)
    remember(id, 'Expired', 'it waited longer than its `expires` allows',
        number_at('>I4', s, 32) + number_at('>I4', s, 36), '')
    s = unclaimed(s, tail_of(s))
    count('F', names, 1)
    s = finish(id, sub(s, 1, 17) .. char(with(byte(s, 18), HISTORY)) .. sub(s, 19), 'F', keep_failed)
    save(id, ties and moved(id, s, ties, false) or s)
end
for k, s in ipairs(fetch(JOB, late)) do
    if s then
        expire_one(late[k], s)
    else
        call('ZREM', EXPIRY, late[k])
    end
end
many('HSET', JOB, put)
unmark(late)
write_endings()
more = follow() > 0 or more -- they may be late, too
forget_cells(prune_batch)

-- ---- prune ----

local pruned, looked = 0, 0
while looked < prune_batch do
    local member = call('ZRANGEBYSCORE', ENDED, '-inf', exact(now), 'LIMIT', 0, 1)[1]
    if not member then break end
    local ids, old, records = ids_in(member), {}, {}
    for k, s in ipairs(fetch(JOB, ids)) do
        -- It may be gone, have been retried by hand, and have ended a second time.
        if s and byte(s, 1) ~= RUNNING and not waits(s) and number_at('>d', s, 2) <= now then
            old[#old + 1] = ids[k]
            records[#records + 1] = s
        end
    end
    forget(old, records)
    call('ZREM', ENDED, member)
    pruned, looked = pruned + #old, looked + #ids
end
write_tally()

-- A ring that was lost (with a host that vanished while it waited) is repeated here.
for _, field in ipairs(call('HKEYS', COUNTS)) do
    if byte(field, 1) == READY_NOW then touched[queue_of(sub(field, 2))] = true end
end
ring_for_entries()
more = more or rescued >= batch or #late >= batch or looked >= prune_batch
return {rescued, buried, #late, pruned, more and 1 or 0}
