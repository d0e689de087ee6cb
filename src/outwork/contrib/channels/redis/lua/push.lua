-- pipe, content, room, expiry -> -1: full; else thousandths of seconds for which nobody has looked
local pipe = ARGV[1]
if not append(pipe, ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])) then return -1 end
if string.sub(pipe, -1) == '!' then return 0 end
local since = redis.call('ZSCORE', P .. 'looked', pipe) or redis.call('ZSCORE', P .. 'sent', pipe)
if since then return math.floor((now - tonumber(since)) * 1000) end
redis.call('ZADD', P .. 'sent', now, pipe)
redis.call('ZREMRANGEBYSCORE', P .. 'sent', '-inf', now - 86400)
return 0
