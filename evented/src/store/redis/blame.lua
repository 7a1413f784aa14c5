-- What is held against deliveries whose session died while it had them: for scripts that claim, settle, or renew.
--
-- A suspect waits in no lane. It is exposed (1) after its first death and tried singly (2) after the second, until an attempt of
-- it is settled; so long it has an entry among the suspects, also while it runs. Those that died with a session are found by it.
local suspects = base .. 'suspects'
local sessions, session_leases = base .. 'sessions', base .. 'session_leases'
local EXPOSED, TRIED = 1, 2
local NOBODY = string.rep('\0', 8)
-- So long is kept what is told of a session after its end, in microseconds.
local SESSION_KEPT = 48 * 3600 * 1000000

-- The functions: made when one is needed, since a script makes its own anew each time that it runs, and most meet no suspect.
local made
local function suspicion()
    if made then return made end

    local function died_with(session)
        return base .. 'died:' .. session
    end

    local function read_blame(stored)
        local kind, pending, deaths, charges, since, session = read('>BBI4I4I8c8', stored)
        return { kind = kind, pending = pending, deaths = deaths, charges = charges, since = since, session = session }
    end

    local function blame_of(id)
        local stored = call('HGET', suspects, id)
        return stored and read_blame(stored)
    end

    local function note_blame(id, blame)
        local numbers = pack('>BBI4I4I8', blame.kind, blame.pending, blame.deaths, blame.charges, blame.since)
        call('HSET', suspects, id, numbers .. blame.session)
    end

    -- It is none any more of those that died with a session.
    local function part(id, blame)
        if blame.session ~= NOBODY then call('HDEL', died_with(blame.session), id) end
    end

    -- Nothing is held against it any more.
    local function forgive(id, blame)
        part(id, blame)
        call('HDEL', suspects, id)
    end

    local function wait_as_suspect(num, version, id, blame)
        local exposed, tried = suspects_of(num, version)
        call('ZADD', blame.kind == TRIED and tried or exposed, blame.since, id)
    end

    -- A session that is not known has not died.
    local dead = {}
    local function has_died(session)
        if dead[session] == nil then
            local ends = call('ZSCORE', sessions, session)
            dead[session] = ends and tonumber(ends) <= now
        end
        return dead[session]
    end

    -- One of those that died with this session has had another death: the others did not die of themselves alone.
    local others_let_off = {}
    local function let_others_off(session)
        if session == NOBODY or others_let_off[session] then return end
        others_let_off[session] = true
        for _, id in ipairs(call('HKEYS', died_with(session))) do
            local blame = blame_of(id)
            if blame and blame.pending == 1 and blame.session == session then
                blame.pending = 0
                note_blame(id, blame)
            end
        end
    end

    local function dies_again(lane, id, session, blame)
        let_others_off(blame.session)
        part(id, blame)
        blame.pending = blame.kind == TRIED and 1 or 0
        blame.deaths = blame.deaths + 1
        blame.kind = blame.deaths > 1 and TRIED or EXPOSED
        blame.session = session
        note_blame(id, blame)
        others_let_off[session] = nil
        local with = died_with(session)
        call('HSET', with, id, pack('>BI4I4', blame.kind, lane.num, lane.version))
        call('PEXPIRE', with, digits(SESSION_KEPT / 1000))
    end

    -- Of deliveries of a lane whose leases have ended, answers those that are due again, since nobody died who had them. The
    -- others, and those that were suspects, wait as suspects from now on.
    local function accuse(lane, ids)
        local holders, known = call('HMGET', leases, unpack(ids)), call('HMGET', suspects, unpack(ids))
        local ends = call('ZMSCORE', lane.leased, unpack(ids))
        local due = {}
        for i, id in ipairs(ids) do
            -- What the release before leased names no session.
            local session = holders[i] and sub(holders[i], 17) or ''
            local died = session ~= '' and has_died(session)
            local blame = known[i] and read_blame(known[i])
            if not died and not blame then
                due[#due + 1] = id
            else
                if died then
                    local since = tonumber(ends[i]) or now
                    blame = blame or { kind = 0, deaths = 0, charges = 0, since = since, session = NOBODY }
                    dies_again(lane, id, session, blame)
                end
                call('HDEL', leases, id)
                call('ZREM', lane.leased, id)
                wait_as_suspect(lane.num, lane.version, id, blame)
            end
        end
        return due
    end

    -- Takes back the deaths that a session was which is alive after all; answers whether something is due again by that.
    local function take_back(session)
        local all, freed = call('HGETALL', died_with(session)), false
        for i = 1, #all, 2 do
            local id = all[i]
            local _, num, version = read('>BI4I4', all[i + 1])
            local blame = blame_of(id)
            if blame and blame.session == session then
                local due = lane_of(num, version)
                local exposed, tried = suspects_of(num, version)
                local waits = call('ZREM', blame.kind == TRIED and tried or exposed, id) == 1
                blame.deaths, blame.pending, blame.session = blame.deaths - 1, 0, NOBODY
                if blame.deaths > 0 then
                    blame.kind = blame.deaths > 1 and TRIED or EXPOSED
                    note_blame(id, blame)
                    if waits then wait_as_suspect(num, version, id, blame) end
                else
                    call('HDEL', suspects, id)
                    if waits then
                        call('ZADD', due, blame.since, id)
                        freed = true
                    end
                end
            end
        end
        call('DEL', died_with(session))
        return freed
    end

    -- Forgets sessions that ended long ago, at most so many.
    local function forget_sessions(limit)
        local before = '(' .. digits(now - SESSION_KEPT)
        for _, key in ipairs({ sessions, session_leases }) do
            local old = call('ZRANGEBYSCORE', key, '-inf', before, 'LIMIT', 0, limit)
            if #old > 0 then call('ZREM', key, unpack(old)) end
        end
    end

    made = {
        died_with = died_with,
        read_blame = read_blame,
        blame_of = blame_of,
        note_blame = note_blame,
        forgive = forgive,
        wait_as_suspect = wait_as_suspect,
        accuse = accuse,
        take_back = take_back,
        forget_sessions = forget_sessions,
    }
    return made
end
