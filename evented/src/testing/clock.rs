//! The clock of a model store, which a test may move.

use std::{fmt, sync::Arc, time::Duration};

use tokio::sync::watch;

use crate::{store::StoreTime, time};

/// What time a [`Model`](super::Model) has. A clone is the same clock.
#[derive(Clone)]
pub struct Clock(Kind);

#[derive(Clone)]
enum Kind {
    Real,
    ByHand(Arc<watch::Sender<StoreTime>>),
}

/// Where a clock that is moved by hand begins: in November 2023.
const BEGINNING: StoreTime = StoreTime(1_700_000_000_000);

impl Clock {
    /// The clock of this host.
    #[must_use]
    pub fn real() -> Self {
        Self(Kind::Real)
    }

    /// A clock that stands still until it is [moved](Self::advance).
    #[must_use]
    pub fn by_hand() -> Self {
        Self(Kind::ByHand(Arc::new(watch::Sender::new(BEGINNING))))
    }

    /// Moves the clock on. Waits end that are over by then.
    ///
    /// # Panics
    /// Where it is the clock of this host.
    pub fn advance(&self, by: Duration) {
        let Kind::ByHand(now) = &self.0 else {
            panic!("the clock of the host cannot be moved; take `Clock::by_hand()`")
        };
        now.send_modify(|now| *now = now.after(by));
    }

    /// What it says.
    #[must_use]
    pub fn now(&self) -> StoreTime {
        match &self.0 {
            Kind::Real => StoreTime(time::unix_ms()),
            Kind::ByHand(now) => *now.borrow(),
        }
    }

    /// Waits until `most` has passed by this clock.
    pub(super) async fn pass(&self, most: Duration) {
        match &self.0 {
            Kind::Real => time::sleep(most).await,
            Kind::ByHand(now) => {
                let until = self.now().after(most);
                let _moved = now.subscribe().wait_for(|now| *now >= until).await.is_ok();
            }
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::Real => "real",
            Kind::ByHand(_) => "by hand",
        };
        write!(f, "Clock({kind}, {})", self.now().0)
    }
}
