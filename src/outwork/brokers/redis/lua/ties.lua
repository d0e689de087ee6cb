-- What binds a job to others. TIES holds, for each job that has the flag: 'G' if it has gates, else '-', and its ties as
-- MessagePack, by the names of `outwork.ties`.

local function read_ties(packed)
    if not packed then return {} end -- a server that may evict keys has lost it
    local ties = cmsgpack.unpack(sub(packed, 2))
    for _, gate in ipairs(ties.gates or {}) do
        gate.most, gate.rate, gate.burst = gate.most or 0, gate.rate or 0, gate.burst or 1
    end
    return ties
end

-- The ties of a job; nil if it has none.
local function ties_of(id, s)
    if byte(s, 18) >= TIED then return read_ties(call('HGET', TIES, id)) end
end

local function packed_ties(ties)
    return (ties.gates and 'G' or '-') .. cmsgpack.pack(ties)
end

-- Those gates of a job with ties through which it has to pass; nil if there is none.
local function gates_of(id)
    local packed = call('HGET', TIES, id)
    if packed and byte(packed, 1) == 71 then return read_ties(packed).gates end
end

-- The record of a job that has ended, with what is left of its ties in case it is run again by hand: its gates.
local function spend(id, s, ties)
    if ties.gates then
        call('HSET', TIES, id, packed_ties({gates = ties.gates}))
        return s
    end
    call('HDEL', TIES, id)
    return sub(s, 1, 17) .. char(byte(s, 18) - TIED) .. sub(s, 19)
end
