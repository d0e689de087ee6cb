-- Gates: how many jobs of a key may run, and how many may start, see `outwork.ties`.

-- A gate that nobody is in, and whose rate is paid for, is as good as none.
local function put_gate(name, cell)
    cell.ends = nil
    if (cell.running or 0) == 0 and not cell.at then
        if (cell.spent or 0) <= now then return put_cell(name, nil) end
        cell.ends = cell.spent
    end
    put_cell(name, cell)
end

local function next_pass(gate, spent)
    return math.max(now, spent - (gate.burst - 1) / gate.rate)
end

local function passed(gate, spent)
    return math.max(now, spent) + 1 / gate.rate
end

local function is_full(gate, cell)
    return gate.most > 0 and (cell.running or 0) >= gate.most
end

-- When a gate with jobs before it is to be looked at, even if no settle asks for that.
local function look_again(gate, cell, spent)
    if gate.rate > 0 and not is_full(gate, cell) then return next_pass(gate, spent) end
    return now + 60
end

-- The first of these gates that is closed.
local function closed_gate(gates)
    for _, gate in ipairs(gates) do
        local cell = cell_of('gate:' .. gate.key) or {}
        if is_full(gate, cell) or gate.rate > 0 and next_pass(gate, cell.spent or 0) > now then return gate end
    end
end

-- A job goes through all of them.
local function pass(gates)
    for _, gate in ipairs(gates) do
        local name = 'gate:' .. gate.key
        local cell = cell_of(name) or {}
        cell.gate = gate
        if gate.most > 0 then cell.running = (cell.running or 0) + 1 end
        if gate.rate > 0 then cell.spent = passed(gate, cell.spent or 0) end
        put_gate(name, cell)
    end
end

-- A job stops before this one. What it is held by.
local function stop_at(gate)
    local name = 'gate:' .. gate.key
    local cell = cell_of(name) or {}
    cell.gate, cell.at = gate, look_again(gate, cell, cell.spent or 0)
    put_gate(name, cell)
    return name
end
