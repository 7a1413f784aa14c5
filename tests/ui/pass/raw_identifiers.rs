//! Names that are keywords: the ids have them without `r#`.

#![deny(warnings)]
#![allow(non_camel_case_types)]

use evented::{Event, Route, prelude::*};

#[event]
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
struct r#type {
    r#move: u32,
}

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
enum r#enum {
    r#In,
    r#Out { r#ref: u32 },
}

mod r#mod {
    /// Its own version is made of `r#struct`.
    #[evented::event(version = 2, from(r#struct))]
    pub struct r#impl(pub u32);

    #[derive(serde::Deserialize)]
    pub struct r#struct(u32);

    impl From<r#struct> for r#impl {
        fn from(earlier: r#struct) -> Self {
            Self(earlier.0)
        }
    }

    pub struct r#static<T>(pub T);
}

#[handler(r#type)]
fn r#match(r#struct: &r#type, r#in: State<u32>, r#as: State<r#mod::r#static<u32>>) {
    assert_eq!(r#struct.r#move + *r#in + r#as.0, 6);
}

#[handler(r#type, in_process)]
fn r#loop(r#type { r#move }: r#type) {
    assert_eq!(r#move, 1);
}

#[handler(r#type, background(queue = "move"), aliases("type/while"))]
async fn r#async(r#enum: r#type, mut r#fn: Delivery) -> Result<(), r#mod::r#static<String>>
where
    r#type: Clone,
{
    r#fn = r#fn.clone();
    if r#fn.attempt() == 0 { Err(r#mod::r#static(format!("{:?}", r#enum))) } else { Ok(()) }
}

impl From<r#mod::r#static<String>> for Box<dyn std::error::Error + Send + Sync> {
    fn from(error: r#mod::r#static<String>) -> Self {
        error.0.into()
    }
}

#[event]
#[derive(serde::Serialize, serde::Deserialize)]
struct Keyed {
    r#where: u32,
    r#gen: Vec<u32>,
    union: u32,
}

#[handler(Keyed, background(unique(key = "where", within = "1h"), ordered_by = "r#where"))]
async fn r#unsafe(_: Keyed) {}

#[handler(Keyed, background(unique(key = "gen", within = "1h"), ordered_by = "union"))]
async fn r#false(_: Keyed) {}

#[handler(self::r#enum, outbox)]
async fn r#yield<'r#for>(r#dyn: &'r#for r#enum, r#mut: &'r#for mut Tx<Sqlite>) {
    let _ = (r#dyn, r#mut);
    std::future::ready(()).await;
}

#[handler(r#enum, in_process(in_transaction))]
fn r#use(event: &r#enum) -> Result<(), String> {
    match event {
        r#enum::r#In => Ok(()),
        r#enum::r#Out { r#ref } => Err(r#ref.to_string()),
    }
}

#[handler(r#mod::r#impl)]
pub(crate) fn r#gen(r#mod::r#impl(number): &r#mod::r#impl) {
    assert_eq!(*number, 4);
}

fn main() {
    assert_eq!((r#type::ID, r#enum::ID, r#mod::r#impl::ID), ("type", "enum", "impl"));
    assert_eq!(r#type::ENCODE.expect("Serialize")(&r#type { r#move: 1 }).expect("JSON"), br#"{"move":1}"#);
    let earlier = r#mod::r#impl::EARLIER[0](b"4").expect("a number");

    let registered = evented::catalog();
    let keys = registered.iter().filter_map(|handler| handler.terms).filter_map(|terms| Some((terms.unique?.key, terms.ordered_by?)));
    assert_eq!(keys.collect::<Vec<_>>(), [("gen", "union"), ("where", "where")]);
    let registered: Vec<_> = registered.iter().map(|handler| (&*handler.handler, handler.route)).collect();
    let expected = [
        ("Keyed/false", Route::Background),
        ("Keyed/unsafe", Route::Background),
        ("enum/use", Route::InProcess),
        ("enum/yield", Route::Outbox),
        ("impl/gen", Route::InProcess),
        ("type/async", Route::Background),
        ("type/loop", Route::InProcess),
        ("type/match", Route::InProcess),
    ];
    assert_eq!(registered, expected);

    r#match(&r#type { r#move: 1 }, State::new(2), State::new(r#mod::r#static(3)));
    r#loop(r#type { r#move: 1 });
    assert_eq!(r#use(&r#enum::r#Out { r#ref: 5 }), Err("5".to_owned()));
    assert_eq!(r#use(&r#enum::r#In), Ok(()));
    r#gen(&earlier);
    drop((r#async(r#type { r#move: 1 }, Delivery::test()), r#yield, r#unsafe, r#false));
}
