-- -> for each fixed channel: name, unread, thousandths of seconds since it was looked into, since it was sent to (or -1)
local seen, found = {}, {}
local function ages(set)
    local age, all = {}, redis.call('ZRANGE', P .. set, 0, -1, 'WITHSCORES')
    for at = 1, #all, 2 do
        age[all[at]] = math.floor((now - tonumber(all[at + 1])) * 1000)
        seen[all[at]] = true
    end
    return age
end
local looked, sent = ages('looked'), ages('sent')
for pipe in pairs(seen) do
    trim(P .. 'c:' .. pipe)
    found[#found + 1] = {pipe, redis.call('LLEN', P .. 'c:' .. pipe), looked[pipe] or -1, sent[pipe] or -1}
end
return found
