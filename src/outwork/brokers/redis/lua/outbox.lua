-- The outbox, where a transport stands beside this store: OUTBOX has each waiting job by when a keeper is to send a
-- message for it. PACE (horizon, grace, stale) says that one is kept; else nothing is written here.

local pace, marks = nil, {}

local function kept()
    if pace == nil then
        local found = call('HMGET', PACE, 'horizon', 'grace', 'stale')
        pace = found[1] and {horizon = found[1], grace = found[2], stale = found[3]} or false
    end
    return pace
end

-- A job begins to wait: written by `write_marks`. `grace` is for one whose message is sent by whoever makes it wait.
local function mark(id, s, grace)
    if kept() then
        marks[#marks + 1] = exact(math.max(now + (grace and pace.grace or 0), number_at('>d', s, 24) - pace.horizon))
        marks[#marks + 1] = id
    end
end

local function write_marks()
    many('ZADD', OUTBOX, marks)
    marks = {}
end

-- Jobs wait no more.
local function unmark(ids)
    if #ids > 0 and kept() then many('ZREM', OUTBOX, ids) end
end
