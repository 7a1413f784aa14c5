-- Records handlers.
--
-- ARGV: origin; this code's version, and the oldest that may go on beside it; the highest generation that the caller has
-- seen; `all`, or `absent` where what is there is to stay; handlers, and for each: id, entry; retired ones, their ids.
local origin, version, min_compatible, seen, how = arg(), arg(), arg(), number(), arg()
local generation = tonumber(call('HGET', layout, 'generation') or 0)
local changed = generation < seen
for _ = 1, number() do
    local id, entry = arg(), arg()
    local there = call('HGET', base .. 'handlers', id)
    local retired = call('SISMEMBER', base .. 'retired', id) == 1
    local absent = not there and not retired
    if absent or (how == 'all' and (retired or there ~= entry)) then
        call('HSET', base .. 'handlers', id, entry)
        call('SREM', base .. 'retired', id)
        -- Numbers are given once, and keep what is stored for each delivery narrow.
        call('HSETNX', base .. 'lanes', id, (call('HLEN', base .. 'lanes') + 1) .. ':')
        changed = true
    end
end
for _ = 1, number() do
    local id = arg()
    if call('HEXISTS', base .. 'handlers', id) == 0 and call('SADD', base .. 'retired', id) == 1 then changed = true end
end
if changed then
    call('HSETNX', layout, 'version', version)
    call('HSETNX', layout, 'min_compatible', min_compatible)
    call('HSET', layout, 'generation', digits(math.max(math.floor(now / 1000), generation + 1, seen + 1)))
    publish(origin)
end
return changed and 1 or 0
