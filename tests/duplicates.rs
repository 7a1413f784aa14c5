//! Two crates that give an event and a handler the same id: `run()` refuses them and names both places.
//!
//! A binary of its own, since the other tests' `run()` would be refused too.

use evented::prelude::*;

evented::link!(evented_tests);

/// The other one is in this package's library, which is another crate.
#[event]
struct Twin;

#[handler(Twin)]
fn ring(_event: &Twin) {}

#[tokio::test]
async fn duplicates_across_crates_are_refused_with_both_places() {
    let error = evented::run().install(false).await.unwrap_err().to_string();
    for what in ["two events are named `Twin`", "two handlers are named `Twin/ring`"] {
        let problem = error.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what}: {error}"));
        assert!(problem.contains("tests/duplicates.rs:") && problem.contains("tests/src/twin.rs:"), "{problem}");
        assert!(problem.ends_with("give one of them an `id`"), "{problem}");
    }
}
