//! What makes a type an event: its id, whether it needs a transaction, and how it is stored.

use std::{
    any::{Any, TypeId},
    marker::PhantomData,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::{error::BoxError, slot::Slot};

/// A fact that happened. Implemented by [`#[event]`](macro@crate::event), never by hand.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an event",
    label = "not an event",
    note = "add `#[event]` to the definition of `{Self}`"
)]
pub trait Event: Sized + Send + Sync + 'static {
    /// The event's name in stores, logs and the catalogue: its type's name unless `#[event(id = "..")]` says otherwise.
    const ID: &'static str;
    /// [`Immediate`] or [`Transactional`].
    type Delivery;
    #[doc(hidden)]
    const ENCODE: Option<Encode<Self>>;
    #[doc(hidden)]
    fn slot() -> &'static Slot<Self>;
}

/// Of an event that is emitted with [`emit`](crate::emit()): the kind that `#[event]` declares.
#[derive(Debug)]
pub enum Immediate {}

/// Of an event that is emitted with [`emit_in`](crate::emit_in()), inside a database transaction:
/// `#[event(transactional)]`.
#[derive(Debug)]
pub enum Transactional {}

#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "transactional event `{E}` must be emitted inside a transaction",
    label = "`{E}` is declared `#[event(transactional)]`",
    note = "use `emit_in(&mut tx, event)`: the event is then stored if, and only if, `tx` commits"
)]
pub trait EmittedDirectly<E> {}
#[diagnostic::do_not_recommend]
impl<E> EmittedDirectly<E> for Immediate {}

#[doc(hidden)]
#[diagnostic::on_unimplemented(
    message = "event `{E}` is not transactional, so `emit_in` cannot promise that it is stored with the transaction",
    label = "`{E}` is declared `#[event]`",
    note = "declare it `#[event(transactional)]`, or emit it after the commit with `emit(event)`"
)]
pub trait EmittedInTransaction<E> {}
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
impl<E: Serialize + DeserializeOwned + Send + 'static> Stored<E> for Immediate {
    const DECODE: Decode = decode::<E>;
}
#[diagnostic::do_not_recommend]
impl<E: Serialize + DeserializeOwned + Send + 'static> Stored<E> for Transactional {
    const DECODE: Decode = decode::<E>;
}

/// The version of every payload, until an event can say otherwise. A worker leaves newer ones to newer workers.
pub(crate) const PAYLOAD_VERSION: u32 = 1;

/// Turns an event into its payload.
pub type Encode<E> = fn(&E) -> Result<Vec<u8>, BoxError>;

/// Turns a payload into an `Option<E>` that holds the event, for a shim to borrow or take.
pub type Decode = fn(&[u8]) -> Result<Box<dyn Any + Send>, BoxError>;

/// Asks whether `E` is `Serialize`, without requiring it: the inherent constant wins where its bound holds, the trait's
/// constant stands in elsewhere.
#[doc(hidden)]
#[derive(Debug)]
pub struct EncodeOf<E>(PhantomData<E>);

impl<E: Serialize> EncodeOf<E> {
    pub const ENCODE: Option<Encode<E>> = Some(encode::<E>);
}

#[doc(hidden)]
pub trait NotSerialize<E> {
    const ENCODE: Option<Encode<E>> = None;
}
impl<E> NotSerialize<E> for EncodeOf<E> {}

fn encode<E: Serialize>(event: &E) -> Result<Vec<u8>, BoxError> {
    serde_json::to_vec(event).map_err(Into::into)
}

fn decode<E: DeserializeOwned + Send + 'static>(payload: &[u8]) -> Result<Box<dyn Any + Send>, BoxError> {
    let event: E = serde_json::from_slice(payload)?;
    Ok(Box::new(Some(event)))
}

/// What the registry knows of an event: a constant that `#[event]` registers.
#[derive(Debug)]
pub struct EventDef {
    /// The event's id.
    pub id: &'static str,
    /// Its earlier ids.
    pub aliases: &'static [&'static str],
    /// Whether it is declared transactional.
    pub transactional: bool,
    /// Whether its type is `Serialize`, so that it can be stored.
    pub storable: bool,
    /// Where it is declared.
    pub place: Place,
    #[doc(hidden)]
    pub type_id: fn() -> TypeId,
}

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

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}
