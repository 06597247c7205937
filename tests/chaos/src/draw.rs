//! Chance: everything a life is made of is drawn from here, so that a seed and a number name it for ever.

/// A stream of numbers (splitmix64, <https://prng.di.unimi.it/splitmix64.c>).
#[derive(Debug)]
pub struct Draw(u64);

impl Draw {
    /// The stream of one life.
    pub fn new(seed: u64, life: u64, kind: &str) -> Self {
        let salt = kind.bytes().fold(0_u64, |salt, byte| salt.wrapping_mul(31).wrapping_add(byte.into()));
        let mut draw = Self(seed);
        draw.0 = draw.next() ^ life;
        draw.0 = draw.next() ^ salt;
        draw
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.next() % (high - low + 1)
    }

    /// True in so many of a hundred cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.between(1, 100) <= percent
    }

    /// One of `items`; one that is there twice comes twice as often.
    pub fn pick<T: Clone>(&mut self, items: &[T]) -> T {
        let last = items.len() as u64 - 1;
        let index = usize::try_from(self.between(0, last)).unwrap_or_default();
        items[index].clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_number_name_a_life_for_ever() {
        let row = |seed, life, kind| -> Vec<u64> {
            let mut draw = Draw::new(seed, life, kind);
            (0..8).map(|_| draw.between(0, 1_000_000)).collect()
        };
        assert_eq!(row(1, 2, "kill9"), row(1, 2, "kill9"));
        assert_ne!(row(1, 2, "kill9"), row(1, 3, "kill9"));
        assert_ne!(row(1, 2, "kill9"), row(2, 2, "kill9"));
        assert_ne!(row(1, 2, "kill9"), row(1, 2, "stops"));
    }

    #[test]
    fn both_ends_of_a_range_come_up() {
        let mut draw = Draw::new(7, 0, "");
        let drawn: Vec<u64> = (0..200).map(|_| draw.between(3, 5)).collect();
        assert!((3..=5).all(|number| drawn.contains(&number)) && drawn.iter().all(|number| (3..=5).contains(number)));
    }
}
