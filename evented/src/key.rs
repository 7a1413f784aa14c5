//! Keys: the field of a payload by which deliveries are unique or ordered.
//!
//! A key is read from the stored payload and not from the event, so that a process which does not link the handler, and the
//! relay, find the same key as one that does.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use serde::{
    Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor},
    forward_to_deserialize_any,
};
use serde_json::value::RawValue;

use crate::guard::{guarded, let_go};

/// The text of a payload's field, as JSON writes it; `None` where it is missing or null, or the payload is no JSON object:
/// the delivery has no key then.
///
/// A number is the text that stands in the payload and never goes through a number of ours: `u128` ids that differ are
/// different keys, and `1.0` is not `1`. Texts are compared as texts, however they are escaped, and objects with their
/// fields in order, since a hash map writes them in any. Earlier releases read numbers: of what they wrote, only integers
/// beyond 64 bits and some floats of 16 digits and more have another key now.
pub(crate) fn value_of(payload: &[u8], field: &str) -> Option<String> {
    struct Field<'f>(&'f str);

    impl<'de> Visitor<'de> for Field<'_> {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                if name == self.0 {
                    found = Some(map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(found)
        }
    }

    let mut json = serde_json::Deserializer::from_slice(payload);
    let found = json.deserialize_map(Field(field)).ok()??;
    let mut text = String::new();
    push(&mut text, found, DEPTH_MAX)?;
    (text != "null").then_some(text)
}

/// What lies deeper within a field is no key.
const DEPTH_MAX: usize = 127;

/// Appends the one text of all that are written for this value.
fn push(text: &mut String, value: &RawValue, depth_left: usize) -> Option<()> {
    let raw = value.get();
    match raw.as_bytes().first()? {
        b'"' if raw.contains('\\') => {
            // Half of a surrogate pair is no text, and stays as it is written.
            let plain = serde_json::from_str::<Cow<'_, str>>(raw).ok();
            text.push_str(
                &plain.and_then(|plain| serde_json::to_string(&plain).ok()).unwrap_or_else(|| raw.to_owned()),
            );
        }
        b'[' => {
            text.push('[');
            for (at, part) in serde_json::from_str::<Vec<&RawValue>>(raw).ok()?.into_iter().enumerate() {
                text.push_str(if at > 0 { "," } else { "" });
                push(text, part, depth_left.checked_sub(1)?)?;
            }
            text.push(']');
        }
        b'{' => {
            text.push('{');
            let parts: BTreeMap<String, &RawValue> = serde_json::from_str(raw).ok()?;
            for (at, (name, part)) in parts.into_iter().enumerate() {
                text.push_str(if at > 0 { "," } else { "" });
                text.push_str(&serde_json::to_string(&name).ok()?);
                text.push(':');
                push(text, part, depth_left.checked_sub(1)?)?;
            }
            text.push('}');
        }
        _ => text.push_str(raw),
    }
    Some(())
}

/// The names under which serde reads the fields of `E`; empty where it does not read a struct by its fields, as with
/// `#[serde(flatten)]`.
pub(crate) fn fields_of<E: DeserializeOwned>() -> &'static [&'static str] {
    match guarded(|| E::deserialize(Asked)) {
        Ok(Err(Fields(fields))) => fields,
        // A type that reads nothing has no fields, and one that panics does not tell them.
        Ok(Ok(nothing)) => {
            let_go(nothing);
            &[]
        }
        Err(_) => &[],
    }
}

/// The name under which serde writes the field that code calls `field`: the same, or the one that differs from it in case and
/// separators alone, as `rename_all` makes it.
pub(crate) fn written_as(field: &str, fields: &[&'static str]) -> Option<String> {
    let plain = |name: &str| name.chars().filter(|c| c.is_alphanumeric()).collect::<String>().to_lowercase();
    if fields.is_empty() || fields.contains(&field) {
        return Some(field.to_owned());
    }
    let mut alike = fields.iter().filter(|name| plain(name) == plain(field));
    match (alike.next(), alike.next()) {
        (Some(name), None) => Some((*name).to_owned()),
        _ => None,
    }
}

/// A deserializer that answers every question with the names of the fields that it was asked for.
struct Asked;

/// What `Asked` was asked for. It is told as an error, since nothing is read.
struct Fields(&'static [&'static str]);

impl<'de> Deserializer<'de> for Asked {
    type Error = Fields;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Fields> {
        Err(Fields(&[]))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Fields> {
        Err(Fields(fields))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Fields> {
        visitor.visit_newtype_struct(self)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct seq tuple
        tuple_struct map enum identifier ignored_any
    }
}

impl serde::de::Error for Fields {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self(&[])
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fields").field(&self.0).finish()
    }
}

impl fmt::Display for Fields {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "asked for {:?}", self.0)
    }
}

impl std::error::Error for Fields {}
