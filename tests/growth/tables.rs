//! The tables and keys of evented's, and how large they are.

use std::collections::BTreeMap;

use anyhow::{Context as _, anyhow};
use evented_tests::{
    ground::{Engine, Ground, sqlite_path},
    servers::{Client, PostgresKind, RedisKind},
};
use rusqlite::{Connection, OpenFlags};
use tokio::task::block_in_place;

/// How large a table is, or all keys of a kind.
#[derive(Clone, Copy, Default)]
pub struct Size {
    pub rows: u64,
    pub bytes: u64,
}

/// Counts the elements and the bytes of all keys in one answer: what differs between keys of one kind is not in its name.
const KEYS: &str = "local kinds, cursor = {}, '0'
    repeat
        local answer = redis.call('SCAN', cursor, 'COUNT', 1000)
        cursor = answer[1]
        for _, key in ipairs(answer[2]) do
            local kind = string.match(key, '}:([^:]*)') or key
            local type = redis.call('TYPE', key).ok
            local rows = 1
            if type == 'hash' then rows = redis.call('HLEN', key)
            elseif type == 'zset' then rows = redis.call('ZCARD', key)
            elseif type == 'set' then rows = redis.call('SCARD', key)
            elseif type == 'list' then rows = redis.call('LLEN', key)
            elseif type == 'stream' then rows = redis.call('XLEN', key) end
            local sum = kinds[kind] or {0, 0}
            kinds[kind] = {sum[1] + rows, sum[2] + (redis.call('MEMORY', 'USAGE', key) or 0)}
        end
    until cursor == '0'
    local lines = {}
    for kind, sum in pairs(kinds) do
        lines[#lines + 1] = string.format('%s %.0f %.0f', kind, sum[1], sum[2])
    end
    return lines";

/// Where they are.
pub struct Tables(Vec<(&'static str, Source)>);

enum Source {
    Sqlite(String),
    Postgres(Client<PostgresKind>, String),
    Redis(Client<RedisKind>, String),
}

impl Tables {
    /// Those of a queue on this ground, and of an outbox.
    pub async fn of(ground: &Ground, queue: &str, outbox: &str) -> anyhow::Result<Self> {
        let sqlite = |url: &str| Source::Sqlite(sqlite_path(url).to_owned());
        let postgres = |url: &str| {
            let postgres = ground.postgres().context("it is a postgres")?;
            anyhow::Ok(Source::Postgres(postgres.client(), url.to_owned()))
        };
        let (queue, outbox) = match ground.engine() {
            Engine::Sqlite => (sqlite(queue), sqlite(outbox)),
            Engine::Postgres => (postgres(queue)?, postgres(outbox)?),
            Engine::Redis => {
                let redis = ground.redis().context("it is a redis")?;
                let database = queue.rsplit('/').next().unwrap_or("0").to_owned();
                (Source::Redis(redis.client(), database), sqlite(outbox))
            }
        };
        Ok(Self(vec![("queue", queue), ("outbox", outbox)]))
    }

    /// How large each is now.
    pub async fn measure(&self) -> anyhow::Result<BTreeMap<String, Size>> {
        block_in_place(|| {
            let mut sizes = BTreeMap::new();
            for (place, source) in &self.0 {
                for (table, size) in source.measure()? {
                    sizes.insert(format!("{place}.{table}"), size);
                }
            }
            Ok(sizes)
        })
    }
}

impl Source {
    fn measure(&self) -> anyhow::Result<Vec<(String, Size)>> {
        match self {
            Self::Sqlite(path) => of_sqlite(path),
            Self::Postgres(client, url) => of_postgres(client, url),
            Self::Redis(client, database) => of_redis(client, database),
        }
    }
}

fn of_sqlite(path: &str) -> anyhow::Result<Vec<(String, Size)>> {
    let file = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let names = "select name from sqlite_master where type = 'table' and name like 'evented%' order by name";
    let names: Vec<String> = file.prepare(names)?.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    let mut sizes = Vec::new();
    for name in names {
        let rows = file.query_row(&format!("select count(*) from {name}"), [], |row| row.get::<_, i64>(0))?;
        let bytes = "select coalesce(sum(pgsize), 0) from dbstat
            where aggregate = true and name in (select name from sqlite_master where tbl_name = ?)";
        let bytes = file.query_row(bytes, [&name], |row| row.get::<_, i64>(0))?;
        sizes.push((name, Size { rows: rows.try_into()?, bytes: bytes.try_into()? }));
    }
    Ok(sizes)
}

fn of_postgres(client: &Client<PostgresKind>, url: &str) -> anyhow::Result<Vec<(String, Size)>> {
    let ask = |sql: &str| client.ask(url, sql).map_err(|error| anyhow!("{error}"));
    let names = ask("select relname from pg_class where relkind = 'r' and relname like 'evented%' order by 1")?;
    let mut sizes = Vec::new();
    for name in names.lines() {
        let answer = ask(&format!("select count(*), pg_total_relation_size('{name}') from {name}"))?;
        let (rows, bytes) = answer.split_once('|').context("two columns")?;
        sizes.push((name.to_owned(), Size { rows: rows.parse()?, bytes: bytes.parse()? }));
    }
    Ok(sizes)
}

fn of_redis(client: &Client<RedisKind>, _database: &str) -> anyhow::Result<Vec<(String, Size)>> {
    // A connection of one's own asks database 0, which is the first that a ground gives.
    let answer = client.ask(&["EVAL", KEYS, "0"]).map_err(|error| anyhow!("{error}"))?;
    let mut sizes = Vec::new();
    for line in answer.lines() {
        let [kind, rows, bytes] = line.split(' ').collect::<Vec<_>>()[..] else { continue };
        sizes.push((kind.to_owned(), Size { rows: rows.parse()?, bytes: bytes.parse()? }));
    }
    sizes.sort_by(|(one, _), (other, _)| one.cmp(other));
    Ok(sizes)
}
