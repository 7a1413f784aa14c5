-- Counts.
--
-- The answer: the paused queues; for each handler: id, entry, stored, running, done, retried, dead, and for how many
-- microseconds the one that is due for the longest time has been so, or -1.
local running = {}
local by_lane = {}
local all = call('HGETALL', leases)
for i = 1, #all, 2 do
    local lane, num = lane_of_lease(all[i + 1])
    local of_it = by_lane[lane] or { num = num }
    by_lane[lane] = of_it
    of_it[#of_it + 1] = all[i]
end
for lane, ids in pairs(by_lane) do
    for from = 1, #ids, CHUNK do
        local ends = call('ZMSCORE', lane, unpack(ids, from, math.min(from + CHUNK - 1, #ids)))
        for i = 1, #ends do
            -- One whose lease has ended waits.
            if ends[i] and tonumber(ends[i]) > now then running[ids.num] = (running[ids.num] or 0) + 1 end
        end
    end
end
local answer = {}
local handlers = call('HGETALL', base .. 'handlers')
for i = 1, #handlers, 2 do
    local id, entry = handlers[i], handlers[i + 1]
    local num, versions = string.match(call('HGET', base .. 'lanes', id) or '0:', '^(%d+):(.*)$')
    local stored, due_for = 0, -1
    for version in string.gmatch(versions, '%d+') do
        local lane = lane_of(num, version)
        stored = stored + call('ZCARD', lane)
        local first = call('ZRANGE', lane, 0, 0, 'WITHSCORES')[2]
        if first and tonumber(first) <= now then due_for = math.max(due_for, now - tonumber(first)) end
    end
    local counts = call('HMGET', base .. 'counts', num .. ':done', num .. ':retried', num .. ':dead')
    answer[#answer + 1] = {
        id, entry, stored, running[num] or 0,
        tonumber(counts[1] or 0), tonumber(counts[2] or 0), tonumber(counts[3] or 0), due_for,
    }
end
return { call('SMEMBERS', base .. 'paused'), answer }
