//! skeleton
extern crate self as evented;

mod app;
mod context;
mod delivery;
mod dispatch;
mod emit;
mod error;
mod event;
mod handler;
mod id;
mod instance;
mod lease;
mod plan;
mod registry;
mod relay;
mod retry;
mod run;
mod slot;
pub mod store;
mod time;
mod watch;
mod worker;

pub use crate::{
    app::{App, Count},
    context::{Context, Needs, State},
    delivery::Delivery,
    emit::{Emit, EmitAll, EmitIn, Emitting, emit, emit_all, emit_in},
    error::{BoxError, Error, ErrorKind, HandlerResult, Permanent, Result, RetryAfter, StoreError, Written},
    event::{Event, Immediate, Place, Transactional},
    handler::{Background, Blocking, HandlerArg, InProcess, InTransaction, Outbox},
    id::{DeliveryId, EventId, IdError, LeaseToken},
    registry::{Registered, catalog},
    retry::{Backoff, Policy},
    run::{Role, Run, run},
    store::{
        DeadLetter, Route, sqlx,
        tx::{InTx, Outboxed, Tx, begin},
    },
};
pub use evented_macros::{event, handler};

/// What a module with events and handlers needs: `use evented::prelude::*;`.
pub mod prelude {
    #[cfg(feature = "sqlite")]
    pub use crate::sqlx::Sqlite;
    pub use crate::{Delivery, Event, Permanent, RetryAfter, Role, Route, State, Tx, emit, emit_in, event, handler};
}

#[doc(hidden)]
pub mod __private {
    pub use crate::{context::*, error::HandlerResult, event::*, handler::*, retry::Policy, slot::*};
    pub use inventory;
    /// What `EncodeOf` needs in scope, by itself: a user's own names must not meet it.
    pub mod encode_of {
        pub use crate::event::{EncodeOf, NotSerialize};
    }
    pub use std::{
        any::{Any, TypeId},
        file, line,
        marker::{Send, Sync},
        module_path,
        option::Option,
        primitive::{bool, str},
        result::Result,
        time::Duration,
    };
}
