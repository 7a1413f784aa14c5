//! The behaviour of evented at its public boundary, on real SQLite files. One binary, one module for each subject; each
//! module starts instances of its own handlers alone, with `.module(module_path!())`.

mod boot;
mod contract;
mod emit;
mod in_process;
mod outbox;
mod worker;
