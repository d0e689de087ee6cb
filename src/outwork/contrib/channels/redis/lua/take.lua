-- pipe, limit, session -> parcels; none: the session is told of the next one
local pipe, limit = ARGV[1], tonumber(ARGV[2])
local list = P .. 'c:' .. pipe
local inbox = string.sub(pipe, -1) == '!'
local found = {}
while #found < limit do
    local some = redis.call('LPOP', list, limit - #found)
    if not some or #some == 0 then break end
    for _, parcel in ipairs(some) do
        if expires(parcel) > now then found[#found + 1] = parcel end
    end
end
if #found == 0 or (inbox and #found < limit) then
    redis.call('SADD', P .. 'w:' .. pipe, ARGV[3])
    redis.call('EXPIRE', P .. 'w:' .. pipe, 60)
end
if not inbox then attend(pipe) end
return found
