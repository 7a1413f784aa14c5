//! The scripts, and what their answers are read with. A script runs alone and whole: it is our transaction.

use std::sync::LazyLock;

use redis::Value;

use crate::error::{StoreError, Written};

pub(super) struct Script(LazyLock<redis::Script>, &'static str);

impl Script {
    /// By its hash the server finds it without being sent it.
    pub(super) fn hash(&self) -> &str {
        self.0.get_hash()
    }

    pub(super) fn code(&self) -> &'static str {
        self.1
    }
}

macro_rules! scripts {
    ($($name:ident = $($file:literal)+)+) => {$(
        pub(super) static $name: Script = {
            const CODE: &str = concat!(include_str!("prelude.lua"), $(include_str!($file)),+);
            Script(LazyLock::new(|| redis::Script::new(CODE)), CODE)
        };
    )+};
}

scripts! {
    OPEN = "open.lua"
    PUSH = "push.lua"
    EXCHANGE = "blame.lua" "exchange.lua"
    SUSPECTS = "blame.lua" "suspects.lua"
    EXTEND = "blame.lua" "extend.lua"
    LEAVE = "blame.lua" "leave.lua"
    RECORD = "record.lua"
    CATALOGUE = "catalogue.lua"
    RETIRE = "retire.lua"
    PAUSE = "pause.lua"
    STATS = "stats.lua"
    DEAD = "dead.lua"
    LETTERS = "letters.lua"
    SWEEP = "blame.lua" "sweep.lua"
}

/// An answer that no script of ours gives. Its shape is said, and not what is in it, which may be a payload.
pub(super) fn strange(value: &Value) -> StoreError {
    let shape = match value {
        Value::Nil => "nothing".to_owned(),
        Value::Int(_) => "a number".to_owned(),
        Value::BulkString(bytes) => format!("{} bytes", bytes.len()),
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::SimpleString(_) | Value::Okay => "a word".to_owned(),
        _ => "another kind of value".to_owned(),
    };
    StoreError::lasting(format!("redis answered what no script of ours does: {shape}"), Written::Unknown)
}

pub(super) fn list(value: Value) -> Result<Vec<Value>, StoreError> {
    match value {
        Value::Array(list) => Ok(list),
        other => Err(strange(&other)),
    }
}

/// A list of a known length.
pub(super) fn tuple<const N: usize>(value: Value) -> Result<[Value; N], StoreError> {
    list(value)?.try_into().map_err(|list| strange(&Value::Array(list)))
}

pub(super) fn bytes(value: Value) -> Result<Vec<u8>, StoreError> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        other => Err(strange(&other)),
    }
}

pub(super) fn text(value: Value) -> Result<String, StoreError> {
    let text = bytes(value)?;
    String::from_utf8(text).map_err(|error| strange(&Value::BulkString(error.into_bytes())))
}

pub(super) fn int(value: &Value) -> Result<i64, StoreError> {
    match value {
        Value::Int(number) => Ok(*number),
        other => Err(strange(other)),
    }
}

pub(super) fn count<T: TryFrom<i64>>(value: &Value) -> Result<T, StoreError> {
    T::try_from(int(value)?).map_err(|_| strange(value))
}

pub(super) fn digits<T: std::str::FromStr>(value: Value) -> Result<T, StoreError> {
    let text = text(value)?;
    text.parse().map_err(|_| strange(&Value::BulkString(text.into_bytes())))
}
