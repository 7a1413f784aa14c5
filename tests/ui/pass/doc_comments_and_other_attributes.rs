//! The attributes stand between others, and what they mark may be seen from anywhere.

#![deny(warnings)]

use std::sync::atomic::{AtomicU32, Ordering};

use evented::{Event, prelude::*};

/// A doc comment above.
#[doc = "Another, as an attribute."]
#[doc(alias = "Ordered")]
#[event]
/// A doc comment below, with `code`, "quotes" and a \ in it.
/** And a block. */
#[derive(Debug, Clone)]
#[derive(serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[must_use]
#[non_exhaustive]
#[rustfmt::skip]
pub struct OrderPlaced {
    /// A field's.
    #[serde(default)]
    pub(crate) order_id: u64,
}

#[repr(u8)]
#[derive(serde::Deserialize, serde::Serialize, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::all, dead_code)]
#[event(transactional)]
#[cfg_attr(all(), derive(Debug))]
pub(crate) enum PaymentCaptured {
    /// A variant's.
    Partly = 1,
    #[serde(rename = "all")]
    Fully,
}

#[event]
#[deprecated(since = "1.0.0", note = "orders are final")]
struct OrderReturned;

static COUNTED: AtomicU32 = AtomicU32::new(0);

/// A doc comment above.
#[inline]
#[allow(unused_mut, reason = "it stands here to be allowed")]
#[handler(OrderPlaced)]
#[doc(hidden)]
/// A doc comment below.
#[cold]
#[track_caller]
pub fn count(mut event: &OrderPlaced) {
    let OrderPlaced { .. } = event;
    COUNTED.fetch_add(1, Ordering::Relaxed);
}

#[handler(OrderPlaced)]
#[inline(always)]
#[must_use = "it may fail"]
#[expect(unused_variables, reason = "this one is not used")]
fn check(
    #[allow(unused)] event: &OrderPlaced,
    /* a comment */ state: State<u32>, // another
) -> Result<(), std::fmt::Error> {
    #![allow(clippy::unnecessary_wraps)]
    //! Inner ones.
    Ok(())
}

#[must_use]
#[rustfmt::skip]
#[handler(OrderPlaced, background)]
#[clippy::cognitive_complexity = "10"]
async fn mail(_: OrderPlaced) -> Result<(), std::fmt::Error> { Ok(()) }

#[tracing::instrument(skip_all)]
#[handler(OrderPlaced)]
fn traced_above(_: &OrderPlaced, _: State<u32>) {}

#[handler(OrderPlaced, background)]
#[tracing::instrument(skip_all, fields(order = event.order_id))]
async fn traced_below(event: OrderPlaced, _: Delivery) {
    std::future::ready(()).await;
}

#[deprecated]
#[handler(PaymentCaptured, background)]
fn above(_: &PaymentCaptured) {}

#[handler(PaymentCaptured, background)]
#[deprecated = "book by the outbox"]
async fn below(_: PaymentCaptured) {}

#[allow(deprecated)]
mod returns {
    use super::OrderReturned;

    #[evented::handler(OrderReturned)]
    fn of_a_deprecated_event(_: &OrderReturned) {}
}

pub mod shop {
    use evented::prelude::*;

    #[event(id = "shop.private")]
    struct Private;
    #[event(id = "shop.of_self")]
    pub(self) struct OfSelf;
    #[event(id = "shop.of_super")]
    pub(super) struct OfSuper;
    #[event(id = "shop.of_the_crate")]
    pub(crate) struct OfTheCrate(pub(in crate::shop) u32);
    #[event(id = "shop.of_all")]
    pub struct OfAll;

    #[handler(Private)]
    fn private(_: &Private) {}
    #[handler(OfSelf)]
    pub(self) fn of_self(_: &OfSelf) {}
    #[handler(OfSuper)]
    pub(super) fn of_super(_: &OfSuper) {}
    #[handler(OfTheCrate)]
    pub(crate) fn of_the_crate(event: &OfTheCrate) {
        assert_eq!(event.0, 1);
    }
    #[handler(OfAll)]
    pub fn of_all(_: &OfAll) {}

    pub(crate) mod counter {
        use super::{OfAll, OfTheCrate};

        #[evented::event(id = "shop.counter.of_shop")]
        pub(in crate::shop) struct OfShop;
        #[evented::handler(OfShop, id = "shop.counter.of_shop.count")]
        pub(in crate::shop) fn count(_: &OfShop) {}
        #[evented::handler(OfAll)]
        pub(in crate::shop::counter) async fn count_all(_: &OfAll) {}
        #[evented::handler(super::Private)]
        pub(super) fn private_of_its_parent(_: &super::Private) {}

        pub(crate) fn of_the_crate() -> OfTheCrate {
            count(&OfShop);
            OfTheCrate(1)
        }
    }
}

fn main() {
    let registered: Vec<_> = evented::catalog().into_iter().map(|registered| registered.handler).collect();
    let expected = [
        "OrderPlaced/check",
        "OrderPlaced/count",
        "OrderPlaced/mail",
        "OrderPlaced/traced_above",
        "OrderPlaced/traced_below",
        "OrderReturned/of_a_deprecated_event",
        "PaymentCaptured/above",
        "PaymentCaptured/below",
        "shop.counter.of_shop.count",
        "shop.of_all/count_all",
        "shop.of_all/of_all",
        "shop.of_self/of_self",
        "shop.of_super/of_super",
        "shop.of_the_crate/of_the_crate",
        "shop.private/private",
        "shop.private/private_of_its_parent",
    ];
    assert_eq!(registered, expected);

    // What the others say is still said.
    let order = OrderPlaced { order_id: 1 };
    assert_eq!(OrderPlaced::ENCODE.expect("Serialize")(&order).expect("JSON"), br#"{"orderId":1}"#);
    assert_eq!(PaymentCaptured::ENCODE.expect("Serialize")(&PaymentCaptured::Fully).expect("JSON"), br#""all""#);
    assert_eq!(PaymentCaptured::Partly as u8, 1);
    count(&order);
    assert_eq!(COUNTED.load(Ordering::Relaxed), 1);
    check(&order, State::new(1)).expect("nothing failed");
    shop::of_all(&shop::OfAll);
    shop::of_super(&shop::OfSuper);
    shop::of_the_crate(&shop::counter::of_the_crate());
}
