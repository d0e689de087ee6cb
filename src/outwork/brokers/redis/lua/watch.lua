-- keys: job watch
-- needs: record
--
-- ARGV: offset, channel, ids. Answers the ids that have ended or are not known; if there is none, the channel is told
-- when one ends. The note goes with the job's end at the latest.

local ids, ended, put = {}, {}, {}
for i = 3, #ARGV do ids[#ids + 1] = ARGV[i] end
for k, s in ipairs(fetch(JOB, ids)) do
    if not s or has_ended(s) then ended[#ended + 1] = ids[k] end
end
if #ended > 0 then return ended end
call('HDEL', WATCH, '') -- a full server must not refuse what follows
for k, channels in ipairs(fetch(WATCH, ids)) do
    if not channels or not find(channels, ARGV[2], 1, true) then
        put[#put + 1] = ids[k]
        put[#put + 1] = channels and sub(channels, -899) .. ' ' .. ARGV[2] or ARGV[2] -- a hundred of 8 letters at most
    end
end
many('HSET', WATCH, put)
return ended
