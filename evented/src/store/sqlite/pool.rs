//! What the application's pool makes of its connections, looked at once at the start: what keeps them from writing is refused by name.

use sqlx::{Error as SqlxError, Sqlite, SqlitePool, query, query_scalar};

use crate::{
    error::{StoreError, Written},
    store::borrowed::{self, Borrowed},
};

use super::{
    turn,
    writer::{is_readonly, read_failed},
};

/// A connection of the pool, and what is set on it.
pub(super) struct Pooled {
    taken: Borrowed<Sqlite>,
    locking_mode: String,
    query_only: bool,
    pub synchronous: i64,
}

/// Looks at one. `None` where all are in use.
pub(super) async fn look(pool: &SqlitePool) -> Result<Option<Pooled>, SqlxError> {
    let Some(mut taken) = borrowed::look_at(pool).await? else { return Ok(None) };
    let conn = &mut *taken.conn;
    let locking_mode = query_scalar("pragma locking_mode").fetch_one(&mut *conn).await?;
    let query_only = query_scalar("pragma query_only").fetch_one(&mut *conn).await?;
    let synchronous = query_scalar("pragma synchronous").fetch_one(&mut *conn).await?;
    Ok(Some(Pooled { taken, locking_mode, query_only, synchronous }))
}

impl Pooled {
    /// Refuses what nobody can work beside.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.locking_mode == "exclusive" {
            return Err(refused(
                "the outbox's pool has `locking_mode = exclusive`: its first connection would keep all others out of the file, \
                 evented's own too; open it without `.locking_mode(SqliteLockingMode::Exclusive)` and without the pragma",
            ));
        }
        if self.query_only {
            return Err(refused(
                "the outbox's pool has `pragma query_only = on`: nothing could be emitted in its transactions; open it without, \
                 or give `.outbox(..)` the pool that the application writes with",
            ));
        }
        Ok(())
    }

    /// Refuses one that cannot write for another reason, by a write that writes nothing. The tables are there by now.
    pub(super) async fn check_writes(mut self, pool: &SqlitePool) -> Result<(), StoreError> {
        let _turn = turn::take(pool.connect_options().get_filename()).await;
        match query("delete from evented_outbox where false").execute(&mut *self.taken.conn).await {
            Err(error) if is_readonly(&error) => {
                let text = "the outbox's pool opens its file read only: nothing could be emitted in its transactions; open it without \
                            `.read_only(true)`, or give `.outbox(..)` the pool that the application writes with";
                Err(refused(text).because(error))
            }
            // Another writer has the lock: what waits for it may write.
            done => {
                self.taken.clean = done.is_ok();
                Ok(())
            }
        }
    }
}

fn refused(text: &str) -> StoreError {
    StoreError::lasting(text, Written::Nothing)
}

pub(super) fn no_connection(error: SqlxError) -> StoreError {
    read_failed("the outbox's pool gave no connection", &error).because(error)
}
