//! Calls of the boundary, as they are drawn from a seed. What they name, as the last lease but two, is found when they are made: so each
//! sequence of them can be made, also where some are left out.

use evented_tests::dice::Dice;

/// The handlers: plain, unique by a key, ordered by a key; and one that nobody records.
pub const HANDLERS: [&str; 4] = ["mail", "stock", "book", "ghost"];
/// The sessions by how they live: two live on, one is known to nobody, three die.
pub const SESSIONS: [Life; 6] = [Life::Lives, Life::Lives, Life::Unknown, Life::Dies, Life::Dies, Life::Dies];
/// Events, each of which every handler may get.
pub const EVENTS: u64 = 9;

/// How a session lives. Its leases are as long as it lives after a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Life {
    /// Renewed for an hour.
    Lives,
    /// Never renewed.
    Unknown,
    /// Renewed for a millisecond.
    Dies,
}

/// One call.
#[derive(Debug, Clone)]
pub enum Step {
    Push { new: Vec<New>, once: bool, end: Option<End>, is_old: bool, finished: Vec<(usize, u64)> },
    Exchange { settle: Vec<(usize, Way)>, claim: Option<Asked> },
    Suspects { asked: Asked, exposed: usize, lived_leases: Option<u32> },
    Extend { session: usize, leases: Vec<usize> },
    Leave { session: usize },
    Pause { queue: usize, paused: bool },
    Record { handler: usize, variant: u64, is_old: bool, began_before: bool },
    Retire { handler: usize, is_old: bool },
    Requeue { letters: Of, before: bool },
    Discard { letters: Of, before: bool },
    Sweep { all_old: bool, count: u64 },
}

/// A delivery to push.
#[derive(Debug, Clone)]
pub struct New {
    pub handler: usize,
    pub event: u64,
    pub version: u32,
    pub later: bool,
    /// How long it stands for its unique key: a day, or a millisecond.
    pub stands_long: bool,
}

/// When a push is over.
#[derive(Debug, Clone, Copy)]
pub enum End {
    Past,
    Future,
}

/// How a delivery is settled.
#[derive(Debug, Clone, Copy)]
pub enum Way {
    Completed,
    RetryNow,
    RetryLater,
    Dead,
    Released,
}

/// What is claimed.
#[derive(Debug, Clone)]
pub struct Asked {
    pub session: usize,
    pub short: bool,
    pub take: bool,
    pub queues: Vec<usize>,
    /// How many of a queue.
    pub wanted: usize,
    /// For each handler the version that it reads, its priority and how many of it.
    pub handlers: [(u32, u8, usize); 3],
}

/// Which letters: of an event's delivery, or all of a handler.
#[derive(Debug, Clone)]
pub enum Of {
    One(usize, u64),
    Handler(usize),
}

pub fn steps(seed: u64, count: usize) -> Vec<Step> {
    let mut dice = Dice::new(seed, 0);
    (0..count).map(|_| step(&mut dice)).collect()
}

fn step(dice: &mut Dice) -> Step {
    match dice.below(100) {
        0..25 => push(dice),
        25..62 => {
            let count = below(dice, 4);
            let settle = (0..count).map(|_| (below(dice, 6), way(dice))).collect();
            Step::Exchange { settle, claim: (!dice.one_in(6)).then(|| asked(dice)) }
        }
        62..74 => {
            let lived_leases = [None, Some(0), Some(1), Some(2), Some(1_000), Some(1_000)][below(dice, 6)];
            Step::Suspects { asked: asked(dice), exposed: below(dice, 2) * 100, lived_leases }
        }
        74..83 => {
            let count = below(dice, 4);
            Step::Extend { session: session(dice), leases: (0..count).map(|_| below(dice, 4)).collect() }
        }
        83..85 => Step::Leave { session: session(dice) },
        85..88 => Step::Pause { queue: below(dice, 2), paused: dice.one_in(3) },
        88..91 => Step::Record {
            handler: below(dice, 3),
            variant: dice.below(3),
            is_old: dice.one_in(6),
            began_before: dice.one_in(4),
        },
        91..92 => Step::Retire { handler: below(dice, 3), is_old: dice.one_in(4) },
        92..96 => Step::Requeue { letters: of(dice), before: dice.one_in(6) },
        96..98 => Step::Discard { letters: of(dice), before: dice.one_in(6) },
        _ => Step::Sweep { all_old: dice.one_in(3), count: dice.below(4) * dice.below(20) },
    }
}

fn push(dice: &mut Dice) -> Step {
    let count = below(dice, 5);
    let mut new: Vec<New> = Vec::new();
    for _ in 0..count {
        // Most pushes are of recorded handlers alone.
        let handler = if dice.one_in(60) { 3 } else { below(dice, 3) };
        let event = dice.below(EVENTS);
        if !new.iter().any(|new| (new.handler, new.event) == (handler, event)) {
            let version = if dice.one_in(6) { 2 } else { 1 };
            new.push(New { handler, event, version, later: dice.one_in(8), stands_long: !dice.one_in(3) });
        }
    }
    // It is not said which of two handlers' deliveries of one push is the older: those of a key come first, as stores may have it.
    new.sort_by_key(|new| (new.handler != 2, new.handler));
    let end = [None, None, None, Some(End::Future), Some(End::Past)][below(dice, 5)];
    let finished = if dice.one_in(5) { vec![(below(dice, 3), dice.below(EVENTS))] } else { Vec::new() };
    Step::Push { new, once: dice.one_in(3), end, is_old: dice.one_in(12), finished }
}

fn asked(dice: &mut Dice) -> Asked {
    let queues = [vec![0], vec![1], vec![0, 1], vec![0, 1], vec![1, 0]];
    let wanted = [0, 1, 2, 3, 100, 100, 100];
    let mut handler = || {
        let (version, priority) = (if dice.one_in(3) { 1 } else { 2 }, dice.below(3));
        (version, u8::try_from(priority).expect("it is small"), wanted[below(dice, wanted.len())])
    };
    let handlers = [handler(), handler(), handler()];
    Asked {
        session: session(dice),
        short: dice.one_in(3),
        take: !dice.one_in(4),
        queues: queues[below(dice, queues.len())].clone(),
        wanted: wanted[below(dice, wanted.len())],
        handlers,
    }
}

fn way(dice: &mut Dice) -> Way {
    [Way::Completed, Way::RetryNow, Way::RetryNow, Way::RetryLater, Way::Dead, Way::Released, Way::Released]
        [below(dice, 7)]
}

fn of(dice: &mut Dice) -> Of {
    if dice.one_in(2) { Of::One(below(dice, 3), dice.below(EVENTS)) } else { Of::Handler(below(dice, 4)) }
}

fn session(dice: &mut Dice) -> usize {
    below(dice, SESSIONS.len())
}

fn below(dice: &mut Dice, end: usize) -> usize {
    usize::try_from(dice.below(end as u64)).expect("it is below a usize")
}
