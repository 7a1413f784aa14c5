-- Settles, then claims.
--
-- ARGV: origin; the claim's token, how long its leases are, in microseconds, its session, and 1 where it takes deliveries whose
-- lease has ended; groups of plain completions, and for each: lease, deliveries, their ids; other settlements, and for each:
-- kind, lease, id, a number, a text; queues, and for each: name, wanted, handlers, and for each: name, version, priority,
-- wanted.
--
-- The answer: for each settlement in the order of ARGV whether its lease was held, 1 or 0, as one text; microseconds until
-- the next is due, or -1; deliveries without a body that were dropped; where something was to be claimed the catalogue's
-- generation and the store's name, each nothing where the server has lost it; whether a handler's number is lost; what was
-- claimed, in groups: the queue's and the handler's place in ARGV, the handler's number, version, ids, bodies, and what is not
-- as it was stored: place, failed, lost, deaths.
--
-- So many bytes are claimed at most, and one delivery at least: they are all in one answer.
local BYTES_MAX = 8 * 1024 * 1024
local origin, token, lease_for = arg(), arg(), math.max(number(), 1000)
local session, takes_ended = arg(), arg() == '1'
local any_state, any_suspect = call('EXISTS', states, suspects) > 0, false
if any_state then any_suspect = call('EXISTS', suspects) == 1 end
local held, counts, tick, freed = {}, {}, now, false

local function count(num, what, by)
    local field = num .. ':' .. what
    counts[field] = (counts[field] or 0) + by
end

local function remove(leased, num, ids, from, to)
    local done = call('HDEL', leases, unpack(ids, from, to))
    call('HDEL', deliveries, unpack(ids, from, to))
    call('ZREM', leased, unpack(ids, from, to))
    if any_state then call('HDEL', states, unpack(ids, from, to)) end
    if any_suspect then
        local blames = call('HMGET', suspects, unpack(ids, from, to))
        for i = from, to do
            local blame = blames[i - from + 1]
            if blame then suspicion().forgive(ids[i], suspicion().read_blame(blame)) end
        end
    end
    count(num, 'done', done)
end

for _ = 1, number() do
    local lease, deliveries_of_it = arg(), number()
    local _, leased, num = lane_of_lease(lease)
    local last = at + deliveries_of_it - 1
    while at <= last do
        local to = math.min(at + CHUNK - 1, last)
        local found = call('HMGET', leases, unpack(ARGV, at, to))
        -- They were claimed together, by one session.
        local whole, all = found[1], is_of(found[1], lease)
        for i = 2, #found do
            if found[i] ~= whole then all = false end
        end
        if all then
            held[#held + 1] = string.rep('1', #found)
            remove(leased, num, ARGV, at, to)
        else
            local ids = {}
            for i = 1, #found do
                local holds = is_of(found[i], lease)
                held[#held + 1] = holds and '1' or '0'
                if holds then ids[#ids + 1] = ARGV[at + i - 1] end
            end
            if #ids > 0 then remove(leased, num, ids, 1, #ids) end
        end
        at = to + 1
    end
end

for _ = 1, number() do
    local kind, lease, id, how_much, text = arg(), arg(), arg(), number(), arg()
    if not is_of(call('HGET', leases, id), lease) then
        held[#held + 1] = '0'
    else
        held[#held + 1] = '1'
        local lane, leased, num = lane_of_lease(lease)
        local blame = any_suspect and suspicion().blame_of(id)
        -- The first command that writes: from here on a full server refuses nothing.
        call('HDEL', leases, id)
        call('ZREM', leased, id)
        tick = tick + 1
        if blame and kind ~= 'released' then suspicion().forgive(id, blame) end
        if kind == 'retry' then
            note_failure(id, failed_of(id) + 1, text)
            call('ZADD', lane, tick + how_much, id)
            count(num, 'retried', 1)
            freed = true
        elseif blame and kind == 'released' then
            -- It is the suspect that it was.
            local _, version = read('>I4I4', lease, 9)
            suspicion().wait_as_suspect(num, version, id, blame)
        elseif kind == 'released' then
            call('ZADD', lane, tick, id)
            freed = true
        else
            local stored = call('HGET', deliveries, id)
            call('HDEL', deliveries, id)
            call('HDEL', states, id)
            local order = order_of(stored)
            if order and leave(id, order) then freed = true end
            if not stored then note_lost() end
            if kind == 'completed' then
                count(num, 'done', 1)
            elseif stored then
                local place = sub(lease, 9, 16)
                -- It died when its place among the letters says.
                local died = math.floor(tick / 1000)
                local numbers = pack('>I4I4I8I4', how_much, blame and blame.deaths or 0, died, #text)
                call('HSET', base .. 'dead_letters', id, place .. numbers .. text .. stored)
                call('ZADD', base .. 'dead', tick, id)
                call('ZADD', base .. 'dead:' .. num, tick, id)
                count(num, 'dead', 1)
            end
        end
    end
end

for field, by in pairs(counts) do
    if by > 0 then call('HINCRBY', base .. 'counts', field, by) end
end

local groups, dropped, bytes, full, next_due = {}, 0, 0, false, nil
local now_text, lease_end = digits(now), math.ceil((now + lease_for) / CHUNK)
local claims, accused = false, false
-- Leases of one claim end a microsecond one after the other, so that of those that have ended the oldest is found first. In a chunk
-- their ends differ in two digits, so that not each of them is a number to be made a text.
local DIGITS = { [0] = '0', '1', '2', '3', '4', '5', '6', '7', '8', '9' }

-- How many deliveries of a source to look at together, up to `most`: those behind the first are presumed to be about as large.
local function fitting(ids, most)
    local size = math.max(call('HSTRLEN', deliveries, ids[1]), 1)
    return math.max(math.min(math.floor((BYTES_MAX - bytes) / size), most), 1)
end

-- Leases the first deliveries of a source, as far as there is room for their bytes: of those of a lane that wait, or of those
-- whose leases have ended.
local function take(handler, source, ids)
    if not claims then
        -- A write that a full server does not refuse, and after which it refuses none of this script: what is claimed makes
        -- room when it is done.
        call('HDEL', leases, '')
        claims = true
    end
    local lane, ended = source.lane, source.ended
    if ended then
        local due = suspicion().accuse(lane, ids)
        if #due < #ids then accused, any_suspect = true, true end
        if #due == 0 then return end
        ids = due
    end
    local bodies = call('HMGET', deliveries, unpack(ids))
    local known = any_state and call('HMGET', states, unpack(ids))
    local lease = token .. pack('>I4I4', lane.num, lane.version) .. session
    local taken, taken_bodies, failed, held_now, ends = {}, {}, {}, {}, {}
    local place, looked, tens, ones = 0, 0, 0, 0
    local end_of_chunk = digits(lease_end)
    lease_end = lease_end + 1
    for i = 1, #ids do
        local id, body = ids[i], bodies[i]
        if body and bytes > 0 and bytes + #body > BYTES_MAX then
            full = true
            break
        end
        looked = i
        if body then
            place = place + 1
            taken[place], taken_bodies[place] = id, body
            local two = 2 * place
            held_now[two - 1], held_now[two] = id, lease
            ends[two - 1], ends[two] = end_of_chunk .. DIGITS[tens] .. DIGITS[ones], id
            ones = ones + 1
            if ones == 10 then tens, ones = tens + 1, 0 end
            bytes = bytes + #body
            if known and known[i] then
                local n = #failed
                failed[n + 1], failed[n + 2] = place, (read('>I4', known[i]))
            end
        else
            -- Its body was evicted, or deleted by hand.
            dropped = dropped + 1
            call('HDEL', leases, id)
            call('HDEL', states, id)
            call('ZREM', lane.leased, id)
            note_lost()
        end
    end
    -- They are its first.
    if not ended and looked > 0 then call('ZREMRANGEBYRANK', lane.due, 0, looked - 1) end
    if place > 0 then
        call('HSET', leases, unpack(held_now))
        call('ZADD', lane.leased, unpack(ends))
        groups[#groups + 1] = {
            handler.queue, handler.place, lane.num, lane.version, table.concat(taken), taken_bodies, failed,
        }
    end
end

-- Leases the oldest `wanted` of a handler.
local function take_of(handler, wanted)
    local sources = handler.sources
    while wanted > 0 and not full do
        local chunk = math.min(wanted, CHUNK)
        if #sources == 1 then
            local ids = call('ZRANGEBYSCORE', sources[1].key, '-inf', now_text, 'LIMIT', 0, chunk)
            if #ids == 0 then return end
            local fit = fitting(ids, #ids)
            for i = #ids, fit + 1, -1 do ids[i] = nil end
            take(handler, sources[1], ids)
            wanted = wanted - fit
        else
            -- Payloads of several versions, or leases that ended: the oldest of all, in runs of one source.
            local all = {}
            for _, source in ipairs(sources) do
                local found = call('ZRANGEBYSCORE', source.key, '-inf', now_text, 'WITHSCORES', 'LIMIT', 0, chunk)
                for i = 1, #found, 2 do
                    all[#all + 1] = { id = found[i], due = tonumber(found[i + 1]), rank = #all, source = source }
                end
            end
            if #all == 0 then return end
            table.sort(all, function(a, b) return a.due < b.due or (a.due == b.due and a.rank < b.rank) end)
            local last, run, fit = math.min(chunk, #all), {}, 1
            for i = 1, last do
                run[#run + 1] = all[i].id
                if #run == 1 then fit = fitting(run, CHUNK) end
                if i == last or all[i + 1].source ~= all[i].source or #run == fit then
                    take(handler, all[i].source, run)
                    if full then return end
                    run = {}
                end
            end
            wanted = wanted - last
        end
    end
end

-- What is due of a sorted set, and when the next of it will be.
local function look_into(handler, lane, key, ended)
    local function comes(due)
        due = tonumber(due)
        if due and due < math.huge and (not next_due or due < next_due) then next_due = due end
    end
    local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')[2]
    if not first or tonumber(first) > now then return comes(first) end
    if takes_ended or not ended then
        handler.sources[#handler.sources + 1] = { lane = lane, key = key, ended = ended }
        handler.count = handler.count + call('ZCOUNT', key, '-inf', now_text)
    end
    comes(call('ZRANGEBYSCORE', key, '(' .. now_text, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)[2])
end

local function look(handler, known)
    handler.sources, handler.count = {}, 0
    if not known then return end
    local num, versions = string.match(known, '^(%d+):(.*)$')
    for version in string.gmatch(versions, '%d+') do
        if tonumber(version) <= handler.version then
            local lane = { num = tonumber(num), version = tonumber(version) }
            lane.due, lane.leased = lane_of(num, version)
            look_into(handler, lane, lane.due, false)
            look_into(handler, lane, lane.leased, true)
        end
    end
end

-- Splits `room` evenly: what one has less than its share is the others'.
local function split(handlers, room)
    local active = {}
    for _, handler in ipairs(handlers) do
        handler.share = 0
        handler.takable = math.min(handler.count, handler.wanted)
        if handler.takable > 0 then active[#active + 1] = handler end
    end
    while room > 0 and #active > 0 do
        local each, still = math.max(math.floor(room / #active), 1), {}
        for _, handler in ipairs(active) do
            local more = math.min(each, handler.takable - handler.share, room)
            handler.share = handler.share + more
            room = room - more
            if handler.share < handler.takable then still[#still + 1] = handler end
        end
        active = still
    end
    return room
end

local more, lane_lost = false, false
local queues = number()
local asked = queues > 0
for queue = 1, queues do
    local name, wanted, handlers, names = arg(), number(), {}, {}
    for place = 1, number() do
        local handler = { queue = queue, place = place, name = arg(), version = number(), priority = number() }
        handler.wanted = number()
        handlers[place], names[place] = handler, handler.name
    end
    if #handlers > 0 and call('SISMEMBER', base .. 'paused', name) == 0 then
        for from = 1, #handlers, CHUNK do
            local to = math.min(from + CHUNK - 1, #handlers)
            local known = call('HMGET', base .. 'lanes', unpack(names, from, to))
            for i = from, to do
                if not known[i - from + 1] and call('HEXISTS', base .. 'catalogue', names[i]) == 1 then lane_lost = true end
                look(handlers[i], known[i - from + 1])
            end
        end
        local room, takable = wanted, 0
        for priority = 2, 0, -1 do
            local of_it = {}
            for _, handler in ipairs(handlers) do
                handler.count = math.min(handler.count, wanted + 1)
                if handler.priority == priority then of_it[#of_it + 1] = handler end
            end
            room = split(of_it, room)
            for _, handler in ipairs(of_it) do
                takable = takable + handler.takable
                -- One that has all it may run at once says itself when it has room again.
                if handler.count > handler.wanted and handler.wanted >= wanted then more = true end
                if handler.share > 0 then take_of(handler, handler.share) end
            end
        end
        if takable > wanted - room then more = true end
    end
end

local of_store = asked and call('HMGET', layout, 'generation', 'identity', 'heads') or {}
local heads = of_store[3]
if heads then
    -- As in a claim: a full server refuses none of it.
    call('HDEL', leases, '')
    local from, some = look_for_lost_heads(heads, CHUNK)
    if from == '0' then
        call('HDEL', layout, 'heads')
    else
        call('HSET', layout, 'heads', from)
    end
    if some then freed = true end
end

if freed then publish(origin) end
local wait = -1
if more or dropped > 0 or full or heads or accused then
    wait = 0
elseif next_due then
    wait = next_due - now
end
return {
    table.concat(held), wait, dropped, of_store[1] or '', of_store[2] or '', lane_lost and 1 or 0, groups,
    accused and 1 or 0,
}
