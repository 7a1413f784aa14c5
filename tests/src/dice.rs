//! Chance from a seed.

use std::time::Duration;

/// Says the same again for the same seed.
pub struct Dice(u64);

impl Dice {
    /// Those of one thing among many of a run.
    pub fn new(seed: u64, of: u64) -> Self {
        let mut dice = Self(seed);
        let mixed = dice.next();
        Self(mixed ^ of)
    }

    /// `SplitMix64`: <https://prng.di.unimi.it/splitmix64.c>.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in so many times.
    pub fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A time up to `most`, in whole microseconds.
    pub fn time(&mut self, most: Duration) -> Duration {
        let micros = u64::try_from(most.as_micros()).expect("nobody waits for so long");
        Duration::from_micros(self.below(micros + 1))
    }
}
