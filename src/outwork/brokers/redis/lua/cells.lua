-- The books of what binds jobs together, as `outwork.brokers.ledger` keeps them, and says what a cell means. CELL holds
-- each as MessagePack; ATTENTION the names of those to be looked at, by when (`at`); UNTIL those that mean nothing after
-- some time (`ends`).

local cells, on_disk, changed = {}, {}, {} -- as they are now (false: there is none), as they are stored, which differ
local soonest = math.huge                  -- the earliest `at` that this script has set

local function cell_of(name)
    local cell = cells[name]
    if cell == nil then
        local packed = call('HGET', CELL, name)
        cell = packed and cmsgpack.unpack(packed) or false
        on_disk[name] = {at = cell and cell.at, ends = cell and cell.ends}
        cells[name] = cell
    end
    return cell
end

-- Set a cell that was looked at here; nil removes it.
local function put_cell(name, cell)
    cells[name] = cell or false
    changed[name] = true
end

local function write_time(key, name, before, after)
    if after and after ~= before then
        call('ZADD', key, exact(after), name)
    elseif before and not after then
        call('ZREM', key, name)
    end
end

local function write_cells()
    for name in pairs(changed) do
        local cell, before = cells[name], on_disk[name]
        local at, ends = cell and cell.at or nil, cell and cell.ends or nil
        if cell then
            call('HSET', CELL, name, cmsgpack.pack(cell))
        else
            call('HDEL', CELL, name)
        end
        write_time(ATTENTION, name, before.at, at)
        write_time(UNTIL, name, before.ends, ends)
        if at and at ~= before.at then soonest = math.min(soonest, at) end
        on_disk[name] = {at = at, ends = ends}
    end
    changed = {}
end

-- Forget cells that mean nothing any more.
local function forget_cells(most)
    local over = call('ZRANGEBYSCORE', UNTIL, '-inf', exact(now), 'LIMIT', 0, most)
    many('ZREM', UNTIL, over)
    many('HDEL', CELL, over)
end

local function soonest_set()
    return soonest
end
