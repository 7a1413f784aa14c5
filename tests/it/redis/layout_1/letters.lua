-- Requeues or discards dead letters, some at a time.
--
-- ARGV: origin; `requeue`, `discard`, or `sweep`; `one`, `of`, or `old`; an id, a handler, or how many are kept; for `old`
-- the age in microseconds, else up to which death (0: now); how many at most. The answer: how many there were, whether there
-- may be more, and up to which death.
local origin, action, which, name, limit_of_time, limit = arg(), arg(), arg(), arg(), number(), number()
local dead = base .. 'dead'
local ids, more, up_to = {}, 0, 0
if which == 'one' then
    ids[1] = name
elseif which == 'of' then
    up_to = limit_of_time > 0 and limit_of_time or now
    local num = string.match(call('HGET', base .. 'lanes', name) or '', '^(%d+):')
    if num then ids = call('ZRANGEBYSCORE', dead .. ':' .. num, '-inf', digits(up_to), 'LIMIT', 0, limit) end
else
    ids = call('ZRANGEBYSCORE', dead, '-inf', '(' .. digits(now - limit_of_time), 'LIMIT', 0, limit)
    local beyond = math.min(call('ZCARD', dead) - tonumber(name), limit)
    if beyond > #ids then ids = call('ZRANGE', dead, 0, beyond - 1) end
end
if #ids >= limit then more = 1 end
local count, due = 0, now
for _, id in ipairs(ids) do
    local letter = call('HGET', base .. 'letters', id)
    if not letter then
        -- Evicted, or deleted by hand. Of which handler it was is not known, where it was not asked for.
        call('ZREM', dead, id)
        if which == 'of' then
            local num = string.match(call('HGET', base .. 'lanes', name), '^(%d+):')
            call('ZREM', dead .. ':' .. num, id)
        end
    else
        local num, version, _, _, _, error_bytes, body_at = read('>I4I4I4I4I8I4', letter)
        call('HDEL', base .. 'letters', id)
        call('ZREM', dead, id)
        call('ZREM', dead .. ':' .. digits(num), id)
        -- Where a delivery of this id waits already, that one stands for it.
        if action == 'requeue' and call('HEXISTS', deliveries, id) == 0 then
            local stored, lane = sub(letter, body_at + error_bytes), lane_of(num, version)
            local due_at, order = due, order_of(stored)
            call('HSET', deliveries, id, stored)
            if order then due_at = queue_up(id, order, lane, due) end
            call('ZADD', lane, due_at, id)
            due = due + 1
        end
        count = count + 1
    end
end
if action == 'requeue' and count > 0 then publish(origin) end
return { count, more, digits(up_to) }
