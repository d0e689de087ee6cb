-- keys: job body errors result ready later held claims expiry ended ids counts watch workers alive outbox pace
-- keys: aside knots ties cell attention until paused stops progress schedules
--
-- Answers what each key is.

local types = {}
for k = 1, #KEYS - 1 do types[k] = call('TYPE', KEYS[k]).ok end
return types
