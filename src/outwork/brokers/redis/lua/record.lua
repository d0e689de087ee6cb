-- A job's record is one string, so that a move copies it with one byte or a few changed and parses nothing:
--
--    1  state: S scheduled, R ready, X running, D successful (done), F failed, C cancelled
--    2  flags: 1 at most once, 2 has crashed, 4 asked to stop, 8 may expire, 16 has a history (counters or errors)
--    3  length of the names                    2 bytes
--    5  100 - priority, 6 due                  1 + 8 bytes: as they stand they order the ready jobs
--   14  failures, crashes, misses, max_crashes 4 bytes each
--   30  enqueued_at, 38 expires_at             8 bytes each
--   46  names: queue NUL task
--    t  started_at, lease_until or prune_at, finished_at (8 bytes each), length of the claim id, claim id, worker
--
-- Numbers are big-endian, so that bytes sort as numbers do.

local RUNNING_BYTE, READY_BYTE, SCHEDULED_BYTE = 88, 82, 83
local AT_MOST_ONCE, CRASHED, ASKED, EXPIRES, HISTORY = 1, 2, 4, 8, 16

local function has(flags, flag)
    return flags % (2 * flag) >= flag
end

local function with(flags, flag)
    return has(flags, flag) and flags or flags + flag
end

-- Where the tail begins.
local function tail_of(s)
    return 46 + byte(s, 3) * 256 + byte(s, 4)
end

local function queue_of(names)
    return sub(names, 1, find(names, '\0', 1, true) - 1)
end

local function claim_of(s, t)
    return sub(s, t + 25, t + 24 + byte(s, t + 24))
end

local function worker_of(s, t)
    return sub(s, t + 25 + byte(s, t + 24))
end

local function number_at(format, s, position)
    return (unpacked(format, s, position))
end

-- Whether a job in one of these states waits.
local function waits(s)
    local state = byte(s, 1)
    return state == READY_BYTE or state == SCHEDULED_BYTE
end

-- The state as somebody who looks sees it: what fell due is ready.
local function state_of(s)
    if byte(s, 1) == SCHEDULED_BYTE and number_at('>d', s, 6) <= now then return 'R' end
    return sub(s, 1, 1)
end
