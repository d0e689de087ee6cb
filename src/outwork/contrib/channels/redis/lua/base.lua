-- What the others share. KEYS[1] is the prefix, with its braces: everything is in one slot of a cluster.
--   c:<pipe>   a list of parcels: 8 bytes (when it expires, in seconds), then the content
--   w:<pipe>   the sessions that found it empty
--   g:<group>  sorted set of members, by when they expire
--   looked     sorted set: when a fixed channel was last looked into;  sent: since when it is sent to without that
local P = KEYS[1]
local clock = redis.call('TIME')
local now = tonumber(clock[1]) + tonumber(clock[2]) / 1000000

local function expires(parcel)
    return (struct.unpack('>d', parcel))
end

local function trim(list)
    while true do
        local first = redis.call('LINDEX', list, 0)
        if not first or expires(first) > now then return end
        redis.call('LPOP', list)
    end
end

-- Give a parcel to a session that waits; whether there was one. The reader of an inbox goes on waiting.
local function hand(pipe, parcel)
    local waiting = P .. 'w:' .. pipe
    local inbox = string.sub(pipe, -1) == '!'
    while true do
        local session
        if inbox then
            session = redis.call('SRANDMEMBER', waiting)
        else
            session = redis.call('SPOP', waiting)
        end
        if not session then return false end
        if redis.call('PUBLISH', P .. 's:' .. session, pipe .. '\n' .. parcel) > 0 then return true end
        if inbox then redis.call('SREM', waiting, session) end
    end
end

-- Give the first parcels that have not expired to those who wait.
local function feed(pipe)
    local list = P .. 'c:' .. pipe
    while true do
        local first = redis.call('LINDEX', list, 0)
        if not first or (expires(first) > now and not hand(pipe, first)) then return end
        redis.call('LPOP', list)
    end
end

-- Append a parcel; false: the pipe is full.
local function append(pipe, content, room, expiry)
    local list = P .. 'c:' .. pipe
    local parcel = struct.pack('>d', now + expiry) .. content
    local length = redis.call('LLEN', list)
    if length == 0 then
        if hand(pipe, parcel) then return true end
    elseif length >= room then
        trim(list)
        length = redis.call('LLEN', list)
    end
    if length >= room then return false end
    redis.call('RPUSH', list, parcel)
    redis.call('PEXPIRE', list, math.ceil(expiry * 1000))
    if length > 0 then feed(pipe) end
    return true
end

local function attend(pipe)
    redis.call('ZADD', P .. 'looked', now, pipe)
    redis.call('ZREM', P .. 'sent', pipe)
    redis.call('ZREMRANGEBYSCORE', P .. 'looked', '-inf', now - 86400)
end
