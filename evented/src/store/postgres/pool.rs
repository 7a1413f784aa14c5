//! What the application's pool makes of its connections, looked at once at the start: what cannot be worked with is refused by name.

use sqlx::{Error as SqlxError, PgPool, Postgres, Row as _, postgres::PgTransactionManager, raw_sql};
use sqlx_core::transaction::TransactionManager as _;

use crate::{
    error::{StoreError, Written},
    store::borrowed::{self, Borrowed},
};

use super::{
    link::failed,
    schema::{Found, promise},
    transact::BEGIN,
};

/// By the simple protocol, since a pooler may stand between; all of it is text.
const LOOK: &str = "select current_setting('fsync') as fsync, current_setting('synchronous_commit') as synchronous_commit,
        coalesce('evented_' || to_regclass('evented_schema')::oid, '') as channel, current_setting('search_path') as search_path";

/// A write that writes nothing.
const WRITE: &str = "insert into evented_outbox (event) select '' where false";

/// Answers what a commit on the pool's connections survives; `None` where all of them are in use.
pub(super) async fn check(pool: &PgPool, found: &Found) -> Result<Option<&'static str>, StoreError> {
    let could_not = |error| failed("the outbox's pool gave no connection", false, error);
    let Some(mut taken) = borrowed::look_at(pool).await.map_err(could_not)? else { return Ok(None) };
    let row = raw_sql(LOOK).fetch_one(&mut *taken.conn).await.map_err(could_not)?;
    let text = |column: &str| row.try_get::<String, _>(column).map_err(could_not);
    if text("channel")? != found.channel {
        let schema = found.schema.as_deref().unwrap_or("public");
        let path = text("search_path")?;
        let text = format!(
            "the outbox's pool sets the search path of its connections to `{path}` after they were opened, where evented's tables, which \
             are in `{schema}`, are not found: nothing could be emitted in its transactions; set the path in the pool's options, \
             `PgConnectOptions::options([(\"search_path\", \"{path}\")])`, and not in `after_connect`"
        );
        return Err(StoreError::lasting(text, Written::Nothing));
    }
    let promise = promise(&text("fsync")?, &text("synchronous_commit")?);
    writes(&mut taken).await.map_err(|error| {
        let text = "the outbox's pool cannot write to `evented_outbox`: nothing could be emitted in its transactions; give `.outbox(..)` \
                    the pool that the application writes with, of a primary server and of a role that may insert";
        StoreError::lasting(text, Written::Nothing).because(error)
    })?;
    Ok(Some(promise))
}

async fn writes(taken: &mut Borrowed<Postgres>) -> Result<(), SqlxError> {
    if !BEGIN.on(taken).await? {
        return Ok(());
    }
    raw_sql(WRITE).execute(&mut *taken.conn).await?;
    PgTransactionManager::rollback(&mut taken.conn).await?;
    taken.clean = true;
    Ok(())
}
