//! Promises as data: what each shows, and how it is checked.

use std::{fmt, pin::Pin};

use super::Site;

/// One test of the suite.
pub struct Promise<S> {
    /// The sentence that is checked, as the test is named.
    pub name: &'static str,
    /// The part of the boundary that promises it: `push`, `exchange`, `extend`.
    pub about: &'static str,
    /// What a user has of it.
    pub guarantee: Guarantee,
    /// Checks it at a new site; panics where it is broken.
    pub check: Check<S>,
}

/// The check of a promise. Its future is not `Send`: it is polled on one thread.
pub type Check<S> = for<'s> fn(&'s S) -> Pin<Box<dyn Future<Output = ()> + 's>>;

impl<S: Site> Promise<S> {
    /// Checks the promise at a new site, on a tokio runtime of its own with two workers. Answers whether it was checked:
    /// `false` where the site could not be made.
    ///
    /// # Panics
    /// When the promise is broken.
    #[must_use = "a site that cannot be made checks nothing"]
    pub fn test(&self) -> bool {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.expect("a test may start threads").block_on(async {
            let Some(site) = S::new().await else { return false };
            // Only a failure shows it: a test's output is kept back.
            println!("{}, {self}", S::NAME);
            (self.check)(&site).await;
            true
        })
    }
}

impl<S> fmt::Display for Promise<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.about, self.name.replace('_', " "), self.guarantee)
    }
}

impl<S> fmt::Debug for Promise<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, about, guarantee, check: _ } = self;
        f.debug_struct("Promise")
            .field("name", name)
            .field("about", about)
            .field("guarantee", guarantee)
            .finish_non_exhaustive()
    }
}

/// The enum, its order and its texts, from one list.
macro_rules! guarantees {
    ($($name:ident: $text:literal)+) => {
        /// What a user relies on. Each promise of the suite shows a part of one.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum Guarantee {
            $(#[doc = concat!("\"", $text, "\"")] $name,)+
        }

        impl Guarantee {
            /// All of them, in the order in which they are shown.
            pub const ALL: &'static [Self] = &[$(Self::$name),+];

            /// The guarantee as a sentence, for users.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$name => $text,)+
                }
            }
        }
    };
}

guarantees! {
    AllOrNothing: "an emit is stored for all of its handlers, or for none"
    Once: "an emit that is repeated with its id is stored once"
    EveryHandler: "handlers of other processes get their events, whether those run or not"
    Unknown: "what a worker does not know waits for one that does, and costs no attempt"
    OneWorker: "a delivery is one worker's at a time"
    RunsAgain: "a delivery runs again when its worker has died, and that costs no attempt"
    Suspects: "what kills its worker is found out and set aside, and what ran beside it goes on"
    Late: "a worker that has lost a delivery changes nothing"
    Retry: "a failed attempt is tried again, after its delay"
    DeadLetters: "a dead letter is kept with its error until a person decides, or its retention ends"
    Order: "deliveries of one key run one after the other, across retries, delays and crashes"
    Unique: "of the deliveries of one key, one is stored within the key's time"
    Delay: "a delivery does not run before its time, and is looked for when that comes"
    Woken: "a worker that waits is woken by what another process stores"
    Priority: "what has a higher priority is taken first"
    Fair: "a backlog of one handler holds up no other"
    Pause: "a paused queue is left alone, by every process"
    Told: "what waits, what runs and what has ended is told"
    Outbox: "a transactional event is delivered if, and only if, its transaction commits"
    OneCommit: "what a transactional handler writes and the end of its delivery are one commit"
}

impl fmt::Display for Guarantee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}
