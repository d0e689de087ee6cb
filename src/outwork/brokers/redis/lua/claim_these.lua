-- keys: job body errors ready later aside knots held claims expiry counts outbox pace
-- keys: ties cell attention until paused
-- needs: record tally waiting outbox holding handing attention
-- opens: ties cells gates following
--
-- ARGV: offset, claim id, worker, lease, ids (none twice). Answers what it hands out, see `handing`: those that are
-- ready, and those that this claim holds already.

call('HDEL', HELD, '') -- a full server must not refuse what follows
local claim_id, worker = ARGV[2], ARGV[3]
local front, tail = 'X' .. pack('>dd', now + ARGV[4], 0), pack('>dBI2', now, #claim_id, #worker) .. claim_id .. worker
local ids, new, put, held_back = {}, {}, {}, {}

local function is_ready(s)
    if has(byte(s, 18), EXPIRES) and number_at('>d', s, 56) <= now then return false end
    return byte(s, 1) == READY_NOW or number_at('>d', s, 24) <= now
end

-- Whether a ready job may pass its gates. One that may not is held back.
local function passes(id, s, names)
    local gates = has(byte(s, 18), TIED) and books().gates_of(id)
    local gate = gates and book.closed_gate(gates)
    if not gate then
        if gates then book.pass(gates) end
        return true
    end
    put[#put + 1] = id
    put[#put + 1] = 'H' .. sub(s, 2)
    held_back[#held_back + 1] = id
    enter_aside(id, s, names, book.stop_at(gate))
    return false
end

if look_is_due() then books().attend() end
for i = 5, #ARGV do ids[#ids + 1] = ARGV[i] end
for k, s in ipairs(fetch(JOB, ids)) do
    local id = ids[k]
    local t = s and tail_of(s)
    if s and byte(s, 1) == RUNNING then
        if claim_of(s, t) == claim_id then hand_out(#taken + 1, id, s, body_of(s), t) end
    elseif s and in_line(s) and is_ready(s) then
        local names = names_of(s)
        withdraw(id, s, names)
        if passes(id, s, names) then
            count('X', names, 1)
            new[#new + 1] = id
            put[#put + 1] = id
            put[#put + 1] = front .. sub(s, 18, t - 1) .. tail
            hand_out(#taken + 1, id, s, body_of(s), t)
        end
    elseif s and in_line(s) then
        mark(id, s, true)
    end
end
unmark(new)
unmark(held_back)
if #new > 0 then -- the second time for this claim, perhaps
    local before = call('HGET', HELD, 'i' .. claim_id)
    call('ZADD', CLAIMS, 'NX', exact(now + ARGV[4]), claim_id .. '\0' .. worker)
    call('HINCRBY', HELD, 'n' .. claim_id, #new)
    call('HSET', HELD, 'i' .. claim_id, (before and before .. '\0' or '') .. table.concat(new, '\0'))
end
many('HSET', JOB, put)
write_entries()
if book then book.write_cells() end
write_marks()
write_tally()
fetch_bodies_apart()
ring_for_entries()
return {taken, bodies, history, fetch(ERRORS, with_history)}
