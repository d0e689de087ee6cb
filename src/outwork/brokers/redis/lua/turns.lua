-- Fair keys, as `ledger._Entry._line_up` places their jobs and `ties.fair_place` says why.

local fronts = {} -- due times of the first jobs of lines; false: there is none

local function front_of(line, queue, place)
    local front = fronts[line]
    if front == nil then
        local low, high = queue .. '\0' .. char(place), queue .. '\0' .. char(place + 1)
        local member = call('ZRANGEBYLEX', READY, '[' .. low, '(' .. high, 'LIMIT', 0, 1)[1]
        front = member and number_at('>d', member, #queue + 3) or false
        fronts[line] = front
    end
    return front
end

-- The record of a job that may start at once, in the place that its fair key gives it.
local function in_turn(s, key)
    local queue, place = queue_of(names_of(s)), byte(s, 23)
    local line = queue .. ':' .. (100 - place)
    local name = 'fair:' .. line .. ':' .. key
    local cell, front = cell_of(name), front_of(line, queue, place)
    local last = cell and cell.ends > now and cell.first or nil
    if not front and last and last > now + 1 then last = nil end
    local due = front or now
    if last then due = math.max(due, last + 1e-6) end
    fronts[line] = front or due
    put_cell(name, {first = due, ends = now + 86400})
    return sub(s, 1, 23) .. pack('>d', due) .. sub(s, 32)
end
