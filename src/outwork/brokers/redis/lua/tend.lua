-- keys: job body errors result ready later running claims expiry ended ids counts watch workers alive
-- needs: record tally waiting ending failing forgetting
--
-- ARGV: offset, keep_failed, rescue (1 or 0), batch, prune batch, worker or '', its ttl, its presence, dead workers

call('ZREM', RUNNING, '') -- a full server must not refuse what follows
local keep_failed, rescue, batch, prune_batch = ARGV[2], ARGV[3] == '1', tonumber(ARGV[4]), tonumber(ARGV[5])
local dead = {}
for i = 9, #ARGV do dead[ARGV[i]] = true end

-- ---- who is here ----

local silent = call('ZRANGEBYSCORE', ALIVE, '-inf', string.format('(%.17g', now), 'LIMIT', 0, batch)
for worker in pairs(dead) do silent[#silent + 1] = worker end
many('ZREM', ALIVE, silent)
many('HDEL', WORKERS, silent)
if ARGV[6] ~= '' then
    call('ZADD', ALIVE, string.format('%.17g', now + ARGV[7]), ARGV[6])
    call('HSET', WORKERS, ARGV[6], pack('>d', now) .. ARGV[8])
end

-- ---- rescue ----

local rescued, buried, put = 0, 0, {}

local function save(id, s)
    put[#put + 1] = id
    put[#put + 1] = s
end

local function rescue_one(id, s, t, worker)
    local names, flags = sub(s, 46, t - 1), byte(s, 2)
    local crashes, most = number_at('>I4', s, 18) + 1, number_at('>I4', s, 26)
    local once = has(flags, AT_MOST_ONCE)
    local message
    if once then
        message = 'worker died; the task is delivered at most once, so it is not started again'
    elseif crashes > most then
        message = string.format('its worker died %d times', crashes)
    else
        message = string.format('its worker died or lost the lease (%d of %d crashes allowed)', crashes, most)
    end
    remember(id, 'WorkerDied', message, number_at('>I4', s, 14) + crashes, worker)
    count('X', names, -1)
    rescued = rescued + 1
    s = 'R' .. char(with(with(flags, CRASHED), HISTORY)) .. sub(s, 3, 17) .. pack('>I4', crashes) .. sub(s, 22, t + 7)
        .. string.rep('\0', 17) .. worker
    if once or crashes > most then
        buried = buried + 1
        count('F', names, 1)
        save(id, finish(id, s, t, 'F', keep_failed))
    elseif has(flags, ASKED) then
        count('C', names, 1)
        save(id, finish(id, s, t, 'C', keep_failed))
    else
        enter(id, s, names)
        save(id, s)
    end
end

-- The jobs of one claim whose lease ran out, or all of them. What is left keeps the claim, with its earliest end.
local function rescue_claim(member, all)
    local cut = find(member, '\0', 1, true)
    local claim, worker = sub(member, 1, cut - 1), sub(member, cut + 1)
    local held, ids = call('ZRANGEBYLEX', RUNNING, '[' .. claim .. '\0', '(' .. claim .. '\1'), {}
    for k, one in ipairs(held) do ids[k] = sub(one, cut + 1) end
    local gone, earliest_end = {}, nil
    for k, s in ipairs(fetch(JOB, ids)) do
        local t = tail_of(s)
        local lease_until = number_at('>d', s, t + 8)
        if rescued < batch and (all or lease_until <= now) then
            gone[#gone + 1] = held[k]
            rescue_one(ids[k], s, t, worker)
        elseif not earliest_end or lease_until < earliest_end then
            earliest_end = lease_until
        end
    end
    many('ZREM', RUNNING, gone)
    if earliest_end then
        call('ZADD', CLAIMS, string.format('%.17g', earliest_end), member)
    else
        call('ZREM', CLAIMS, member)
    end
end

local more = false
if next(dead) then
    for _, member in ipairs(call('ZRANGE', CLAIMS, 0, -1)) do
        if dead[sub(member, find(member, '\0', 1, true) + 1)] and rescued < batch then rescue_claim(member, true) end
    end
end
if rescue then
    local due = call('ZRANGEBYSCORE', CLAIMS, '-inf', string.format('%.17g', now), 'LIMIT', 0, batch)
    for _, member in ipairs(due) do
        if rescued < batch then rescue_claim(member, false) end
    end
    more = #due >= batch
end

-- ---- promote ----

for _, field in ipairs(call('HKEYS', COUNTS)) do
    if byte(field, 1) == SCHEDULED_BYTE then more = promote(queue_of(sub(field, 2)), batch) >= batch or more end
end

-- ---- expire: what fell due just now must be written first, so this comes last and by its own look ----

many('HSET', JOB, put)
write_entries()
put = {}
local late = call('ZRANGEBYSCORE', EXPIRY, '-inf', string.format('%.17g', now), 'LIMIT', 0, batch)
for k, s in ipairs(fetch(JOB, late)) do
    local id, t = late[k], tail_of(s)
    local names = sub(s, 46, t - 1)
    withdraw(id, s, names)
    remember(id, 'Expired', 'it waited longer than its `expires` allows',
        number_at('>I4', s, 14) + number_at('>I4', s, 18), '')
    s = sub(s, 1, 1) .. char(with(byte(s, 2), HISTORY)) .. sub(s, 3, t + 23) .. '\0' .. worker_of(s, t)
    count('F', names, 1)
    save(id, finish(id, s, t, 'F', keep_failed))
end
many('HSET', JOB, put)
write_endings()

-- ---- prune ----

local old = call('ZRANGEBYSCORE', ENDED, '-inf', string.format('%.17g', now), 'LIMIT', 0, prune_batch)
forget(old, fetch(JOB, old))
write_tally()

-- A ring that was lost (with a host that vanished while it waited) is repeated here.
for _, field in ipairs(call('HKEYS', COUNTS)) do
    if byte(field, 1) == READY_BYTE then touched[queue_of(sub(field, 2))] = true end
end
ring_for_entries()
more = more or rescued >= batch or #late >= batch or #old >= prune_batch
return {rescued, buried, #late, #old, more and 1 or 0}
