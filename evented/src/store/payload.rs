//! An encoded event, which cannot print itself: it may hold what no log is to show.

use std::{fmt, ops::Deref, sync::Arc};

/// The bytes of an encoded event. Cheap to clone. `Debug` tells how many there are, and nothing prints what they say.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Arc<[u8]>);

impl Deref for Payload {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<T: Into<Arc<[u8]>>> From<T> for Payload {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

/// Compared with bytes of whatever kind.
impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Payload {
    fn eq(&self, bytes: &T) -> bool {
        *self.0 == *bytes.as_ref()
    }
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}
