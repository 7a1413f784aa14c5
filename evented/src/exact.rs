//! JSON that comes back: an event is written as `serde_json` writes it, and refused where it would not be read as it was.
//!
//! What JSON cannot say, `serde_json` writes all the same: no number as null, `Some(None)` as `None`, two keys of one name. And
//! it reads less than it writes: no more than 127 levels, no 128 bits through serde's buffer for what is flattened or untagged.
//! To read back each event at its emit would find all of that, at the price of a second encoding, and would run the
//! application's `Deserialize` in processes that only emit. So a serializer stands between the event and `serde_json` that
//! sees what may be lost, at almost no cost, and only an event that has something *odd* is read back and compared: a type
//! that reads what it wrote by rules of its own is not refused. What stays unseen is a `Deserialize` that refuses what an
//! ordinary `Serialize` wrote; that ends as a dead letter in the worker.

use std::{
    cell::{Cell, RefCell},
    fmt::{self, Write as _},
};

use serde::{
    Serialize, Serializer,
    de::DeserializeOwned,
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
        SerializeTupleVariant,
    },
};

use crate::error::BoxError;

/// How many lists, maps and variants lie in each other at the most: `serde_json` reads no more.
const DEPTH_MAX: u32 = 127;

const NO_NUMBER: &str = "is not a finite number, and JSON has no other; make it an `Option`, or write it as text with \
                         `#[serde(with = \"..\")]`";
const SOME_OF_NOTHING: &str = "is a `Some` of nothing, which is read as `None`; use an enum that names the cases";

/// Why an event cannot be stored, and where in it: `.lines[2].price`, empty for the event itself.
#[derive(Debug)]
pub(crate) struct Refused {
    pub at: String,
    pub why: String,
    pub source: Option<BoxError>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the event{} {}", self.at, self.why)
    }
}

impl std::error::Error for Refused {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// Encodes `event`, if it comes back.
pub(crate) fn encode<E: Serialize + DeserializeOwned>(event: &E) -> Result<Vec<u8>, Refused> {
    let marks = Marks::default();
    let payload = marks.write(event)?;
    if !marks.odd.get() && marks.lost.get() == 0 {
        return Ok(payload);
    }
    let back = serde_json::from_slice::<E>(&payload).map_err(BoxError::from);
    let source = match back {
        Ok(back) => {
            let again = Marks::default();
            let copy = again.write(&back)?;
            if again.lost == marks.lost && same(&payload, &copy) {
                return Ok(payload);
            }
            None
        }
        Err(error) => Some(error),
    };
    if marks.lost.get() > 0 {
        // Written once more, to find where.
        Marks { strict: true, ..Marks::default() }.write(event)?;
    }
    let why = "would not come back as it is: serde reads something else where it is flattened, untagged or skipped, or two \
               keys of a map are written alike; keep numbers of 128 bits and maps out of such types, and give what is skipped \
               a `#[serde(default)]`";
    Err(Refused { at: String::new(), why: why.to_owned(), source })
}

/// The same bytes in whatever order: that of a hash map's entries differs from copy to copy.
fn same(one: &[u8], other: &[u8]) -> bool {
    let sorted = |bytes: &[u8]| {
        let mut bytes = bytes.to_vec();
        bytes.sort_unstable();
        bytes
    };
    one == other || one.len() == other.len() && sorted(one) == sorted(other)
}

/// What was seen while an event was written.
#[derive(Default)]
struct Marks {
    depth: Cell<u32>,
    too_deep: Cell<bool>,
    /// Something may be read otherwise than it was written.
    odd: Cell<bool>,
    /// Values that were written as null and are not.
    lost: Cell<u32>,
    /// The first of those is an error.
    strict: bool,
    why: Cell<Option<&'static str>>,
    /// Where an error happened, from within.
    path: RefCell<Vec<Step>>,
}

#[derive(Clone, Copy)]
enum Step {
    Field(&'static str),
    Index(usize),
    OfMap,
}

impl Marks {
    fn write<T: Serialize>(&self, event: &T) -> Result<Vec<u8>, Refused> {
        let mut payload = Vec::with_capacity(128);
        let written =
            event.serialize(Exact { to: &mut serde_json::Serializer::new(&mut payload), marks: self, some: false });
        written.map(|()| payload).map_err(|error| self.refused(error.into()))
    }

    #[cold]
    fn refused(&self, error: BoxError) -> Refused {
        let why = match self.why.get() {
            _ if self.too_deep.get() => {
                let why = format!(
                    "is nested deeper than {DEPTH_MAX} levels, more than are read; store it as a list, or as text"
                );
                return Refused { at: String::new(), why, source: None };
            }
            Some(why) => why,
            None => return Refused { at: self.at(), why: "could not be encoded".to_owned(), source: Some(error) },
        };
        Refused { at: self.at(), why: why.to_owned(), source: None }
    }

    fn at(&self) -> String {
        self.path.borrow().iter().rev().fold(String::new(), |mut path, step| {
            // Writing to a string does not fail.
            let _written = match step {
                Step::Field(name) => write!(path, ".{name}"),
                Step::Index(index) => write!(path, "[{index}]"),
                Step::OfMap => write!(path, "[..]"),
            };
            path
        })
    }

    fn enter<E: serde::ser::Error>(&self, levels: u32) -> Result<(), E> {
        let depth = self.depth.get() + levels;
        self.depth.set(depth);
        if depth > DEPTH_MAX {
            self.too_deep.set(true);
            return Err(E::custom("it is nested too deep"));
        }
        Ok(())
    }

    fn leave(&self, levels: u32) {
        self.depth.set(self.depth.get() - levels);
    }

    #[cold]
    fn lose<E: serde::ser::Error>(&self, why: &'static str) -> Result<(), E> {
        self.lost.set(self.lost.get().saturating_add(1));
        if self.strict {
            self.why.set(Some(why));
            return Err(E::custom(why));
        }
        Ok(())
    }

    #[cold]
    fn went_wrong(&self, step: Step) {
        self.path.borrow_mut().push(step);
    }
}

/// A serializer that passes all on and marks what is odd.
struct Exact<'m, S> {
    to: S,
    marks: &'m Marks,
    /// What is written is the inside of a `Some`.
    some: bool,
}

/// A part of the event, on its way to the serializer that is passed to.
struct Part<'m, 'v, T: ?Sized> {
    value: &'v T,
    marks: &'m Marks,
    some: bool,
}

impl<T: Serialize + ?Sized> Serialize for Part<'_, '_, T> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.value.serialize(Exact { to, marks: self.marks, some: self.some })
    }
}

/// A list, a map, a struct or a variant that is being written.
struct Parts<'m, C> {
    to: C,
    marks: &'m Marks,
    levels: u32,
    next: usize,
    variant: Option<&'static str>,
}

impl<'m, C> Parts<'m, C> {
    fn part<'v, T: ?Sized>(&self, value: &'v T) -> Part<'m, 'v, T> {
        Part { value, marks: self.marks, some: false }
    }

    /// Notes where it was, when writing a part has failed.
    fn after<E>(&mut self, written: Result<(), E>, step: impl FnOnce(usize) -> Step) -> Result<(), E> {
        if written.is_err() {
            self.marks.went_wrong(step(self.next));
            if let Some(variant) = self.variant {
                self.marks.went_wrong(Step::Field(variant));
            }
        }
        self.next += 1;
        written
    }
}

macro_rules! passed_on {
    ($($method:ident $kind:ty),*) => {$(
        fn $method(self, value: $kind) -> Result<S::Ok, S::Error> {
            self.to.$method(value)
        }
    )*};
}

macro_rules! opened {
    ($($method:ident -> $Parts:ident ($($arg:ident: $kind:ty),*) $levels:literal $variant:expr, $odd:expr;)*) => {$(
        fn $method(self, $($arg: $kind),*) -> Result<Self::$Parts, S::Error> {
            if $odd {
                self.marks.odd.set(true);
            }
            self.marks.enter($levels)?;
            let to = self.to.$method($($arg),*)?;
            Ok(Parts { to, marks: self.marks, levels: $levels, next: 0, variant: $variant })
        }
    )*};
}

impl<'m, S: Serializer> Serializer for Exact<'m, S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Parts<'m, S::SerializeSeq>;
    type SerializeTuple = Parts<'m, S::SerializeTuple>;
    type SerializeTupleStruct = Parts<'m, S::SerializeTupleStruct>;
    type SerializeTupleVariant = Parts<'m, S::SerializeTupleVariant>;
    type SerializeMap = Parts<'m, S::SerializeMap>;
    type SerializeStruct = Parts<'m, S::SerializeStruct>;
    type SerializeStructVariant = Parts<'m, S::SerializeStructVariant>;

    passed_on!(
        serialize_bool bool, serialize_i8 i8, serialize_i16 i16, serialize_i32 i32, serialize_i64 i64, serialize_u8 u8,
        serialize_u16 u16, serialize_u32 u32, serialize_u64 u64, serialize_char char, serialize_str &str
    );

    opened! {
        serialize_seq -> SerializeSeq (len: Option<usize>) 1 None, false;
        serialize_tuple -> SerializeTuple (len: usize) 1 None, false;
        serialize_tuple_struct -> SerializeTupleStruct (name: &'static str, len: usize) 1 None, false;
        serialize_tuple_variant -> SerializeTupleVariant
            (name: &'static str, index: u32, variant: &'static str, len: usize) 2 Some(variant), false;
        // Its keys may be no strings, or alike; and what is flattened is written as one.
        serialize_map -> SerializeMap (len: Option<usize>) 1 None, true;
        // `serde_json` has types of its own whose text nobody looks into.
        serialize_struct -> SerializeStruct (name: &'static str, len: usize) 1 None, name.starts_with('$');
        serialize_struct_variant -> SerializeStructVariant
            (name: &'static str, index: u32, variant: &'static str, len: usize) 2 Some(variant), false;
    }

    fn serialize_i128(self, value: i128) -> Result<S::Ok, S::Error> {
        self.marks.odd.set(true);
        self.to.serialize_i128(value)
    }

    fn serialize_u128(self, value: u128) -> Result<S::Ok, S::Error> {
        self.marks.odd.set(true);
        self.to.serialize_u128(value)
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        if !value.is_finite() {
            self.marks.lose(NO_NUMBER)?;
        }
        self.to.serialize_f32(value)
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        if !value.is_finite() {
            self.marks.lose(NO_NUMBER)?;
        }
        self.to.serialize_f64(value)
    }

    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        self.marks.odd.set(true);
        self.to.serialize_bytes(value)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        if self.some {
            self.marks.lose(SOME_OF_NOTHING)?;
        }
        self.to.serialize_none()
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.to.serialize_some(&Part { value, marks: self.marks, some: true })
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        if self.some {
            self.marks.lose(SOME_OF_NOTHING)?;
        }
        self.to.serialize_unit()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        if self.some {
            self.marks.lose(SOME_OF_NOTHING)?;
        }
        self.to.serialize_unit_struct(name)
    }

    fn serialize_unit_variant(self, name: &'static str, index: u32, variant: &'static str) -> Result<S::Ok, S::Error> {
        self.to.serialize_unit_variant(name, index, variant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<S::Ok, S::Error> {
        self.to.serialize_newtype_struct(name, &Part { value, marks: self.marks, some: self.some })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        self.marks.enter(1)?;
        let part = Part { value, marks: self.marks, some: false };
        let written = self.to.serialize_newtype_variant(name, index, variant, &part);
        self.marks.leave(1);
        written.inspect_err(|_| self.marks.went_wrong(Step::Field(variant)))
    }

    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        self.to.collect_str(value)
    }

    fn is_human_readable(&self) -> bool {
        self.to.is_human_readable()
    }
}

macro_rules! elements {
    ($($trait:ident $method:ident),*) => {$(
        impl<C: $trait> $trait for Parts<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
                let part = self.part(value);
                let written = self.to.$method(&part);
                self.after(written, Step::Index)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.marks.leave(self.levels);
                self.to.end()
            }
        }
    )*};
}
elements!(SerializeSeq serialize_element, SerializeTuple serialize_element, SerializeTupleStruct serialize_field,
    SerializeTupleVariant serialize_field);

macro_rules! fields {
    ($($trait:ident),*) => {$(
        impl<C: $trait> $trait for Parts<'_, C> {
            type Ok = C::Ok;
            type Error = C::Error;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), C::Error> {
                let part = self.part(value);
                let written = self.to.serialize_field(key, &part);
                self.after(written, |_| Step::Field(key))
            }

            // Where it is not read as its default, it is missing.
            fn skip_field(&mut self, key: &'static str) -> Result<(), C::Error> {
                self.marks.odd.set(true);
                self.to.skip_field(key)
            }

            fn end(self) -> Result<C::Ok, C::Error> {
                self.marks.leave(self.levels);
                self.to.end()
            }
        }
    )*};
}
fields!(SerializeStruct, SerializeStructVariant);

impl<C: SerializeMap> SerializeMap for Parts<'_, C> {
    type Ok = C::Ok;
    type Error = C::Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), C::Error> {
        let part = self.part(key);
        self.to.serialize_key(&part)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), C::Error> {
        let part = self.part(value);
        let written = self.to.serialize_value(&part);
        self.after(written, |_| Step::OfMap)
    }

    fn end(self) -> Result<C::Ok, C::Error> {
        self.marks.leave(self.levels);
        self.to.end()
    }
}
