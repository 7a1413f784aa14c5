//! A statement for a transaction of another library, with its values.

use std::fmt;

/// A statement of evented's for a transaction of another library.
#[derive(Debug, Clone)]
pub struct Statement {
    sql: &'static str,
    values: Vec<Value>,
}

/// A value that is bound to a [`Statement`].
#[derive(Clone, PartialEq)]
pub enum Value {
    /// `bytea` in Postgres, `blob` elsewhere.
    Bytes(Option<Vec<u8>>),
    /// `text`.
    Text(Option<String>),
    /// A 64-bit integer.
    Integer(Option<i64>),
}

impl Statement {
    #[doc(hidden)]
    #[must_use]
    pub fn new(sql: &'static str, values: Vec<Value>) -> Self {
        Self { sql, values }
    }

    /// The text, with the placeholders of its database: `$1` in Postgres, `?` elsewhere.
    #[must_use]
    pub fn sql(&self) -> &'static str {
        self.sql
    }

    /// What the placeholders stand for, in order.
    #[must_use]
    pub fn values(&self) -> &[Value] {
        &self.values
    }
}

/// Of bytes how many there are, and of texts too: a payload, or another's name, is shown nowhere.
impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({:?})", bytes.as_ref().map(Vec::len)),
            Self::Text(text) => write!(f, "Text({:?})", text.as_ref().map(String::len)),
            Self::Integer(number) => write!(f, "Integer({number:?})"),
        }
    }
}
