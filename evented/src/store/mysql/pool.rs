//! What the application's pool makes of its connections, looked at once at the start: what cannot be worked with is refused by name.

use sqlx::{Error as SqlxError, MySql, MySqlPool, Row as _, mysql::MySqlTransactionManager, raw_sql};
use sqlx_core::transaction::TransactionManager as _;

use crate::{
    error::{StoreError, Written},
    store::borrowed::{self, Borrowed},
};

use super::{
    identity::identity,
    link::{NO_SUCH_TABLE, code, failed},
    schema::Found,
    transact::BEGIN,
};

/// No database is chosen.
const NO_DATABASE: u16 = 1046;

/// A write that writes nothing: no row has this number. By a key, since a session may have `sql_safe_updates`.
const WRITE: &str = "delete from evented_outbox where seq = 0";

/// Refuses a pool whose connections are elsewhere, or cannot write.
pub(super) async fn check(pool: &MySqlPool, found: &Found) -> Result<(), StoreError> {
    let could_not = |error| failed("the outbox's pool gave no connection", false, error);
    let Some(mut taken) = borrowed::look_at(pool).await.map_err(could_not)? else { return Ok(()) };
    let asked = concat!("select ", identity!(), " from evented_identity");
    let identity: String = match raw_sql(asked).fetch_one(&mut *taken.conn).await {
        Ok(row) => row.try_get(0).map_err(could_not)?,
        Err(error) if matches!(code(&error), Some(NO_SUCH_TABLE | NO_DATABASE)) => String::new(),
        Err(error) => return Err(could_not(error)),
    };
    if identity != found.met.identity.as_str() {
        let text = format!(
            "the outbox's pool moves its connections to another database than its options name, {}: nothing could be emitted in its \
             transactions; name the database in the pool's options or URL, and let `after_connect` leave it",
            found.name
        );
        return Err(StoreError::lasting(text, Written::Nothing));
    }
    writes(&mut taken).await.map_err(|error| {
        let text = "the outbox's pool cannot write to `evented_outbox`: nothing could be emitted in its transactions; give `.outbox(..)` \
                    the pool that the application writes with, of a server that is not `read_only`";
        StoreError::lasting(text, Written::Nothing).because(error)
    })
}

async fn writes(taken: &mut Borrowed<MySql>) -> Result<(), SqlxError> {
    if !BEGIN.on(taken).await? {
        return Ok(());
    }
    raw_sql(WRITE).execute(&mut *taken.conn).await?;
    MySqlTransactionManager::rollback(&mut taken.conn).await?;
    taken.clean = true;
    Ok(())
}
