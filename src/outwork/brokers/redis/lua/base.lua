-- What every script begins with. The composer puts `local JOB, READY, ... = KEYS[1], KEYS[2], ...` above this.
--
-- The last key, PREFIX, is a name that never exists. It is declared so that a cluster refuses the whole script
-- (TRYAGAIN) while the slot is on the move: then no script ever sees half of the keys.

local call, byte, char, sub, find = redis.call, string.byte, string.char, string.sub, string.find
local pack, unpacked = struct.pack, struct.unpack
local clock = call('TIME')
local now = clock[1] + clock[2] / 1000000 + ARGV[1]

-- A number as text, without loss. (Redis would do the same with each number it is given, at 0.5 us each.)
local function exact(number)
    return string.format('%.17g', number)
end

-- A command over a list of any length: Lua's stack takes about 8,000 arguments at once. Pairs are never parted.
local function many(command, key, items)
    for first = 1, #items, 4000 do
        call(command, key, unpack(items, first, math.min(first + 3999, #items)))
    end
end

-- HMGET over a list of any length.
local function fetch(key, fields)
    if #fields == 0 then return {} end
    if #fields <= 4000 then return call('HMGET', key, unpack(fields)) end
    local values = {}
    for first = 1, #fields, 4000 do
        for _, value in ipairs(call('HMGET', key, unpack(fields, first, math.min(first + 3999, #fields)))) do
            values[#values + 1] = value
        end
    end
    return values
end
