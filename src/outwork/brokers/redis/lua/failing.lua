-- Failures that the broker itself writes down. ERRORS holds a job's failures, a line of JSON each.

-- Append, keeping the first one and the last nine.
local function remember(id, kind, message, attempt, worker)
    local line = '{"exception":"outwork.errors.' .. kind .. '","message":' .. cjson.encode(message)
        .. ',"traceback":"","attempt":' .. string.format('%d', attempt) .. ',"worker":' .. cjson.encode(worker)
        .. ',"at":' .. string.format('%.6f', now) .. '}'
    local lines = {}
    for one in string.gmatch(call('HGET', ERRORS, id) or '', '[^\n]+') do lines[#lines + 1] = one end
    lines[#lines + 1] = line
    while #lines > 10 do table.remove(lines, 2) end
    call('HSET', ERRORS, id, table.concat(lines, '\n'))
end
