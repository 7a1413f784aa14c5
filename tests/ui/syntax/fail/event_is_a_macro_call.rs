//! The attribute sees the call of a macro and not the type that comes of it. Write the attribute inside the macro.
//!
//! ```
//! # use evented::prelude::*;
//! macro_rules! declare {
//!     ($name:ident) => {
//!         #[event]
//!         struct $name;
//!     };
//! }
//! declare!(OrderPlaced);
//! ```

use evented::prelude::*;

macro_rules! declare {
    ($name:ident) => {
        struct $name;
    };
}

#[event]
declare!(OrderPlaced);

fn main() {}
