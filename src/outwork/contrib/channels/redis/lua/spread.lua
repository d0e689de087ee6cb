-- group (empty: the members are given), body, room, expiry, number of exceptions, name and room of each, members...
-- -> pipes that were full
local body, room, expiry, count = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local rooms = {}
for at = 6, 5 + 2 * count, 2 do rooms[ARGV[at]] = tonumber(ARGV[at + 1]) end
local members
if ARGV[1] ~= '' then
    members = redis.call('ZRANGEBYSCORE', P .. 'g:' .. ARGV[1], '(' .. now, '+inf')
else
    members = {}
    for at = 6 + 2 * count, #ARGV do members[#members + 1] = ARGV[at] end
end
local pipes, names, first = {}, {}, {}
local find, sub = string.find, string.sub
for _, member in ipairs(members) do
    local at = find(member, '!', 1, true)
    local pipe, name = member, ''
    if at then
        pipe, name = sub(member, 1, at), sub(member, at + 1)
    end
    local listed = names[pipe]
    if listed then
        listed[#listed + 1] = name
    else
        names[pipe] = {name}
        first[pipe] = member
        pipes[#pipes + 1] = pipe
    end
end
local full = 0
for _, pipe in ipairs(pipes) do
    local content = table.concat(names[pipe], ' ') .. '\n' .. body
    if not append(pipe, content, rooms[first[pipe]] or room, expiry) then full = full + 1 end
end
return full
