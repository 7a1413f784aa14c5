-- Claims suspects: some that are exposed, and one that is tried singly.
--
-- ARGV: the claim's token, how long its leases are, in microseconds, and its session; how many are to be exposed; whether one may
-- be tried against which none, one, two.. charges are held, 1 or 0 for each, the last for more, and nothing where none is tried;
-- queues, and for each: name, handlers, and for each: name, version.
--
-- The answer: suspects without a body that were dropped; whether others wait; those that were claimed, each with: 1 where it is
-- exposed, 2 where it is tried; the queue's and the handler's place in ARGV, the handler's number, version, id, body, failed,
-- deaths, charges.
--
-- Of so many bytes at most are those that are claimed, and one delivery at least: they are all in one answer.
local BYTES_MAX = 8 * 1024 * 1024
-- So many of a lane that wait to be tried are looked at.
local CANDIDATES = 100
local token, lease_for, session = arg(), math.max(number(), 1000), arg()
local wanted, tries = number(), arg()
local blames = suspicion()
local lanes, asked = {}, {}
for queue = 1, number() do
    local paused = call('SISMEMBER', base .. 'paused', arg()) == 1
    for place = 1, number() do
        local handler, highest = arg(), number()
        local known = not paused and call('HGET', base .. 'lanes', handler)
        local num, versions = string.match(known or '', '^(%d+):(.*)$')
        if num then asked[tonumber(num)] = true end
        for version in string.gmatch(versions or '', '%d+') do
            if tonumber(version) <= highest then
                local lane = { queue = queue, place = place, num = tonumber(num), version = tonumber(version) }
                lane.due, lane.leased = lane_of(num, version)
                lane[EXPOSED], lane[TRIED] = suspects_of(num, version)
                lanes[#lanes + 1] = lane
            end
        end
    end
end

local claimed, bytes, dropped, full, writes = {}, 0, 0, false, false

-- The suspects of one kind, those that have been suspects for the longest time first.
local function oldest(kind, most)
    local all = {}
    for _, lane in ipairs(lanes) do
        local found = call('ZRANGE', lane[kind], 0, most - 1, 'WITHSCORES')
        for i = 1, #found, 2 do
            local id, since = found[i], tonumber(found[i + 1])
            -- Where the server has lost what is held against it, it is such a one all the same.
            local blame = blames.blame_of(id)
                or { kind = kind, pending = 0, deaths = kind, charges = 0, since = since, session = NOBODY }
            all[#all + 1] = { id = id, since = since, rank = #all, lane = lane, blame = blame }
        end
    end
    table.sort(all, function(a, b) return a.since < b.since or (a.since == b.since and a.rank < b.rank) end)
    return all
end

-- Leases a suspect; answers whether it did.
local function take(kind, suspect)
    local id, lane, blame = suspect.id, suspect.lane, suspect.blame
    local body = call('HGET', deliveries, id)
    if body and bytes > 0 and bytes + #body > BYTES_MAX then
        full = true
        return false
    end
    if not writes then
        -- As in a claim: a full server refuses none of it.
        call('HDEL', leases, '')
        writes = true
    end
    call('ZREM', lane[kind], id)
    -- The release before takes a suspect that holds an order key for one that was lost, and puts it back into its lane.
    if call('HEXISTS', leases, id) == 1 then return false end
    call('ZREM', lane.due, id)
    if not body then
        -- It was evicted, or deleted by hand.
        dropped = dropped + 1
        blames.forgive(id, blame)
        call('HDEL', states, id)
        note_lost()
        return false
    end
    bytes = bytes + #body
    blame.charges, blame.pending = blame.charges + blame.pending, 0
    blames.note_blame(id, blame)
    call('HSET', leases, id, token .. pack('>I4I4', lane.num, lane.version) .. session)
    call('ZADD', lane.leased, now + lease_for + #claimed, id)
    claimed[#claimed + 1] = {
        kind, lane.queue, lane.place, lane.num, lane.version, id, body, failed_of(id), blame.deaths, blame.charges,
    }
    return true
end

-- Whether all leases of a session that died have ended, and all that it had and that is exposed is settled, as far as it is asked
-- for.
local cleared = {}
local function is_cleared(session)
    if session == NOBODY then return true end
    if cleared[session] == nil then
        local last = call('ZSCORE', session_leases, session)
        cleared[session] = not last or tonumber(last) <= now
        local with = cleared[session] and call('HGETALL', blames.died_with(session)) or {}
        for i = 1, #with, 2 do
            local id, kind, num, version = with[i], read('>BI4I4', with[i + 1])
            -- One that neither runs nor waits was lost by the server.
            if kind == EXPOSED and asked[num]
                and (call('HEXISTS', leases, id) == 1 or call('ZSCORE', (suspects_of(num, version)), id)) then
                cleared[session] = false
                break
            end
        end
    end
    return cleared[session]
end

if wanted > 0 then
    for _, suspect in ipairs(oldest(EXPOSED, wanted)) do
        if #claimed == wanted or full then break end
        take(EXPOSED, suspect)
    end
end
local function may_be_tried(blame)
    local place = math.min(blame.charges + blame.pending + 1, #tries)
    return sub(tries, place, place) == '1' and is_cleared(blame.session)
end

if tries ~= '' and not full then
    for _, suspect in ipairs(oldest(TRIED, CANDIDATES)) do
        if may_be_tried(suspect.blame) and take(TRIED, suspect) then break end
    end
end

local more = 0
for _, lane in ipairs(lanes) do
    if call('EXISTS', lane[EXPOSED], lane[TRIED]) > 0 then more = 1 end
end
return { dropped, more, claimed }
