-- What every script begins with. KEYS[1] is the layout's key; all other keys have its prefix, and with it its hash tag.
-- Lists are taken in chunks: `unpack` and a command's arguments have their limits.
local CHUNK = 100
local call, unpack = redis.call, unpack
local pack, read = struct.pack, struct.unpack
local sub, byte = string.sub, string.byte
local base = sub(KEYS[1], 1, -7)
local layout = KEYS[1]
local deliveries, leases, states = base .. 'deliveries', base .. 'leases', base .. 'states'

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

-- Takes a delivery out of its order key, and lets the next go; answers whether there was one.
local function leave(id, order)
    local list = base .. 'order:' .. order
    call('LREM', list, 1, id)
    call('HDEL', base .. 'parked', id)
    local first = call('LINDEX', list, 0)
    local parked = first and call('HGET', base .. 'parked', first)
    if not parked then return false end
    local due, lane = string.match(parked, '^(%d+) (.*)$')
    call('HDEL', base .. 'parked', first)
    call('ZADD', lane, due, first)
    return true
end

-- Puts a delivery behind those of its order key; answers the time at which its lane has it: never, while it waits for them.
local function queue_up(id, order, lane, due)
    local list = base .. 'order:' .. order
    local first = call('LINDEX', list, 0)
    while first and call('HEXISTS', deliveries, first) == 0 do
        -- A server that evicts has lost it, and nobody would ever settle it.
        leave(first, order)
        first = call('LINDEX', list, 0)
    end
    call('RPUSH', list, id)
    if not first then return due end
    call('HSET', base .. 'parked', id, digits(due) .. ' ' .. lane)
    return 'inf'
end
