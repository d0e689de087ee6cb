-- What a worker is handed: ids, bodies, and of jobs with a history their place in the list (from 0) and record, and
-- their errors.

local taken, bodies = {}, {}
local apart, history, with_history = {}, {}, {}

-- Hand out a job: the n-th.
local function hand_out(n, id, s, b, t)
    taken[n], bodies[n] = id, sub(s, b, t - 1)
    local flags = byte(s, 18)
    if flags >= BODY_APART then
        if has(flags, BODY_APART) then apart[#apart + 1] = n end
        if has(flags, HISTORY) then
            history[#history + 1] = n - 1
            history[#history + 1] = s
            with_history[#with_history + 1] = id
        end
    end
end

local function fetch_bodies_apart()
    for _, n in ipairs(apart) do bodies[n] = call('HGET', BODY, taken[n]) end
end
