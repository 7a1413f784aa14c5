//! The behaviour of evented at its public boundary, on real SQLite files. One binary, one module for each subject; each
//! module starts instances of its own handlers alone, with `.module(module_path!())`.

/// An instance of the calling module's handlers alone.
macro_rules! run {
    ($place:expr, $seen:expr) => {
        evented::run().install(false).module(module_path!()).queue($place.queue()).state($seen.clone())
    };
}

mod admin;
mod attempts;
mod beside;
mod boot;
mod by_hand;
mod connections;
mod contract;
mod emit;
mod in_process;
mod inbox;
mod late;
mod memory;
mod model;
mod mysql;
mod network;
mod outbox;
mod postgres;
mod redis;
mod relaying;
mod said;
mod sea_orm;
mod sqlite;
mod store;
mod stores;
mod suspicion;
mod terms;
mod times;
mod turns;
mod user_code;
mod values;
mod versions;
mod worker;
