//! Connections of the application's pool in an unknown state, and settings that change what statements mean.

mod commits;
mod disk;
mod full_servers;
mod inside;
mod modes;
mod pool;
mod settings;
mod swallowed;
mod turns;
