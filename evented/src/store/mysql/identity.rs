//! Which database this is: a random name in a row of its own, joined with what the server says of itself, so that a copy
//! elsewhere is another store.

use std::sync::{Mutex, PoisonError};

use sqlx::{Error as SqlxError, MySqlConnection, Row as _};

use crate::store::Identity;

use super::link::{NO_SUCH_TABLE, code, sql};

/// The identity in a statement over `evented_identity`. MySQL has an id of its own for each server; MariaDB, which passes by
/// what is written for MySQL 8 alone, is known by its place.
macro_rules! identity {
    () => {
        "concat_ws('/', identity, /*!80000 @@server_uuid, */ /*M! @@hostname, @@port, */ database())"
    };
}

pub(super) use identity;

/// The generation of the catalogue, as a number that is there always: 0, which no catalogue is of, where the store has lost a
/// row of its own. Then somebody reads the catalogue, and it is made whole again.
macro_rules! generation {
    () => {
        "coalesce((select catalogue from evented_schema where exists (select 1 from evented_identity)), 0)"
    };
}

pub(super) use generation;

/// A database as it was met.
#[derive(Clone)]
pub(super) struct Met {
    /// The random name in its row.
    pub name: String,
    pub identity: Identity,
}

/// Which database it is, as it was read last.
pub(super) struct Known(Mutex<Met>);

impl Known {
    pub(super) fn new(met: Met) -> Self {
        Self(Mutex::new(met))
    }

    pub(super) fn get(&self) -> Met {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes note; answers whether it is another.
    pub(super) fn note(&self, met: Met) -> bool {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_another = known.identity != met.identity;
        *known = met;
        is_another
    }
}

/// Reads which database it is; `None` where it has lost its row.
pub(super) async fn read(conn: &mut MySqlConnection) -> Result<Option<Met>, SqlxError> {
    let met = sql(concat!("select identity, ", identity!(), " from evented_identity")).fetch_optional(conn).await;
    match met {
        Ok(row) => {
            row.map(|row| Ok(Met { name: row.try_get(0)?, identity: row.try_get::<&str, _>(1)?.into() })).transpose()
        }
        Err(error) if code(&error) == Some(NO_SUCH_TABLE) => Ok(None),
        Err(error) => Err(error),
    }
}
