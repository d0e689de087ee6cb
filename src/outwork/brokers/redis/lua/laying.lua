-- How an enqueued job's record is laid out. It comes as
--
--   head    flags, length of names, place (4 bytes), max_crashes (4 bytes), names
--   timing  '' or: which of due, delay, expires are given (1, 2, 4), and the three of them
--   body    in the record, or in BODY, if the flags say so

local at = pack('>d', now)
local no_tail = sub(NEVER, 1, 11)

-- A record up to the length of its body, and from there to its body.
local function front_of(head, state)
    return state .. NEVER .. sub(head, 1, 3)
end

local function middle_of(head, due, expires)
    return sub(head, 4, 4) .. due .. sub(NEVER, 1, 12) .. sub(head, 5, 8) .. at .. expires .. sub(head, 9)
end

-- When a job is due, and the 8 bytes of when it expires; `latest`: it is due by then.
local function times_of(timing, latest)
    if timing == '' then return now, sub(NEVER, 1, 8) end
    local due, expires = now, sub(NEVER, 1, 8)
    local given, when, delay, patience = unpacked('>Bddd', timing)
    if has(given, 1) then due = when end
    if has(given, 2) then due = now + delay end
    if has(given, 4) then expires = pack('>d', math.max(due, now) + patience) end
    return math.min(due, latest or math.huge), expires
end

-- The record of a job that starts at its time; `body` is what is in it.
local function laid(head, timing, body)
    local due, expires = times_of(timing)
    return front_of(head, due > now and 'S' or 'R') .. pack('>I2', #body)
        .. middle_of(head, pack('>d', math.max(due, 0)), expires) .. body .. no_tail
end
