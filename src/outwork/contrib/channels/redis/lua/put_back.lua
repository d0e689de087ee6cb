-- pipe, parcels...
local pipe = ARGV[1]
local list = P .. 'c:' .. pipe
local until_ = now
for at = #ARGV, 2, -1 do
    redis.call('LPUSH', list, ARGV[at])
    until_ = math.max(until_, expires(ARGV[at]))
end
local left = math.max(redis.call('PTTL', list), math.ceil((until_ - now) * 1000), 1)
redis.call('PEXPIRE', list, left)
feed(pipe)
return 0
