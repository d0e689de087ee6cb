-- Whether a job is meant by a filter: states ('*' or letters), queue, task (each '' or '=' and the name), attempted
-- ('' or 1 or 0).

local function names_fit(names, queue, task)
    local cut = find(names, '\0', 1, true)
    return (queue == '' or queue == '=' .. sub(names, 1, cut - 1)) and (task == '' or task == '=' .. sub(names, cut + 1))
end

local function fits(s, states, queue, task, attempted)
    if states ~= '*' and not find(states, state_of(s), 1, true) then return false end
    if attempted ~= '' then
        local tried = number_at('>I4', s, 32) + number_at('>I4', s, 36) > 0
        if tried ~= (attempted == '1') then return false end
    end
    return (queue == '' and task == '') or names_fit(names_of(s), queue, task)
end
