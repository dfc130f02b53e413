//! How many seeds there are of each kind, counted once, so that nobody goes through all of them to ask.
//!
//! Knows the columns, and nothing of what follows from a count.

use super::Lifecycle;
use super::state::Columns;
use std::collections::BTreeSet;

/// Seeds by state.
type Counts = [u32; Lifecycle::ALL.len()];

/// How many seeds are in each state, with each blueprint.
pub(super) struct Census {
    all: Counts,
    by_blueprint: Vec<Counts>,
}

impl Census {
    /// Of these seeds, which have so many blueprints.
    pub fn of(columns: &Columns, blueprints: usize) -> Census {
        let mut census = Census { all: Counts::default(), by_blueprint: vec![Counts::default(); blueprints] };
        for (lifecycle, blueprint, seeds) in columns.kinds() {
            census.count(lifecycle, blueprint, |count| count.wrapping_add(seeds));
        }
        census
    }

    /// One more of these.
    pub fn add(&mut self, lifecycle: Lifecycle, blueprint: i32) {
        self.count(lifecycle, blueprint, |count| count.wrapping_add(1));
    }

    /// One less of these.
    pub fn remove(&mut self, lifecycle: Lifecycle, blueprint: i32) {
        self.count(lifecycle, blueprint, |count| count.wrapping_sub(1));
    }

    /// The seeds in certain states.
    pub fn seeds(&self, wanted: impl Fn(Lifecycle) -> bool) -> u32 {
        total(&self.all, wanted)
    }

    /// Those of them with a blueprint.
    pub fn seeds_with(&self, blueprint: u32, wanted: impl Fn(Lifecycle) -> bool) -> u32 {
        self.by_blueprint.get(blueprint as usize).map_or(0, |counts| total(counts, wanted))
    }

    /// The blueprints of seeds in certain states.
    pub fn blueprints(&self, wanted: impl Fn(Lifecycle) -> bool) -> BTreeSet<u32> {
        let all = (0..).zip(&self.by_blueprint);
        all.filter(|(_, counts)| total(counts, &wanted) > 0).map(|(blueprint, _)| blueprint).collect()
    }

    #[inline]
    fn count(&mut self, lifecycle: Lifecycle, blueprint: i32, change: impl Fn(u32) -> u32) {
        let place = lifecycle as usize;
        self.all[place] = change(self.all[place]);
        // Damage that the epoch's end has yet to repair may name any blueprint.
        if let Some(counts) = usize::try_from(blueprint).ok().and_then(|index| self.by_blueprint.get_mut(index)) {
            counts[place] = change(counts[place]);
        }
    }
}

#[inline]
fn total(counts: &Counts, wanted: impl Fn(Lifecycle) -> bool) -> u32 {
    Lifecycle::ALL.into_iter().zip(counts).map(|(state, seeds)| if wanted(state) { *seeds } else { 0 }).sum()
}
