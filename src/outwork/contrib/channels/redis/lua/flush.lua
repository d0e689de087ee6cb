-- Everything but w:, by which readers are told of what comes next.
local cursor = '0'
repeat
    local page = redis.call('SCAN', cursor, 'MATCH', ARGV[1], 'COUNT', 1000)
    cursor = page[1]
    for _, key in ipairs(page[2]) do
        if string.sub(key, #P + 1, #P + 2) ~= 'w:' then redis.call('DEL', key) end
    end
until cursor == '0'
return 0
