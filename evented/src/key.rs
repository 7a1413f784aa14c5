//! Keys: the field of a payload by which deliveries are unique or ordered.
//!
//! A key is read from the stored payload and not from the event, so that a process which does not link the handler, and the
//! relay, find the same key as one that does.

use std::fmt;

use serde::{
    Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor},
    forward_to_deserialize_any,
};

/// The text of a payload's field, as JSON writes it; `None` where it is missing or null, or the payload is no JSON object:
/// the delivery has no key then.
pub(crate) fn value_of(payload: &[u8], field: &str) -> Option<String> {
    struct Field<'f>(&'f str);

    impl<'de> Visitor<'de> for Field<'_> {
        type Value = Option<serde_json::Value>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(name) = map.next_key::<std::borrow::Cow<'de, str>>()? {
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
    (!found.is_null()).then(|| found.to_string())
}

/// The names under which serde reads the fields of `E`; empty where it does not read a struct by its fields, as with
/// `#[serde(flatten)]`.
pub(crate) fn fields_of<E: DeserializeOwned>() -> &'static [&'static str] {
    match E::deserialize(Asked) {
        Err(Fields(fields)) => fields,
        // A type that reads nothing has no fields.
        Ok(_) => &[],
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
