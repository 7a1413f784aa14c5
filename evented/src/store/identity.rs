//! Which store it is.

use std::{fmt, sync::Arc};

/// Which store it is, by what it is and never by how it is reached: a random name that lies in the store, joined with what its
/// server says of itself, so that a copy of the database is another store.
///
/// Two URLs are one store where their identities are equal. An outbox remembers by it which queue it feeds.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Identity(Arc<str>);

impl Identity {
    /// As text, as another store keeps it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl<T: Into<Arc<str>>> From<T> for Identity {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.0)
    }
}
