//! A handler's transaction on a connection of the application's pool: what each database's has alike.

use sqlx::{Database, pool::PoolConnection};

use crate::{id::DeliveryId, store::Lease};

/// A connection of the application's pool that goes back only after a clean end. A handler may have ended its transaction
/// behind our back: the connection no longer knows then in what transaction it is. It is closed, also where the handler's
/// future is dropped.
pub(super) struct Borrowed<Db: Database> {
    pub conn: PoolConnection<Db>,
    pub clean: bool,
}

impl<Db: Database> Drop for Borrowed<Db> {
    fn drop(&mut self) {
        if !self.clean {
            self.conn.close_on_drop();
        }
    }
}

/// What makes a handler's transaction one with its delivery.
pub(super) enum Fence<'a> {
    /// The lease on a delivery beside the handler's data: it must be held at the start and at the settlement.
    Lease(&'a Lease),
    /// A delivery of another store: it must not have run before.
    Once(DeliveryId),
}
