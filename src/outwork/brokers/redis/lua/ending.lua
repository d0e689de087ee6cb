-- The end of a job, and the failures that a broker writes down itself.

local ended, finished, moments = {}, {}, {}

-- Prune time and end, as they stand in the record and as a score: formatting a number costs more than the rest.
local function moment(keep)
    local known = moments[keep]
    if not known then
        local prune_at = now + math.max(tonumber(keep), 600)
        known = {pack('>dd', prune_at, now), string.format('%.17g', prune_at)}
        moments[keep] = known
    end
    return known
end

-- The record of a job that ends; `write_endings` completes it.
local function finish(id, s, t, state, keep)
    local at = moment(keep)
    ended[#ended + 1] = at[2]
    ended[#ended + 1] = id
    finished[#finished + 1] = id
    return state .. sub(s, 2, t + 7) .. at[1] .. sub(s, t + 24)
end

-- Tell those who wait for these jobs. WATCH holds, for each job that somebody waits for, the channels to tell.
local function announce(ids)
    if #ids == 0 or call('EXISTS', WATCH) == 0 then return end
    local told = {}
    for k, channels in ipairs(fetch(WATCH, ids)) do
        if channels then
            told[#told + 1] = ids[k]
            for channel in string.gmatch(channels, '%S+') do call('PUBLISH', PREFIX .. 'ended:' .. channel, ids[k]) end
        end
    end
    many('HDEL', WATCH, told)
end

local function write_endings()
    many('ZADD', ENDED, ended)
    announce(finished)
end
