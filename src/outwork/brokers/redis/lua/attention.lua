-- When the next cell is to be looked at (see `cells`); nil if none is.
local function next_look()
    return tonumber(call('ZRANGE', ATTENTION, 0, 0, 'WITHSCORES')[2])
end

local function look_is_due()
    local look = next_look()
    return look and look <= now
end
