//! An argument after the event may be there under a `#[cfg]` alone, and needs nothing where it is not.

#![deny(warnings)]

use evented::prelude::*;

#[event]
struct OrderPlaced;

#[event(transactional)]
#[derive(serde::Serialize, serde::Deserialize)]
struct PaymentCaptured;

#[handler(OrderPlaced)]
fn count(_: &OrderPlaced, #[cfg(all())] kept: State<u32>, #[cfg(any())] left_out: NoSuchType, last: State<u64>) {
    assert_eq!((*kept, *last), (1, 2));
    #[cfg(any())]
    drop(left_out);
}

#[handler(OrderPlaced)]
async fn look(
    _: &OrderPlaced,
    #[cfg(any())] _left_out: State<NoSuchType>,
    #[cfg_attr(all(), allow(unused))] kept: State<u32>,
) {
}

#[handler(PaymentCaptured, outbox)]
async fn book(_: PaymentCaptured, #[cfg(all())] _tx: &mut Tx<Sqlite>, #[cfg(any())] _tx: &mut Tx<NoSuchDatabase>) {}

fn main() {
    count(&OrderPlaced, State::new(1), State::new(2));
    let runtime = runtime();
    runtime.block_on(async {
        let refused = evented::run().install(false).role(Role::Emit).await.unwrap_err().to_string();
        assert!(
            refused.contains("State<u32>") && refused.contains("State<u64>") && refused.contains("`.outbox(pool)`"),
            "{refused}"
        );
        assert!(!refused.contains("NoSuch"), "{refused}");
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}
