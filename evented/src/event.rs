//! What makes a type an event: its id, whether it needs a transaction, and how it is stored.

use std::{any::Any, marker::PhantomData};

use serde::{Serialize, de::DeserializeOwned};

use crate::{error::BoxError, exact, key::fields_of, slot::Slot, unread::Unread};

/// A fact that happened. [`#[event]`](macro@crate::event) implements it and registers the type; [`by_hand`](crate::by_hand)
/// shows how to do both without the attribute.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "not an event",
    note = "add `#[event]` to the definition of the type, or `#[event(transactional)]` for `emit_in` and `outbox`",
    note = "`emit` takes the event itself, by value; `emit_all` takes several; `emit_in` takes the transaction first"
)]
pub trait Event: Sized + Send + Sync + 'static {
    /// The event's name in stores, logs and the catalogue: its type's name unless `#[event(id = "..")]` says otherwise.
    const ID: &'static str;
    /// The version of the payloads that are written, from 1: `#[event(version = 2, ..)]`. Workers that read only older ones
    /// leave these to workers that read them.
    const VERSION: u32 = 1;
    /// [`Immediate`] or [`Transactional`].
    type Delivery: 'static;
    /// How the event becomes its payload; `None` where it is never stored.
    const ENCODE: Option<Encode<Self>> = None;
    /// How payloads of earlier versions are read: the last is of the version before [`VERSION`](Self::VERSION), the one
    /// before it is one version older, and so on. `#[event(.., from(OrderPlacedV1))]`.
    const EARLIER: &'static [Upcast<Self>] = &[];
    /// The place of the event's in-process handlers: a `static` of the event's own.
    fn slot() -> &'static Slot<Self>;
}

/// Of an event that is emitted with [`emit`](crate::emit()): the kind that `#[event]` declares. A function that is generic
/// over such events asks for `E: Event<Delivery = Immediate>`.
#[derive(Debug)]
pub enum Immediate {}

/// Of an event that is emitted with [`emit_in`](crate::emit_in()), inside a database transaction:
/// `#[event(transactional)]`.
#[derive(Debug)]
pub enum Transactional {}

/// What is known of every event's delivery, and not of a type parameter's: it says so, where the traits below would call it
/// the other kind of event.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "whether event `{E}` is transactional is not known here",
    label = "`{E}` may be either kind of event",
    note = "`emit` needs `{E}: Event<Delivery = evented::Immediate>`, `emit_in` needs `{E}: Event<Delivery = evented::Transactional>`"
)]
pub trait Declared<E> {
    type Kind;
}
#[diagnostic::do_not_recommend]
impl<E> Declared<E> for Immediate {
    type Kind = Self;
}
#[diagnostic::do_not_recommend]
impl<E> Declared<E> for Transactional {
    type Kind = Self;
}

#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "transactional event `{E}` must be emitted inside a transaction",
    label = "`{E}` is declared `#[event(transactional)]`",
    note = "use `emit_in(&mut tx, event)`: the event is then stored if, and only if, `tx` commits"
)]
pub trait EmittedDirectly<E>: Declared<E, Kind = Self> {}
#[diagnostic::do_not_recommend]
impl<E> EmittedDirectly<E> for Immediate {}

#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "event `{E}` is not transactional, so `emit_in` cannot promise that it is stored with the transaction",
    label = "`{E}` is declared `#[event]`",
    note = "declare it `#[event(transactional)]`, or emit it after the commit with `emit(event)`"
)]
pub trait EmittedInTransaction<E>: Declared<E, Kind = Self> {}
#[diagnostic::do_not_recommend]
impl<E> EmittedInTransaction<E> for Transactional {}

#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`outbox` handler of an event that is not transactional: `{E}`",
    label = "`{E}` is not declared transactional",
    note = "declare the event with `#[event(transactional)]`, or write `background` instead of `outbox`"
)]
pub trait HandledByOutbox<E> {
    const CHECK: () = ();
}
#[diagnostic::do_not_recommend]
impl<E> HandledByOutbox<E> for Transactional {}

#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "in-process handler of a transactional event: `{E}`",
    label = "`{E}` is declared `#[event(transactional)]`",
    note = "write `outbox` to run after the commit with the outbox's guarantee, or `background` to run after the commit",
    note = "write `in_process(in_transaction)` to run inside `emit_in`, before the commit: an error then undoes the emit"
)]
pub trait HandledInProcess<E> {
    const CHECK: () = ();
}
#[diagnostic::do_not_recommend]
impl<E> HandledInProcess<E> for Immediate {}

#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "`in_transaction` handler of an event that is not transactional: `{E}`",
    label = "`{E}` is not declared transactional",
    note = "declare the event with `#[event(transactional)]`, or write `#[handler({E})]` to run inside `emit`"
)]
pub trait HandledInTransaction<E> {
    const CHECK: () = ();
}
#[diagnostic::do_not_recommend]
impl<E> HandledInTransaction<E> for Transactional {}

#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "event `{E}` cannot be stored, so no `background` or `outbox` handler can receive it",
    label = "`{E}` must implement `serde::Serialize` and `serde::de::DeserializeOwned`",
    note = "add `#[derive(serde::Serialize, serde::Deserialize)]` to `{E}`",
    note = "or run the handler in-process: `#[handler({E})]`"
)]
pub trait Stored<E> {
    const DECODE: Decode;
}
#[diagnostic::do_not_recommend]
impl<E: Event + Serialize + DeserializeOwned> Stored<E> for Immediate {
    const DECODE: Decode = Decode { read: decode::<E>, fields: fields_of::<E> };
}
#[diagnostic::do_not_recommend]
impl<E: Event + Serialize + DeserializeOwned> Stored<E> for Transactional {
    const DECODE: Decode = Decode { read: decode::<E>, fields: fields_of::<E> };
}

/// A type that an earlier version of the event `E` had.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "event `{E}` cannot be made from its earlier version `{Self}`",
    label = "`{E}` does not implement `From<{Self}>`",
    note = "stored payloads of that version become the event through `From`: write `impl From<{Self}> for {E}`"
)]
pub trait EarlierVersion<E>: Sized {
    fn upcast(self) -> E;
}
#[diagnostic::do_not_recommend]
impl<E: From<Old>, Old> EarlierVersion<E> for Old {
    fn upcast(self) -> E {
        self.into()
    }
}

/// What payloads are read into.
#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "stored payloads cannot be read into the earlier version `{Self}`",
    label = "`{Self}` must implement `serde::de::DeserializeOwned`",
    note = "add `#[derive(serde::Deserialize)]` to `{Self}`"
)]
pub trait Readable: Sized {
    fn read(payload: &[u8]) -> Result<Self, BoxError>;
}
#[diagnostic::do_not_recommend]
impl<Old: DeserializeOwned> Readable for Old {
    fn read(payload: &[u8]) -> Result<Self, BoxError> {
        serde_json::from_slice(payload).map_err(|error| Unread::of(&error).into())
    }
}

/// Turns an event into its payload.
pub type Encode<E> = fn(&E) -> Result<Vec<u8>, BoxError>;

/// Turns a payload of an earlier version into the event.
pub type Upcast<E> = fn(&[u8]) -> Result<E, BoxError>;

/// Reads a payload of some version.
#[doc(hidden)]
pub type Read = fn(u32, &[u8]) -> Result<Box<dyn Any + Send>, BoxError>;

/// How payloads are read.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Decode {
    /// Turns a payload of some version into an `Option<E>` that holds the event, for a shim to borrow or take.
    pub read: Read,
    /// The names of the event's fields in a payload; empty where they are not known.
    pub fields: fn() -> &'static [&'static str],
}

/// The payload that evented writes unless told otherwise: JSON.
///
/// # Errors
/// Those of the type's own `Serialize`, of what JSON cannot say, such as a number that is not finite, and of what `serde` would
/// not read back as it was.
pub fn json<E: Serialize + DeserializeOwned>(event: &E) -> Result<Vec<u8>, BoxError> {
    exact::encode(event).map_err(Into::into)
}

/// Reads the JSON of an earlier version's type, which becomes the event through `From`.
///
/// # Errors
/// When the payload is not one of that type.
pub fn upcast<Old: DeserializeOwned, E: From<Old>>(payload: &[u8]) -> Result<E, BoxError> {
    Ok(Old::read(payload)?.upcast())
}

fn decode<E: Event + DeserializeOwned>(version: u32, payload: &[u8]) -> Result<Box<dyn Any + Send>, BoxError> {
    let event: E = if version == E::VERSION {
        serde_json::from_slice(payload).map_err(|error| Unread::of(&error))?
    } else {
        // Workers claim no newer versions than they read.
        let back = E::VERSION.saturating_sub(version) as usize;
        let upcast = E::EARLIER.len().checked_sub(back).and_then(|at| E::EARLIER.get(at));
        let upcast = upcast.ok_or_else(|| {
            let oldest = E::VERSION as usize - E::EARLIER.len();
            format!(
                "it is of version {version}, and this build reads `{}` from version {oldest} to {}; name the type of the older \
                 version in `from(..)`",
                E::ID,
                E::VERSION
            )
        })?;
        upcast(payload)?
    };
    Ok(Box::new(Some(event)))
}

/// Asks whether `E` can be written and read back, without requiring it: the inherent constant wins where its bound holds, the trait's
/// constant stands in elsewhere.
#[doc(hidden)]
#[derive(Debug)]
pub struct EncodeOf<E>(PhantomData<E>);

impl<E: Serialize + DeserializeOwned> EncodeOf<E> {
    pub const ENCODE: Option<Encode<E>> = Some(json::<E>);
}

#[doc(hidden)]
pub trait NotSerialize<E> {
    const ENCODE: Option<Encode<E>> = None;
}
impl<E> NotSerialize<E> for EncodeOf<E> {}

/// A place in the source: `file:line`, and the crate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The path as the compiler saw it.
    pub file: &'static str,
    /// Counted from 1.
    pub line: u32,
    /// The module's path, which starts with the crate's name.
    pub module: &'static str,
}

impl Place {
    pub(crate) const NONE: Self = Self { file: "", line: 0, module: "" };

    /// The crate's name, as code names it.
    #[must_use]
    pub fn crate_name(&self) -> &'static str {
        self.module.split("::").next().unwrap_or_default()
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
