//! Values at the edges: what is stored comes back exactly or is refused at its emit, and keys are compared by their text.

#![expect(clippy::option_option, reason = "what is absent, null or there is told apart by some events")]

use std::collections::{BTreeMap, HashMap};

use evented::{ErrorKind, prelude::*, sqlx::query_scalar};
use evented_tests::{Place, Seen, count_of, file};
use serde::{Deserialize, Serialize};

mod keys {
    use evented::Key;
    use serde_json::json;

    use super::*;

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Minted {
        id: u128,
    }

    #[handler(Minted, background(unique(key = "id", within = "10m")))]
    async fn keep(event: Minted, seen: State<Seen>) {
        seen.note(event.id.to_string());
    }

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Sorted {
        by: serde_json::Value,
    }

    #[handler(Sorted, background(ordered_by = "by"), id = "values.sort")]
    async fn sort(_event: Sorted) {}

    #[tokio::test]
    async fn numbers_that_differ_beyond_64_bits_are_different_keys() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).await.unwrap();
        let ids = [u128::MAX, u128::MAX - 1, 1 << 100, (1 << 100) + 1];
        app.emit_all(ids.map(|id| Minted { id })).await.unwrap();
        app.emit(Minted { id: u128::MAX }).await.unwrap();
        app.until_idle().await.unwrap();
        let mut kept = seen.all();
        kept.sort();
        let mut wanted = ids.map(|id| id.to_string());
        wanted.sort();
        assert_eq!(kept, wanted);
    }

    /// Deliveries of the release before wait beside new ones: they must be of one key.
    #[tokio::test]
    async fn a_key_is_derived_from_the_text_that_earlier_releases_derived_it_from() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).role(Role::Emit).await.unwrap();
        let values = [
            json!("plain"),
            json!(""),
            json!("a \"quote\", a \\, a \n, an \u{e9}, a \u{1F980} and a \u{7}"),
            json!(true),
            json!(0),
            json!(-1),
            json!(i64::MIN),
            json!(u64::MAX),
            json!(9_007_199_254_740_993_u64),
            json!(0.1),
            json!(-0.0),
            json!(1e300),
            json!([1, "two", [3]]),
            json!({"b": 1, "a": {"d": "x", "c": [2.5]}}),
        ];
        for value in values {
            app.emit(Sorted { by: value.clone() }).await.unwrap();
            let stored: Vec<u8> = query_scalar("select order_key from evented_deliveries order by seq desc limit 1")
                .fetch_one(&file(&place).await)
                .await
                .unwrap();
            assert_eq!(stored, Key::derive("values.sort", &value.to_string()).to_bytes(), "{value}");
        }
        app.emit(Sorted { by: json!(null) }).await.unwrap();
        let keyless: i64 = query_scalar("select count(*) from evented_deliveries where order_key is null")
            .fetch_one(&file(&place).await)
            .await
            .unwrap();
        assert_eq!(keyless, 1);
    }
}

mod one_law {
    use super::*;

    /// Whatever an event may be made of. Floats are equal by their bits: -0.0 is not 0.0.
    #[derive(Debug, Clone, Serialize, Deserialize)]
    enum Shape {
        Nothing,
        Float(f64),
        Narrow(f32),
        Wide(u128),
        Signed { number: i128, small: i8 },
        Text(String),
        Letter(char, bool),
        List(Vec<Shape>),
        Maybe(Option<Box<Shape>>),
        Twice(Option<Option<u8>>),
        Named(BTreeMap<String, Shape>),
        Numbered(HashMap<u64, Shape>),
        Unit(()),
    }

    impl PartialEq for Shape {
        fn eq(&self, other: &Self) -> bool {
            match (self, other) {
                (Self::Nothing, Self::Nothing) | (Self::Unit(()), Self::Unit(())) => true,
                (Self::Float(a), Self::Float(b)) => a.to_bits() == b.to_bits(),
                (Self::Narrow(a), Self::Narrow(b)) => a.to_bits() == b.to_bits(),
                (Self::Wide(a), Self::Wide(b)) => a == b,
                (Self::Signed { number: a, small: s }, Self::Signed { number: b, small: t }) => (a, s) == (b, t),
                (Self::Text(a), Self::Text(b)) => a == b,
                (Self::Letter(a, s), Self::Letter(b, t)) => (a, s) == (b, t),
                (Self::List(a), Self::List(b)) => a == b,
                (Self::Maybe(a), Self::Maybe(b)) => a == b,
                (Self::Twice(a), Self::Twice(b)) => a == b,
                (Self::Named(a), Self::Named(b)) => a == b,
                (Self::Numbered(a), Self::Numbered(b)) => a == b,
                _ => false,
            }
        }
    }

    impl Shape {
        /// Whether JSON can say it so that it comes back.
        fn is_storable(&self) -> bool {
            match self {
                Self::Float(number) => number.is_finite(),
                Self::Narrow(number) => number.is_finite(),
                Self::Twice(twice) => *twice != Some(None),
                Self::List(list) => list.iter().all(Self::is_storable),
                Self::Maybe(maybe) => maybe.as_ref().is_none_or(|shape| shape.is_storable()),
                Self::Named(named) => named.values().all(Self::is_storable),
                Self::Numbered(numbered) => numbered.values().all(Self::is_storable),
                _ => true,
            }
        }
    }

    /// Random shapes from a seed.
    struct Shapes(u64);

    impl Shapes {
        fn next(&mut self) -> u64 {
            // SplitMix64, of whose seeds none is bad.
            self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^ (z >> 31)
        }

        fn below(&mut self, limit: u64) -> u64 {
            self.next() % limit
        }

        fn wide(&mut self) -> u128 {
            let shift = self.below(128);
            (u128::from(self.next()) << 64 | u128::from(self.next())) >> shift
        }

        fn text(&mut self) -> String {
            let letters = ['a', '"', '\\', '\n', '\0', '\u{7f}', '\u{e9}', '\u{2028}', '\u{fffd}', '\u{1F980}'];
            let length = self.below(6);
            (0..length).map(|_| letters[usize::try_from(self.below(10)).unwrap()]).collect()
        }

        fn shape(&mut self, depth: u64) -> Shape {
            let kinds = if depth == 0 { 9 } else { 13 };
            match self.below(kinds) {
                0 => Shape::Nothing,
                // Any bits: also what is no number.
                1 => Shape::Float(f64::from_bits(self.next())),
                2 => Shape::Narrow(f32::from_bits(u32::try_from(self.next() >> 32).unwrap())),
                3 => Shape::Wide(self.wide()),
                4 => Shape::Signed {
                    number: self.wide().cast_signed(),
                    small: self.next().to_le_bytes()[0].cast_signed(),
                },
                5 => Shape::Text(self.text()),
                6 => Shape::Letter(self.text().chars().next().unwrap_or(' '), self.below(2) == 0),
                7 => Shape::Twice([None, Some(Some(7)), Some(None)][usize::try_from(self.below(3)).unwrap()]),
                8 => Shape::Unit(()),
                9 => Shape::List(self.several(depth)),
                10 => Shape::Maybe((self.below(3) > 0).then(|| Box::new(self.shape(depth - 1)))),
                11 => Shape::Named(self.several(depth).into_iter().map(|shape| (self.text(), shape)).collect()),
                _ => Shape::Numbered(self.several(depth).into_iter().map(|shape| (self.next(), shape)).collect()),
            }
        }

        fn several(&mut self, depth: u64) -> Vec<Shape> {
            (0..self.below(4)).map(|_| self.shape(depth - 1)).collect()
        }
    }

    #[event]
    #[derive(Serialize, Deserialize)]
    struct Carried {
        number: usize,
        shape: Shape,
    }

    #[handler(Carried, background)]
    async fn compare(event: Carried, sent: State<Vec<Shape>>) -> anyhow::Result<()> {
        anyhow::ensure!(sent[event.number] == event.shape, "{:?} came back as {:?}", sent[event.number], event.shape);
        Ok(())
    }

    #[tokio::test]
    async fn what_is_stored_comes_back_equal_and_what_cannot_is_refused() {
        let seed = std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), 0);
        let mut shapes = Shapes(seed);
        let shapes: Vec<_> = (0..2_000).map(|_| shapes.shape(4)).collect();
        let place = Place::new();
        let app = run!(place, shapes).await.unwrap();
        let mut refused = 0;
        let mut sound = Vec::new();
        for (number, shape) in shapes.iter().cloned().enumerate() {
            if shape.is_storable() {
                sound.push(Carried { number, shape });
            } else {
                let said = format!("seed {seed}: {shape:?}");
                let error = app.emit(Carried { number, shape }).await.expect_err(&said);
                assert_eq!(error.kind(), ErrorKind::Unstorable, "{said}");
                refused += 1;
            }
        }
        let stored = sound.len();
        app.emit_all(sound).await.unwrap_or_else(|error| panic!("seed {seed}: {error:?}"));
        app.until_idle().await.unwrap();
        let letters = app.dead_letters().await.unwrap();
        assert!(letters.is_empty(), "seed {seed}: {}", letters[0].error);
        assert_eq!(count_of(&app, "Carried/compare").await.done, u64::try_from(stored).unwrap());
        assert!(refused > 20 && stored > 1_000, "seed {seed}: {refused} {stored}");
    }
}

mod refusals {
    use super::*;

    #[derive(Serialize, Deserialize, Default)]
    struct Reading {
        at: u8,
        value: f64,
    }

    #[derive(Serialize, Deserialize)]
    struct Nest(Vec<Nest>);

    impl Nest {
        fn of(depth: usize) -> Self {
            (1..depth).fold(Self(Vec::new()), |inner, _| Self(vec![inner]))
        }
    }

    /// Serde reads what is flattened or untagged through a buffer, which knows no number of 128 bits.
    #[derive(Serialize, Deserialize)]
    struct Flat {
        id: u128,
    }

    #[derive(Serialize, Deserialize)]
    #[serde(untagged)]
    enum Loose {
        Float(f64),
        Wide(u128),
    }

    /// Two different values are one key.
    #[derive(Serialize, Deserialize, PartialEq, Eq, Hash)]
    enum Alike {
        #[serde(rename = "a")]
        One,
        #[serde(rename(serialize = "a"))]
        Two,
    }

    /// Null stands for no number, in both directions.
    #[derive(Default)]
    struct OrNan(f64);

    impl Serialize for OrNan {
        fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
            self.0.serialize(to)
        }
    }

    impl<'de> Deserialize<'de> for OrNan {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
            Ok(Self(Option::<f64>::deserialize(from)?.unwrap_or(f64::NAN)))
        }
    }

    fn present<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Option<u8>>, D::Error> {
        Option::<u8>::deserialize(from).map(Some)
    }

    #[event]
    #[derive(Serialize, Deserialize)]
    enum Odd {
        Readings {
            readings: Vec<Reading>,
        },
        Maybe(Option<f32>),
        Twice(Option<Option<u8>>),
        Unit(Option<()>),
        Nest(Nest),
        Flat {
            #[serde(flatten)]
            flat: Flat,
        },
        Loose(Loose),
        Pairs(HashMap<(u8, u8), u8>),
        Alike(HashMap<Alike, u8>),
        Skipped {
            #[serde(skip_serializing_if = "Vec::is_empty")]
            list: Vec<u8>,
        },
        Patch {
            #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "present")]
            note: Option<Option<u8>>,
        },
        OrNan(OrNan),
        Empty,
    }

    #[handler(Odd, background)]
    async fn take(_event: Odd) {}

    #[event(transactional)]
    #[derive(Serialize, Deserialize)]
    struct Priced {
        price: f64,
    }

    #[handler(Priced, outbox)]
    async fn price(_event: Priced) {}

    #[tokio::test]
    async fn an_event_that_cannot_come_back_is_refused_and_says_where_and_what_to_do() {
        let (place, seen) = (Place::new(), Seen::default());
        let pool = place.pool().await;
        let app = run!(place, seen).outbox(pool.clone()).await.unwrap();
        let readings = || vec![Reading::default(), Reading { at: 1, value: f64::INFINITY }];
        let wide = 1 << 100;
        let refused = [
            (Odd::Readings { readings: readings() }, "`Odd.Readings.readings[1].value` is not a finite number"),
            (Odd::Maybe(Some(f32::NAN)), "`Odd.Maybe` is not a finite number"),
            (Odd::Twice(Some(None)), "`Odd.Twice` is a `Some` of nothing"),
            (Odd::Unit(Some(())), "`Odd.Unit` is a `Some` of nothing"),
            (Odd::Nest(Nest::of(127)), "nested deeper than 127"),
            (Odd::Nest(Nest::of(5_000)), "nested deeper than 127"),
            (Odd::Flat { flat: Flat { id: wide } }, "`Odd` would not come back"),
            (Odd::Loose(Loose::Wide(wide)), "`Odd` would not come back"),
            (Odd::Pairs(HashMap::from([((1, 2), 3)])), "key must be a string"),
            (Odd::Alike(HashMap::from([(Alike::One, 1), (Alike::Two, 2)])), "`Odd` would not come back"),
            (Odd::Skipped { list: Vec::new() }, "missing field `list`"),
        ];
        for (event, said) in refused {
            let error = app.emit(event).await.expect_err(said);
            assert_eq!(error.kind(), ErrorKind::Unstorable);
            assert!(format!("{error:?}").contains(said), "{said}: {error:?}");
            assert!(error.to_string().contains("`Odd"), "{error}");
        }
        let error = app.emit_all([Odd::Empty, Odd::Twice(Some(None))]).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unstorable);
        let mut tx = evented::begin(&pool).await.unwrap();
        let error = app.emit_in(&mut tx, Priced { price: f64::NAN }).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unstorable);
        assert!(error.to_string().contains("`Priced.price` is not a finite number"), "{error}");
        tx.commit().await.unwrap();
        app.until_idle().await.unwrap();
        assert_eq!(count_of(&app, "Odd/take").await.done + count_of(&app, "Priced/price").await.done, 0);
    }

    #[tokio::test]
    async fn what_a_type_reads_back_by_itself_is_stored() {
        let (place, seen) = (Place::new(), Seen::default());
        let app = run!(place, seen).outbox(place.pool().await).await.unwrap();
        let sound = [
            Odd::Nest(Nest::of(126)),
            Odd::Loose(Loose::Float(f64::MIN_POSITIVE)),
            Odd::Alike(HashMap::from([(Alike::One, 1)])),
            Odd::Skipped { list: vec![1] },
            Odd::Patch { note: Some(None) },
            Odd::Patch { note: None },
            Odd::OrNan(OrNan(f64::NAN)),
        ];
        let many = u64::try_from(sound.len()).unwrap();
        app.emit_all(sound).await.unwrap();
        app.until_idle().await.unwrap();
        assert_eq!(count_of(&app, "Odd/take").await.done, many);
    }
}
