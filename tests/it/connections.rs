//! Connections of the application's pool in an unknown state, and settings that change what statements mean.

mod disk;
mod inside;
mod settings;
mod swallowed;
