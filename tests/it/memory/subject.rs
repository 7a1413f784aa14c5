//! A store of each kind, and what operators do to it. The application's database has queue and outbox both; where the queue is
//! a redis, the outbox is in a file.

use std::{fs, time::Duration};

use evented::{
    App, Run,
    sqlx::{PgPool, SqlitePool, postgres::PgPoolOptions},
};
use evented_tests::{
    Place, Seen,
    servers::{Postgres, Redis},
};
use rusqlite::backup::Backup;
use tokio::task::block_in_place;

use super::Told;

/// A store.
pub enum Subject {
    Sqlite {
        place: Place,
        pool: SqlitePool,
    },
    Postgres {
        server: &'static Postgres,
        url: String,
        pool: PgPool,
    },
    /// The folder of the outbox goes with it.
    Redis {
        server: Box<Redis>,
        _place: Place,
        pool: SqlitePool,
    },
}

impl Subject {
    pub async fn sqlite() -> Option<Self> {
        let place = Place::new();
        let pool = place.pool().await;
        Some(Self::Sqlite { place, pool })
    }

    pub async fn postgres() -> Option<Self> {
        let server = block_in_place(Postgres::shared)?;
        let url = block_in_place(|| server.database());
        let pool = PgPoolOptions::new().max_connections(4).connect(&url).await.unwrap();
        Some(Self::Postgres { server, url, pool })
    }

    pub async fn redis() -> Option<Self> {
        let server = Box::new(block_in_place(|| Redis::start(&[]))?);
        let place = Place::new();
        let pool = place.pool().await;
        Some(Self::Redis { server, _place: place, pool })
    }

    /// An instance of the handlers of a module.
    pub fn run(&self, module: &str, seen: &Seen) -> Run {
        let run = evented::run().install(false).module(module).state(seen.clone()).grace(Duration::from_secs(1));
        match self {
            Self::Sqlite { place, pool } => {
                run.queue(format!("sqlite:{}", place.path("shop.db").display())).outbox(pool.clone())
            }
            Self::Postgres { url, pool, .. } => run.queue(url).outbox(pool.clone()),
            Self::Redis { server, pool, .. } => run.queue(server.url()).outbox(pool.clone()),
        }
    }

    /// An instance of the handlers of a module that has the queue alone.
    pub fn run_alone(&self, module: &str, seen: &Seen) -> Run {
        let queue = match self {
            Self::Sqlite { place, .. } => format!("sqlite:{}", place.path("shop.db").display()),
            Self::Postgres { url, .. } => url.clone(),
            Self::Redis { server, .. } => server.url(),
        };
        let run = evented::run().install(false).module(module).state(seen.clone());
        run.grace(Duration::from_secs(1)).queue(queue)
    }

    /// The URLs of outbox and queue, where these are two stores.
    pub fn apart(&self) -> Option<(String, String)> {
        match self {
            Self::Redis { server, _place: place, .. } => {
                Some((format!("sqlite:{}", place.path("shop.db").display()), server.url()))
            }
            Self::Sqlite { .. } | Self::Postgres { .. } => None,
        }
    }

    /// Emits in a transaction.
    pub async fn tell(&self, app: &App, number: u32) -> evented::Result<()> {
        match self {
            Self::Sqlite { pool, .. } | Self::Redis { pool, .. } => {
                let mut tx = evented::begin(pool).await.unwrap();
                app.emit_in(&mut tx, Told { number }).await?;
                tx.commit().await.unwrap();
            }
            Self::Postgres { pool, .. } => {
                let mut tx = evented::begin(pool).await.unwrap();
                app.emit_in(&mut tx, Told { number }).await?;
                tx.commit().await.unwrap();
            }
        }
        Ok(())
    }

    /// Keeps what is in the store now.
    pub fn back_up(&self) {
        block_in_place(|| match self {
            Self::Sqlite { place, .. } => {
                let file = rusqlite::Connection::open(place.path("shop.db")).unwrap();
                file.execute("vacuum into ?", [place.path("backup.db").to_str()]).unwrap();
            }
            Self::Postgres { .. } => {
                self.psql("create schema backup");
                for table in self.tables() {
                    self.psql(&format!("create table backup.{table} as table {table}"));
                }
            }
            Self::Redis { server, .. } => {
                server.ask(&["SAVE"]).unwrap();
                fs::copy(server.folder().join("dump.rdb"), server.folder().join("backup.rdb")).unwrap();
            }
        });
    }

    /// Puts back what was kept, under whoever has the store open. A redis is restarted for it.
    pub fn restore(&mut self) {
        block_in_place(|| match self {
            Self::Sqlite { place, .. } => {
                let backup = rusqlite::Connection::open(place.path("backup.db")).unwrap();
                let mut live = rusqlite::Connection::open(place.path("shop.db")).unwrap();
                live.busy_timeout(Duration::from_secs(10)).unwrap();
                let copy = Backup::new(&backup, &mut live).unwrap();
                copy.run_to_completion(1000, Duration::from_millis(5), None).unwrap();
            }
            Self::Postgres { .. } => {
                let back = |table: &String| {
                    format!("delete from {table}; insert into {table} overriding system value table backup.{table};")
                };
                let back: String = self.tables().iter().map(back).collect();
                self.psql(&format!("begin; {back} commit"));
            }
            Self::Redis { server, .. } => {
                server.kill();
                fs::copy(server.folder().join("backup.rdb"), server.folder().join("dump.rdb")).unwrap();
                server.restart();
            }
        });
    }

    /// Deletes all that is in our tables, or in the redis.
    pub fn empty(&self) {
        match self {
            Self::Redis { server, .. } => drop(block_in_place(|| server.ask(&["FLUSHDB"])).unwrap()),
            _ => self.tables().iter().for_each(|table| self.empty_one(table)),
        }
    }

    /// Deletes all that is in one table.
    pub fn empty_one(&self, table: &str) {
        block_in_place(|| match self {
            Self::Sqlite { .. } => drop(self.lite(&format!("delete from {table}"))),
            Self::Postgres { .. } => drop(self.psql(&format!("truncate {table}"))),
            Self::Redis { .. } => panic!("a redis has no tables"),
        });
    }

    /// Deletes what the store knows of handlers, and nothing else.
    pub fn forget_handlers(&self) {
        match self {
            Self::Redis { server, .. } => {
                let keys = ["DEL", "{evented}:handlers", "{evented}:lanes"];
                assert_eq!(block_in_place(|| server.ask(&keys)).unwrap().trim(), "2");
            }
            _ => self.empty_one("evented_handlers"),
        }
    }

    /// The names of our tables.
    pub fn tables(&self) -> Vec<String> {
        block_in_place(|| match self {
            Self::Sqlite { .. } => {
                self.lite("select name from sqlite_master where type = 'table' and name like 'evented%'")
            }
            Self::Postgres { .. } => {
                let sql = "select tablename from pg_tables where schemaname = 'public' and tablename like 'evented%'";
                self.psql(sql).lines().map(str::to_owned).collect()
            }
            Self::Redis { .. } => Vec::new(),
        })
    }

    /// What the server has done so far, where it counts: transactions, or commands.
    pub fn work(&self) -> Option<u64> {
        block_in_place(|| match self {
            Self::Sqlite { .. } => None,
            Self::Postgres { .. } => {
                let sql = "select xact_commit + xact_rollback from pg_stat_database where datname = current_database()";
                Some(self.psql(sql).parse().unwrap())
            }
            Self::Redis { server, .. } => {
                let about = server.ask(&["INFO", "stats"]).unwrap();
                let count = about.lines().find_map(|line| line.strip_prefix("total_commands_processed:"));
                Some(count.unwrap().trim().parse().unwrap())
            }
        })
    }

    fn psql(&self, sql: &str) -> String {
        let Self::Postgres { server, url, .. } = self else { panic!("no postgres") };
        server.ask(url, sql).unwrap()
    }

    fn lite(&self, sql: &str) -> Vec<String> {
        let Self::Sqlite { place, .. } = self else { panic!("no sqlite") };
        let file = rusqlite::Connection::open(place.path("shop.db")).unwrap();
        file.busy_timeout(Duration::from_secs(10)).unwrap();
        let mut statement = file.prepare(sql).unwrap();
        let rows = statement.query_map([], |row| row.get(0)).unwrap();
        rows.collect::<rusqlite::Result<_>>().unwrap()
    }
}

/// A test on each kind of store.
macro_rules! on_each_store {
    ($($name:ident => $test:ident;)+) => {
        on_each_store!(@ sqlite $($name => $test;)+);
        on_each_store!(@ postgres $($name => $test;)+);
        on_each_store!(@ redis $($name => $test;)+);
    };
    (@ $store:ident $($name:ident => $test:ident;)+) => {
        mod $store {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let Some(subject) = Subject::$store().await else { return };
                    $test(subject).await;
                }
            )+
        }
    };
}
pub(super) use on_each_store;
