-- A job's record is one string, made so that a move puts a new front before the rest and parses nothing:
--
--    1  state: H held, S scheduled, R ready, X running, D successful (done), F failed, C cancelled
--    2  lease_until of a running job, prune_at of one that ended; 10 finished_at       8 bytes each
--   18  flags: 1 at most once, 2 has crashed, 4 asked to stop, 8 may expire, 16 the body is in BODY, 32 the result is in
--       RESULT, 64 has a history (counters or errors), 128 has ties (in TIES)
--   19  lengths of the names and of the body                                           2 bytes each
--   23  100 - priority, 24 due: as they stand they order the ready jobs                1 + 8 bytes
--   32  failures, crashes, misses, max_crashes                                         4 bytes each
--   48  enqueued_at, 56 expires_at                                                     8 bytes each
--   64  names: queue NUL task, then the body
--    t  started_at (8 bytes), lengths of claim id (1) and worker (2), claim id, worker, then the result
--
-- Numbers are big-endian, so that bytes sort as numbers do. Bodies and results of more than 1 KB are kept apart, so that
-- no move copies them; smaller ones would cost 80 bytes and a cache miss or two more in a hash of their own.

local RUNNING, READY_NOW, SCHEDULED, HELD_BACK = 88, 82, 83, 72 -- the states' bytes
local AT_MOST_ONCE, CRASHED, ASKED, EXPIRES, BODY_APART, RESULT_APART, HISTORY, TIED = 1, 2, 4, 8, 16, 32, 64, 128
local NEVER = string.rep('\0', 16)

local function has(flags, flag)
    return flags % (2 * flag) >= flag
end

local function with(flags, flag)
    return has(flags, flag) and flags or flags + flag
end

local function number_at(format, s, position)
    return (unpacked(format, s, position))
end

-- Where the body begins, and where the tail does.
local function body_of(s)
    local high, low = byte(s, 19, 20)
    return 64 + high * 256 + low
end

local function tail_of(s)
    local high, low, body_high, body_low = byte(s, 19, 22)
    return 64 + (high + body_high) * 256 + low + body_low
end

local function names_of(s)
    return sub(s, 64, body_of(s) - 1)
end

local function queue_of(names)
    return sub(names, 1, find(names, '\0', 1, true) - 1)
end

local function claim_of(s, t)
    return sub(s, t + 11, t + 10 + byte(s, t + 8))
end

local function worker_of(s, t)
    local start = t + 11 + byte(s, t + 8)
    return sub(s, start, start - 1 + byte(s, t + 9) * 256 + byte(s, t + 10))
end

-- Without its claim id, so that whoever had it is stale.
local function unclaimed(s, t)
    return sub(s, 1, t + 7) .. '\0' .. sub(s, t + 9, t + 10) .. sub(s, t + 11 + byte(s, t + 8))
end

local function waits(s)
    local state = byte(s, 1)
    return state == READY_NOW or state == SCHEDULED or state == HELD_BACK
end

-- Whether it waits in a line, or for its time.
local function in_line(s)
    local state = byte(s, 1)
    return state == READY_NOW or state == SCHEDULED
end

local function has_ended(s)
    return not waits(s) and byte(s, 1) ~= RUNNING
end

-- The state as somebody who looks sees it: what fell due is ready.
local function state_of(s)
    if byte(s, 1) == SCHEDULED and number_at('>d', s, 24) <= now then return 'R' end
    return sub(s, 1, 1)
end
