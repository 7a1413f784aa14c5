-- Counts.
--
-- The answer: the paused queues; for each handler: id, entry, stored, running, done, retried, dead, and for how many
-- microseconds the one that is due for the longest time has been so, or -1.
local answer = {}
local handlers = call('HGETALL', base .. 'catalogue')
for i = 1, #handlers, 2 do
    local id, entry = handlers[i], handlers[i + 1]
    local num, versions = string.match(call('HGET', base .. 'lanes', id) or '0:', '^(%d+):(.*)$')
    local stored, running, due_for = 0, 0, -1
    for version in string.gmatch(versions, '%d+') do
        local due, leased = lane_of(num, version)
        local exposed, tried = suspects_of(num, version)
        for _, key in ipairs({ due, leased, exposed, tried }) do stored = stored + call('ZCARD', key) end
        -- One whose lease has ended waits.
        running = running + call('ZCOUNT', leased, '(' .. digits(now), '+inf')
        for _, key in ipairs({ due, leased }) do
            local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
            if first and tonumber(first) <= now then due_for = math.max(due_for, now - tonumber(first)) end
        end
    end
    local counts = call('HMGET', base .. 'counts', num .. ':done', num .. ':retried', num .. ':dead')
    answer[#answer + 1] = {
        id, entry, stored, running,
        tonumber(counts[1] or 0), tonumber(counts[2] or 0), tonumber(counts[3] or 0), due_for,
    }
end
return { call('SMEMBERS', base .. 'paused'), answer }
