-- Stores pushes, each of them all or nothing.
--
-- ARGV: origin; for how long those of a repeated push are remembered, and finished ones, in microseconds; how many are; lanes,
-- and for each: handler, version; pushes, and for each: generation, terms, deliveries, and for each: lane, id, terms, body. A
-- push's terms are nothing, as with most emits, or: once, its end in milliseconds since 1970 or nothing, finished deliveries,
-- their ids. The answer has for each push: stored, moved (planned from another catalogue), late, unknown handler. Where some
-- deliveries were not stored of pushes that were, it is that and a list: for each its push's place, and its own in that.
--
-- The first command that writes is one that a server refuses when it is full: nothing is stored then.
local origin, retention, retention_finished, kept = arg(), number(), number(), number()
local generation = call('HGET', layout, 'generation')

local lanes = {}
for number_of_lane = 1, number() do
    local handler, version = arg(), arg()
    local known = call('HGET', base .. 'lanes', handler)
    local lane = {}
    if known then
        local num, versions = string.match(known, '^(%d+):(.*)$')
        lane.due, lane.added = lane_of(num, version), {}
        if not string.find(',' .. versions .. ',', ',' .. version .. ',', 1, true) then
            lane.handler, lane.version = handler, version
        end
    elseif call('HEXISTS', base .. 'catalogue', handler) == 1 then
        -- The server has lost the number of a handler that is recorded: whoever reads the catalogue puts it back.
        lane.lost = true
    end
    lanes[tostring(number_of_lane)] = lane
end

-- Which deliveries were pushed once before. All are remembered from now on.
local function remembered(first, last)
    local before, from = {}, first
    while from <= last do
        local ids, added = {}, {}
        for i = from, math.min(from + 4 * CHUNK - 4, last), 4 do
            local id = ARGV[i + 1]
            ids[#ids + 1] = id
            added[#added + 1], added[#added + 2] = now, id
        end
        local scores = call('ZMSCORE', base .. 'once', unpack(ids))
        for i = 1, #ids do
            if scores[i] then before[from + 4 * (i - 1)] = true end
        end
        call('ZADD', base .. 'once', 'NX', unpack(added))
        from = from + 4 * CHUNK
    end
    return before
end

-- Whether a delivery may be stored under its unique key: no other has had it lately. One that is stored already is left as it
-- is, and so is the time of its key.
local function takes_key(id, key, within)
    if call('HEXISTS', deliveries, id) == 1 then return false end
    local name = base .. 'unique:' .. key
    if within > 0 and call('SET', name, id, 'PX', digits(within), 'NX') then return true end
    local owner = call('GET', name)
    return not owner or owner == id
end

-- By their places in ARGV, deliveries that are not stored of pushes that are: the number of the push. And where each push's are.
local left_out, any_left_out, firsts = {}, false, {}
local answers, new, seen, finished, marks = {}, {}, {}, {}, 0
for answer = 1, number() do
    local planned, once = arg(), arg()
    local ends, ended, first_ended = nil, 0, at
    if once ~= '' then
        ends, ended = number(), number()
        first_ended = at
        at = at + ended
    end
    local count = number()
    local first, last = at, at + 4 * count - 1
    at = last + 1
    answers[answer], firsts[answer] = 's', first
    if ends and now > ends * 1000 then
        answers[answer] = 'l'
    elseif planned ~= generation then
        answers[answer] = 'm'
    else
        for i = first, last, 4 do
            local lane = lanes[ARGV[i]]
            if lane.lost and answers[answer] == 's' then answers[answer] = 'm' end
            if not lane.due and not lane.lost then answers[answer] = 'u' end
        end
    end
    if answers[answer] == 's' then
        for i = first_ended, first_ended + ended - 1 do finished[#finished + 1] = ARGV[i] end
        if once == '1' then marks = marks + count end
        local before = once == '1' and remembered(first, last) or {}
        for i = first, last, 4 do
            local id, terms = ARGV[i + 1], ARGV[i + 2]
            local stores = not before[i]
            if stores and #terms > 24 then
                stores = takes_key(id, sub(terms, 25), (read('>I8', terms, 17)))
            end
            if stores and not seen[id] then
                seen[id] = answer
                new[#new + 1] = i
            elseif seen[id] ~= answer then
                left_out[i], any_left_out = answer, true
            end
        end
    end
end

local emitted_now = pack('>I8', math.floor(now / 1000))
local due, stored = now, 0
for from = 1, #new, CHUNK do
    local to = math.min(from + CHUNK - 1, #new)
    local ids, values = {}, {}
    for i = from, to do ids[#ids + 1] = ARGV[new[i] + 1] end
    local there = call('HMGET', deliveries, unpack(ids))
    for i = from, to do
        local place = new[i]
        if not there[i - from + 1] then
            local lane, id, terms, body = lanes[ARGV[place]], ids[i - from + 1], ARGV[place + 2], ARGV[place + 3]
            local emitted, due_at = emitted_now, due
            if terms ~= '' then
                due_at = due + read('>I8', terms)
                if sub(terms, 9, 16) ~= '\0\0\0\0\0\0\0\0' then emitted = sub(terms, 9, 16) end
            end
            local value = emitted .. body
            local order = order_of(value)
            if order then
                -- At once: the next of its key looks whether it is there.
                call('HSET', deliveries, id, value)
                due_at = queue_up(id, order, lane.due, due_at)
            else
                values[#values + 1], values[#values + 2] = id, value
            end
            local added = lane.added
            added[#added + 1], added[#added + 2] = due_at, id
            due = due + 1
            stored = stored + 1
        else
            left_out[place], any_left_out = seen[ids[i - from + 1]], true
        end
    end
    if #values > 0 then call('HSET', deliveries, unpack(values)) end
    for _, lane in pairs(lanes) do
        if lane.added and #lane.added > 0 then
            call('ZADD', lane.due, unpack(lane.added))
            lane.added, lane.used = {}, true
        end
    end
end
for _, lane in pairs(lanes) do
    if lane.used and lane.version then
        -- Two lanes of one handler may be new at once: each reads what the other has left.
        local known = call('HGET', base .. 'lanes', lane.handler)
        local comma = sub(known, -1) == ':' and '' or ','
        call('HSET', base .. 'lanes', lane.handler, known .. comma .. lane.version)
    end
end
-- The marks of what is finished are as old as those that will be forgotten soon; a second time makes them no younger.
if #finished > 0 and stored == 0 and marks == 0 then
    -- A write that a full server does not refuse, and after which it refuses none of this script.
    call('HDEL', leases, '')
end
for from = 1, #finished, CHUNK do
    local aged = {}
    for i = from, math.min(from + CHUNK - 1, #finished) do
        aged[#aged + 1], aged[#aged + 2] = digits(now - retention + retention_finished), finished[i]
    end
    call('ZADD', base .. 'once', 'XX', 'LT', unpack(aged))
end
if marks + #finished > 0 then forget(retention, kept, 2 * (marks + #finished)) end
if stored > 0 then publish(origin) end
if not any_left_out then return table.concat(answers) end
local places = {}
for place in pairs(left_out) do places[#places + 1] = place end
table.sort(places)
local list = {}
for _, place in ipairs(places) do
    local answer = left_out[place]
    list[#list + 1], list[#list + 2] = answer, (place - firsts[answer]) / 4 + 1
end
return { table.concat(answers), list }
