-- What every script begins with. KEYS[1] is the key of the store itself; all other keys have its prefix, and its hash tag.
-- Lists are taken in chunks: `unpack` and a command's arguments have their limits.
local CHUNK = 100
local call, unpack = redis.call, unpack
local pack, read = struct.pack, struct.unpack
local sub, byte = string.sub, string.byte
local base = sub(KEYS[1], 1, -6)
local layout = KEYS[1]
local deliveries, leases, states = base .. 'deliveries', base .. 'held', base .. 'states'

-- Microseconds since 1970. Each delivery of a call is due one of them after the one before it, so that what was stored
-- first is found first: a script takes longer than that for each.
local time = call('TIME')
local now = time[1] * 1000000 + time[2]

-- A number in digits: what `tostring` writes loses the last ones.
local function digits(number)
    return string.format('%.0f', number)
end

local at = 1
local function arg()
    at = at + 1
    return ARGV[at - 1]
end
local function number()
    return tonumber(arg())
end

-- A lane is a handler's deliveries of one payload version: those that wait, and those that are leased.
local function lane_of(num, version)
    local place = digits(num) .. ':' .. digits(version)
    return base .. 'due:' .. place, base .. 'leased:' .. place
end

-- A lease is its token, 8 bytes, with the numbers of its handler and of its payload's version.
local function lane_of_lease(lease)
    local num, version = read('>I4I4', lease, 9)
    local due, leased = lane_of(num, version)
    return due, leased, digits(num)
end

-- Tells the other processes that they may find something. Who may not publish leaves it to their polling.
local function publish(origin)
    redis.pcall('PUBLISH', base .. 'changes', origin)
end

-- What is kept of a delivery only while it is not as it was stored: failed attempts, whether it outlived a lease (1) and
-- runs alone now (2), and its deaths; then the last error.
local function state_of(id)
    local state = call('HGET', states, id)
    if not state then return 0, 0, 0, '' end
    local failed, alone, deaths = read('>I4BI4', state)
    return failed, alone, deaths, sub(state, 10)
end

local function set_state(id, failed, alone, deaths, failure)
    if failed == 0 and alone == 0 and deaths == 0 then
        call('HDEL', states, id)
    else
        call('HSET', states, id, pack('>I4BI4', failed, alone, deaths) .. failure)
    end
end

-- The order key of a stored delivery, where it has one.
local function order_of(stored)
    if stored and byte(stored, 9) >= 128 then return sub(stored, 10, 25) end
end

-- Deliveries that wait for others of their order key, each with its own time, its lane and the key.
local parked = base .. 'parked'
local function order_list(order)
    return base .. 'order:' .. order
end

-- A delivery was lost that may have had the turn of its order key: claims look through those that wait, from here on.
local function note_lost()
    if call('EXISTS', parked) == 1 then call('HSET', layout, 'heads', '0') end
end

-- Lets the first of an order key go that is still there; answers whether it had waited. A server that evicts has lost the others,
-- and nobody would ever settle them.
local function let_go(order)
    local list = order_list(order)
    for _ = 1, CHUNK do
        local first = call('LINDEX', list, 0)
        if not first then return false end
        local waits = call('HGET', parked, first)
        local due, lane = string.match(waits or '', '^(%d+) ([^\n]*)')
        if waits then call('HDEL', parked, first) end
        if call('HEXISTS', deliveries, first) == 1 then
            if due then call('ZADD', lane, due, first) end
            return due ~= nil
        end
        call('LPOP', list)
        if due then call('ZREM', lane, first) end
    end
    note_lost()
    return false
end

-- Takes a delivery out of its order key, and lets the next go; answers whether there was one.
local function leave(id, order)
    -- Where the key's own list was lost, those that wait are in none.
    if call('LREM', order_list(order), 1, id) == 0 then note_lost() end
    call('HDEL', parked, id)
    return let_go(order)
end

-- Puts a delivery behind those of its order key; answers the time at which its lane has it: never, while it waits for them.
local function queue_up(id, order, lane, due)
    local list = order_list(order)
    let_go(order)
    local first = call('LINDEX', list, 0)
    call('RPUSH', list, id)
    if not first then return due end
    call('HSET', parked, id, digits(due) .. ' ' .. lane .. '\n' .. order)
    return 'inf'
end

-- Puts the first of an order key back into its lane where that was evicted: no lane has it, and nobody holds it. Where its
-- handler has payloads of several versions it is not known in which it was. The lane that is given is of one that waits for it.
local function put_back(order, lane)
    local first = call('LINDEX', order_list(order), 0)
    if not first or call('HEXISTS', leases, first) == 1 or call('ZSCORE', lane, first) then return false end
    local num, version = string.match(lane, ':(%d+):(%d+)$')
    if not num or call('ZSCORE', base .. 'leased:' .. num .. ':' .. version, first) then return false end
    for _, known in ipairs(call('HVALS', base .. 'lanes')) do
        if known == num .. ':' .. version then
            call('ZADD', lane, digits(now), first)
            return true
        end
    end
    return false
end

-- Looks through some of those that wait whether the first of their order key is there, and lets the next go where it is not. Where
-- the key's list is lost, those that are found go on in the order of their times. Answers where to go on, `0` at the end; and
-- whether some were let go.
local function look_for_lost_heads(from, some)
    local found = call('HSCAN', parked, from, 'COUNT', some)
    local waiting, keys, freed = {}, {}, false
    for i = 1, #found[2], 2 do
        local id, due, lane = found[2][i], string.match(found[2][i + 1], '^(%d+) ([^\n]*)')
        -- That of an older layout did not write the key.
        local order = string.match(found[2][i + 1], '\n(.*)$') or order_of(call('HGET', deliveries, id))
        if order then
            if not waiting[order] then
                waiting[order] = {}
                keys[#keys + 1] = order
            end
            local of_it = waiting[order]
            of_it[#of_it + 1] = { id = id, due = tonumber(due), lane = lane }
        end
    end
    for _, order in ipairs(keys) do
        local list = order_list(order)
        if call('EXISTS', list) == 0 then
            table.sort(waiting[order], function(a, b) return a.due < b.due end)
            for _, waits in ipairs(waiting[order]) do call('RPUSH', list, waits.id) end
        end
        if let_go(order) or put_back(order, waiting[order][1].lane) then freed = true end
    end
    return found[1], freed
end

-- Scripts of layout 1, in processes that run since before the store was brought up, find nothing under these names that they could
-- go on with: each of them reads one of them before it writes.
local OLD = { { 'leases', 'held' }, { 'handlers', 'catalogue' }, { 'letters', 'dead_letters' } }
local older = base .. 'layout'

-- Takes over what is there of layout 1.
local function take_over()
    local found = call('HMGET', older, 'version', 'min_compatible', 'generation')
    if found[3] then
        if call('EXISTS', layout) == 0 then
            call('HSET', layout, 'version', found[1] or '1', 'min_compatible', found[2] or '1', 'generation', found[3])
        end
        call('DEL', older)
    end
    for _, names in ipairs(OLD) do
        local was, is = base .. names[1], base .. names[2]
        if call('TYPE', was).ok == 'hash' then
            if call('EXISTS', is) == 0 then
                call('RENAME', was, is)
            else
                call('DEL', was)
            end
        end
    end
end

-- Bars it from then on: who opens the store reads which version it is of, as ever, and no script finds a generation.
local function bar_older(version, min_compatible)
    local said = call('HMGET', older, 'version', 'min_compatible')
    if not said[1] or not said[2] then
        call('HSET', older, 'version', version, 'min_compatible', min_compatible)
    end
    for _, names in ipairs(OLD) do
        if call('EXISTS', base .. names[1]) == 0 then call('SET', base .. names[1], 'layout ' .. version) end
    end
end

-- Writes what evented presumes where it is not: the server is new, or was emptied. Answers whether something was missing. The
-- generation is text, never a number: numbers here have 53 bits.
local function make_whole(version, min_compatible, identity, generation)
    take_over()
    bar_older(version, min_compatible)
    local found = call('HMGET', layout, 'version', 'min_compatible', 'identity', 'generation')
    if found[1] and found[2] and found[3] and found[4] then return false end
    for i, field in ipairs({ 'version', 'min_compatible', 'identity', 'generation' }) do
        if not found[i] then call('HSET', layout, field, ({ version, min_compatible, identity, generation })[i]) end
    end
    return true
end

-- Forgets deliveries that were pushed once: at most so many whose time is over, and at most so many beyond the number that is
-- kept, the oldest, which are counted. Those that are finished have the lowest scores, and stay for their two minutes: a push
-- that is on its way may repeat them. Answers how many of each.
local FINISHED = 120 * 1000000
local function forget(retention, kept, limit)
    local once = base .. 'once'
    local over = math.min(call('ZCOUNT', once, '-inf', '(' .. digits(now - retention)), limit)
    if over > 0 then call('ZREMRANGEBYRANK', once, 0, over - 1) end
    local finished = call('ZCOUNT', once, '-inf', digits(now - retention + FINISHED))
    local beyond = math.min(call('ZCARD', once) - finished - kept, limit)
    if beyond > 0 then
        call('ZREMRANGEBYRANK', once, finished, finished + beyond - 1)
        call('HINCRBY', layout, 'forgotten', beyond)
    end
    return over, math.max(beyond, 0)
end
