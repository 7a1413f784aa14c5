-- Forgets deliveries that were pushed once, some at a time: whose time is over, and the oldest beyond the number that is kept.
-- And looks through some of those that wait for their order key's turn: what had it may be lost, and no claim may have met it.
-- Through some suspects, too, whether they are still there. Sessions are forgotten that ended long ago.
--
-- ARGV: origin; how long marks are kept, in microseconds; how many are; how many of each kind at most; how many of those that
-- wait. The answer: whether there may be more marks, and how many were forgotten before their time since that was last answered,
-- here and by pushes.
local origin, retention, kept, limit, waiting = arg(), number(), number(), number(), number()
local over, beyond = forget(retention, kept, limit)
local forgotten = call('HGET', layout, 'forgotten')
if forgotten then call('HDEL', layout, 'forgotten') end
-- A write that a full server does not refuse, and after which it refuses none of this script.
call('HDEL', leases, '')
local from, freed = look_for_lost_heads(call('HGET', layout, 'heads_swept') or '0', waiting)
if from == '0' then
    call('HDEL', layout, 'heads_swept')
else
    call('HSET', layout, 'heads_swept', from)
end
if freed then publish(origin) end
suspicion().forget_sessions(CHUNK)
local found = call('HSCAN', suspects, call('HGET', layout, 'suspects_swept') or '0', 'COUNT', waiting)
for i = 1, #found[2], 2 do
    local id = found[2][i]
    if call('HEXISTS', deliveries, id) == 0 then suspicion().forgive(id, suspicion().read_blame(found[2][i + 1])) end
end
if found[1] == '0' then
    call('HDEL', layout, 'suspects_swept')
else
    call('HSET', layout, 'suspects_swept', found[1])
end
return { (over >= limit or beyond >= limit) and 1 or 0, tonumber(forgotten or 0) }
