//! Different ids are never taken for one, however they are spelled as identifiers.

#[evented::event(id = "a.b")]
struct Dot;

#[evented::event(id = "a_dot_b")]
struct Word;

#[evented::event(id = "a-b", aliases("a_b", "a__b", "a._b", "a_.b", "a--b", "ab", "AB", "_", "."))]
struct Others;

#[evented::handler(Dot, id = "a.b", aliases("a.b/c", "a_b/c", "a_slash_b.c"))]
fn same_id_as_an_event(_: &Dot) {}

fn main() {}
