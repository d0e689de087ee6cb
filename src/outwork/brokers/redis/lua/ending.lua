-- The end of a job. ENDED holds, for each script that ended some, their ids as one member, by when they are to be
-- forgotten: the record says whether that is still so. (A member a job cost four times the memory, and 1 us.)

local ended, fronts = {}, {}

-- Where a job's record goes on unchanged when it ends: `front_for(state, keep)` .. sub(s, 18).
local function front_for(state, keep)
    local known = fronts[state .. keep]
    if not known then
        local prune_at = now + math.max(tonumber(keep), 600)
        known = {front = state .. pack('>dd', prune_at, now), score = exact(prune_at)}
        fronts[state .. keep] = known
        ended[known.score] = ended[known.score] or {}
        known.ids = ended[known.score]
    end
    return known
end

-- The record of a job that ends; `write_endings` completes it.
local function finish(id, s, state, keep)
    local known = front_for(state, keep)
    known.ids[#known.ids + 1] = id
    return known.front .. sub(s, 18)
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
    for score, ids in pairs(ended) do
        if #ids > 0 then call('ZADD', ENDED, score, table.concat(ids, '\0')) end
        announce(ids)
    end
end

-- The ids in such a member.
local function ids_in(member)
    local ids = {}
    for id in string.gmatch(member, '[^%z]+') do ids[#ids + 1] = id end
    return ids
end
