//! The raw loop on Redis: one script for each batch, over a connection that nobody shares. A connection has a thread of its
//! own.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use evented_tests::clock;
use redis::{Cmd, Connection, FromRedisValue, Pipeline, cmd};

use super::{BATCH, Ids, LEASE, Worked, payload};

/// Due deliveries of the lane, oldest first: their ids as one text, their bodies, and how many had outlived a lease.
/// KEYS: lane, deliveries, leases. ARGV: lease, how many, microseconds of the lease.
const CLAIM: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local ids = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[2])
if #ids == 0 then return {'', {}, 0} end
local bodies = redis.call('HMGET', KEYS[2], unpack(ids))
local before = redis.call('HMGET', KEYS[3], unpack(ids))
local due, leases, lost = {}, {}, 0
local till = string.format('%.0f', now + ARGV[3])
for i = 1, #ids do
    if before[i] then lost = lost + 1 end
    due[2 * i - 1], due[2 * i] = till, ids[i]
    leases[2 * i - 1], leases[2 * i] = ids[i], ARGV[1]
end
redis.call('ZADD', KEYS[1], unpack(due))
redis.call('HSET', KEYS[3], unpack(leases))
return {table.concat(ids), bodies, lost}";

/// Deliveries whose lease is still this one: how many there were.
/// KEYS: lane, deliveries, leases, counts. ARGV: lease, counter, ids.
const SETTLE: &str = "
local found = redis.call('HMGET', KEYS[3], unpack(ARGV, 3))
local ids = {}
for i = 1, #found do
    if found[i] == ARGV[1] then ids[#ids + 1] = ARGV[i + 2] end
end
if #ids == 0 then return 0 end
redis.call('HDEL', KEYS[3], unpack(ids))
redis.call('HDEL', KEYS[2], unpack(ids))
redis.call('ZREM', KEYS[1], unpack(ids))
redis.call('HINCRBY', KEYS[4], ARGV[2], #ids)
return #ids";

/// New deliveries, those excepted that are there: how many were stored.
/// KEYS: lane, deliveries. ARGV: id and body, for each.
const INSERT: &str = "
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local emitted = struct.pack('>I8', math.floor(now / 1000))
local ids = {}
for i = 1, #ARGV, 2 do ids[#ids + 1] = ARGV[i] end
local there = redis.call('HMGET', KEYS[2], unpack(ids))
local bodies, due = {}, {}
for i = 1, #ids do
    if not there[i] then
        bodies[#bodies + 1], bodies[#bodies + 2] = ids[i], emitted .. ARGV[2 * i]
        due[#due + 1], due[#due + 2] = string.format('%.0f', now + i), ids[i]
    end
end
if #due == 0 then return 0 end
redis.call('HSET', KEYS[2], unpack(bodies))
redis.call('ZADD', KEYS[1], unpack(due))
return #due / 2";

/// A connection that knows the scripts and the keys.
struct Store {
    conn: Connection,
    claim: String,
    settle: String,
    insert: String,
    lane: String,
    counter: String,
    /// What a lease has behind its token: the numbers of the handler and of the payload's version.
    place: [u8; 8],
}

const DELIVERIES: &str = "{evented}:deliveries";
const LEASES: &str = "{evented}:held";
const COUNTS: &str = "{evented}:counts";

impl Store {
    fn open(url: &str) -> anyhow::Result<Self> {
        let mut conn = redis::Client::open(url)?.get_connection()?;
        let lanes: Vec<(String, String)> = cmd("HGETALL").arg("{evented}:lanes").query(&mut conn)?;
        let (_, lane) = lanes.first().context("there is one handler")?;
        let (number, _) = lane.split_once(':').context("a handler has a number")?;
        let mut place = [0; 8];
        place[..4].copy_from_slice(&number.parse::<u32>()?.to_be_bytes());
        place[4..].copy_from_slice(&1_u32.to_be_bytes());
        let mut load = |code| cmd("SCRIPT").arg("LOAD").arg(code).query::<String>(&mut conn);
        Ok(Self {
            claim: load(CLAIM)?,
            settle: load(SETTLE)?,
            insert: load(INSERT)?,
            lane: format!("{{evented}}:due:{number}:1"),
            counter: format!("{number}:done"),
            place,
            conn,
        })
    }

    fn lease(&self, token: u64) -> Vec<u8> {
        [&token.to_be_bytes()[..], &self.place].concat()
    }

    fn claim(&self, token: u64) -> Cmd {
        let mut claim = cmd("EVALSHA");
        claim.arg(&self.claim).arg(3).arg(&self.lane).arg(DELIVERIES).arg(LEASES);
        claim.arg(self.lease(token)).arg(BATCH).arg(u64::try_from(LEASE.as_micros()).unwrap_or(u64::MAX));
        claim
    }

    /// `held` are ids, one behind the other.
    fn settle(&self, token: u64, held: &[u8]) -> Cmd {
        let mut settle = cmd("EVALSHA");
        settle.arg(&self.settle).arg(4).arg(&self.lane).arg(DELIVERIES).arg(LEASES).arg(COUNTS);
        settle.arg(self.lease(token)).arg(&self.counter);
        for id in held.chunks(16) {
            settle.arg(id);
        }
        settle
    }

    fn insert(&mut self, ids: &mut Ids, payload: &[u8], rows: usize) -> anyhow::Result<u64> {
        let mut insert = cmd("EVALSHA");
        insert.arg(&self.insert).arg(2).arg(&self.lane).arg(DELIVERIES);
        for _ in 0..rows {
            let (id, event_id) = ids.next();
            insert.arg(&id).arg(body(event_id, payload));
        }
        Ok(insert.query(&mut self.conn)?)
    }
}

/// What evented keeps of a delivery behind the time of its emit: an exponential backoff, the event, attempts, first wait,
/// time limit, longest wait, payload.
fn body(event_id: [u8; 16], payload: &[u8]) -> Vec<u8> {
    let policy = [1_000_u64, 60_000, 600_000].map(u64::to_be_bytes).concat();
    [&[2], &event_id[..], &10_u32.to_be_bytes(), &policy, payload].concat()
}

/// What was claimed, decoded no further than needed.
struct Claimed {
    ids: Vec<u8>,
    bodies: Vec<Vec<u8>>,
}

impl FromRedisValue for Claimed {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        let (ids, bodies, _lost): (Vec<u8>, Vec<Vec<u8>>, u64) = redis::from_redis_value(value)?;
        Ok(Self { ids, bodies })
    }
}

pub async fn drain(url: &str, connections: usize, merged: bool) -> anyhow::Result<Worked> {
    let url = url.to_owned();
    tokio::task::spawn_blocking(move || {
        let began = clock::now();
        let url = &url;
        let drained: Vec<anyhow::Result<(u64, u64)>> = thread::scope(|scope| {
            let threads = (0..connections).map(|number| scope.spawn(move || drain_on(url, number, merged)));
            let threads: Vec<_> = threads.collect();
            threads.into_iter().map(|thread| thread.join().expect("a raw loop does not panic")).collect()
        });
        let mut worked = Worked { deliveries: 0, payload_bytes: 0, took: clock::since(began) };
        for drained in drained {
            let (deliveries, payload_bytes) = drained?;
            worked.deliveries += deliveries;
            worked.payload_bytes += payload_bytes;
        }
        let mut store = Store::open(url)?;
        let left: u64 = cmd("HLEN").arg(DELIVERIES).query(&mut store.conn)?;
        let done: Option<u64> = cmd("HGET").arg(COUNTS).arg(&store.counter).query(&mut store.conn)?;
        ensure!(left == 0 && done == Some(worked.deliveries), "{left} deliveries are left, {done:?} are counted");
        Ok(worked)
    })
    .await?
}

/// The deliveries that one connection settled, and the bytes of their payloads.
fn drain_on(url: &str, number: usize, merged: bool) -> anyhow::Result<(u64, u64)> {
    let mut store = Store::open(url)?;
    // A stored value's header, as `body` makes it behind the time.
    let header = 8 + body([0; 16], &[]).len();
    let (mut deliveries, mut payload_bytes) = (0, 0);
    let mut token = u64::try_from(number)? << 32;
    let mut held: Vec<u8> = Vec::new();
    loop {
        let mut commands = Pipeline::new();
        if !held.is_empty() {
            let settle = store.settle(token, &held);
            if merged {
                commands.add_command(settle);
            } else {
                deliveries += settle.query::<u64>(&mut store.conn)?;
            }
        }
        token += 1;
        let claimed: Claimed = if commands.is_empty() {
            store.claim(token).query(&mut store.conn)?
        } else {
            commands.add_command(store.claim(token));
            let (settled, claimed): (u64, Claimed) = commands.query(&mut store.conn)?;
            deliveries += settled;
            claimed
        };
        held = claimed.ids;
        payload_bytes += claimed.bodies.iter().map(|body| (body.len() - header) as u64).sum::<u64>();
        if held.is_empty() {
            return Ok((deliveries, payload_bytes));
        }
    }
}

pub async fn enqueue(url: &str, seconds: Duration) -> anyhow::Result<Worked> {
    let url = url.to_owned();
    tokio::task::spawn_blocking(move || {
        let mut store = Store::open(&url)?;
        let (mut ids, payload) = (Ids::new(), payload());
        let mut deliveries = 0;
        let began = clock::now();
        while clock::since(began) < seconds {
            deliveries += store.insert(&mut ids, &payload, BATCH)?;
        }
        let took = clock::since(began);
        Ok(Worked { deliveries, payload_bytes: deliveries * crate::load::PAYLOAD_BYTES, took })
    })
    .await?
}

/// Single inserts.
pub struct Commits {
    url: String,
    ids: Ids,
}

impl Commits {
    pub async fn open(url: &str) -> anyhow::Result<Self> {
        Ok(Self { url: url.to_owned(), ids: Ids::new() })
    }

    pub async fn measure(&mut self, count: u32, period: Duration) -> anyhow::Result<Vec<Duration>> {
        let url = self.url.clone();
        let mut ids = std::mem::replace(&mut self.ids, Ids::new());
        let (took, ids) = tokio::task::spawn_blocking(move || {
            let mut store = Store::open(&url)?;
            let payload = payload();
            let mut next = Instant::now();
            let mut took = Vec::new();
            for _ in 0..count {
                next += period;
                thread::sleep(next.saturating_duration_since(Instant::now()));
                let began = Instant::now();
                store.insert(&mut ids, &payload, 1)?;
                took.push(began.elapsed());
            }
            anyhow::Ok((took, ids))
        })
        .await??;
        self.ids = ids;
        Ok(took)
    }
}
