-- How many jobs there are of each state, queue and task: one hash, changed once for each field a script touches.

local tally = {}

local function count(state, names, by)
    local field = state .. names
    tally[field] = (tally[field] or 0) + by
end

local function write_tally()
    for field, by in pairs(tally) do
        if by ~= 0 and call('HINCRBY', COUNTS, field, by) <= 0 then call('HDEL', COUNTS, field) end
    end
end
