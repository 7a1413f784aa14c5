//! Identities, and the room of randomness: nothing else in the crate asks for a random number.

use std::{fmt, str::FromStr, time::Duration};

use uuid::Uuid;

/// One emitted event. Minted by `emit` (a UUID version 7, so ids sort by time), or chosen by the caller with
/// [`Emit::id`](crate::Emit::id) to make a repeated emit idempotent.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Uuid);

impl EventId {
    /// A new id, as `emit` mints one for each event. Choose it before the emit where the emit may have to be repeated.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "each is another one, which `default` would not say")]
    pub fn new() -> Self {
        Self(Uuid::now_v7())
    }

    /// The id that stands for `key`: the same key gives the same id, in every process and release. It identifies a
    /// delivery together with its handler, so events of two types may share a key.
    ///
    /// ```
    /// use evented::EventId;
    /// assert_eq!(EventId::from_key("order 17"), EventId::from_key("order 17"));
    /// assert_ne!(EventId::from_key("order 17"), EventId::from_key("order 18"));
    /// ```
    #[must_use]
    pub fn from_key(key: &str) -> Self {
        Self(Uuid::new_v5(&Uuid::NAMESPACE_OID, key.as_bytes()))
    }

    /// The 16 bytes of the UUID, as stores keep them.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// The id of these 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

/// One event for one handler. Derived from the event's id and the handler's id, so that storing the same delivery twice
/// stores it once.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryId(Uuid);

impl DeliveryId {
    /// The delivery of `event` to the handler named `handler`.
    ///
    /// The first 6 bytes are the event id's, which are its time: neighbours in time are neighbours in a store's index.
    /// The other 10 are a hash of both ids.
    #[must_use]
    pub fn derive(event: EventId, handler: &str) -> Self {
        let mut bytes = Uuid::new_v5(&event.0, handler.as_bytes()).into_bytes();
        bytes[..6].copy_from_slice(&event.to_bytes()[..6]);
        Self(Uuid::from_bytes(bytes))
    }

    /// The 16 bytes, as stores keep them.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// The id of these 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

/// The value of an event's field, for one handler: deliveries of one key are unique or wait for each other. Salted with the
/// handler's id, so that the handlers of an event do not take each other's deliveries for the same.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Uuid);

impl Key {
    /// The key of `value`, as it stands in the payload, for the handler named `handler`.
    #[must_use]
    pub fn derive(handler: &str, value: &str) -> Self {
        let salt = Uuid::new_v5(&Uuid::NAMESPACE_OID, handler.as_bytes());
        Self(Uuid::new_v5(&salt, value.as_bytes()))
    }

    /// The 16 bytes, as stores keep them.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        self.0.into_bytes()
    }

    /// The key of these 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }
}

/// The fencing token of a lease: random for each claim, so that a worker which lost its lease cannot guess the next.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct LeaseToken(i64);

impl LeaseToken {
    /// A new token; never zero.
    #[must_use]
    pub fn mint() -> Self {
        Self(i64::from_be_bytes(random_bytes()) | 1)
    }

    /// The number, as stores keep it.
    #[must_use]
    pub fn to_i64(self) -> i64 {
        self.0
    }

    /// The token of a stored number.
    #[must_use]
    pub fn from_i64(token: i64) -> Self {
        Self(token)
    }
}

/// One worker's time with a store, from its start to its end: what it claims names it, so that others know, when a lease has ended,
/// whether the one who held it is still there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(i64);

impl SessionId {
    /// A new session; never zero.
    #[must_use]
    pub fn mint() -> Self {
        Self(i64::from_be_bytes(random_bytes()) | 1)
    }

    /// The number, as stores keep it.
    #[must_use]
    pub fn to_i64(self) -> i64 {
        self.0
    }

    /// The session of a stored number.
    #[must_use]
    pub const fn from_i64(session: i64) -> Self {
        Self(session)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SessionId({:016x})", self.0)
    }
}

/// Another generation of a catalogue: random, so that none comes again after a store was restored; from 1, and one that a
/// signed column holds.
#[must_use]
pub fn new_generation() -> u64 {
    (u64::from_be_bytes(random_bytes()) >> 1).max(1)
}

/// A name that no other store has.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql", feature = "redis"))]
pub(crate) fn new_store_name() -> String {
    Uuid::new_v4().to_string()
}

/// Any key, where a walk over keys that come back to the first after the last begins.
#[cfg(any(feature = "sqlite", feature = "postgres", feature = "mysql"))]
pub(crate) fn any_key() -> Key {
    Key(Uuid::from_u64_pair(u64::from_be_bytes(random_bytes()), 0))
}

/// A duration drawn evenly from zero to `limit`, both included: the full jitter of a retry.
pub(crate) fn up_to(limit: Duration) -> Duration {
    let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    let drawn = u64::from_be_bytes(random_bytes());
    // All that can be drawn are below the one for which there is no number.
    Duration::from_millis(millis.checked_add(1).map_or(drawn, |count| drawn % count))
}

/// Eight random bytes. They are the tail of a version 4 UUID, from the operating system's generator, without its two
/// fixed bits.
fn random_bytes() -> [u8; 8] {
    let bytes = Uuid::new_v4().into_bytes();
    let mut tail = [0; 8];
    tail.copy_from_slice(&bytes[8..]);
    tail[0] = bytes[0];
    tail
}

macro_rules! shown_as_uuid {
    ($($name:ident)*) => {$(
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }
        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                text.parse().map($name).map_err(|_| IdError(text.to_owned()))
            }
        }
    )*};
}
shown_as_uuid!(EventId DeliveryId Key);

impl fmt::Debug for LeaseToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LeaseToken({:016x})", self.0)
    }
}

/// A text that is not the id of an event or a delivery, or a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdError(String);

impl fmt::Display for IdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is not an id; expected a UUID, like `0192f0c1-7c5e-7000-8000-000000000000`", self.0)
    }
}

impl std::error::Error for IdError {}
