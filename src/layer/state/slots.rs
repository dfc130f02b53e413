//! Who has which slot of a bank: of the seeds that have a blueprint and no slot yet, each gets the first that nobody has.
//!
//! What is free follows from the columns, so nothing is kept of slots that could come to contradict them. Seeds and slots are
//! dealt with by runs of neighbours, which mostly are alike, so a slot for every seed costs next to nothing.

use super::columns::{BLOCK, BLUEPRINT, Columns, SLOT, is_uniform_in, looked_at};
use crate::{Result, error};
use std::ops::Range;

/// Neighbours that were given slots, which are neighbours too.
#[derive(Clone, Debug, PartialEq)]
pub struct Placed {
    /// The seeds.
    pub seeds: Range<u32>,
    /// The slot of the first of them.
    pub slot: u32,
}

/// The free slots of a bank: a bit for each.
pub struct FreeSlots {
    words: Vec<u64>,
    slots: usize,
}

impl FreeSlots {
    /// So many slots, all free.
    pub fn new(slots: usize) -> FreeSlots {
        let mut words = vec![u64::MAX; slots / 64];
        words.extend((!slots.is_multiple_of(64)).then_some((1 << (slots % 64)) - 1));
        FreeSlots { words, slots }
    }

    /// Takes this very slot; whether it was free.
    pub fn take(&mut self, slot: u32) -> bool {
        let Some(word) = self.words.get_mut(slot as usize / 64) else { return false };
        let bit = 1 << (slot % 64);
        let free = *word & bit != 0;
        *word &= !bit;
        free
    }

    /// The free slots in order, as runs of neighbours.
    fn runs(&self) -> impl Iterator<Item = Range<u32>> + '_ {
        let mut next = 0;
        std::iter::from_fn(move || {
            let first = self.find(next, 0)?;
            next = self.find(first, u64::MAX).unwrap_or(self.slots);
            Some(first as u32..next as u32)
        })
    }

    /// The first free slot that is not before this one, or of flipped bits the first that is taken.
    fn find(&self, from: usize, flipped: u64) -> Option<usize> {
        let mut place = from / 64;
        let mut word = (self.words.get(place)? ^ flipped) & u64::MAX << (from % 64);
        while word == 0 {
            place += 1;
            word = self.words.get(place)? ^ flipped;
        }
        Some(place * 64 + word.trailing_zeros() as usize)
    }
}

impl Columns {
    /// Gives a slot to each seed that has a blueprint and none, in order. Of each bank, of which the capacities are given, what
    /// was given.
    ///
    /// # Errors
    ///
    /// `CapacityExceeded` naming the bank.
    pub fn place(&mut self, capacities: &[usize]) -> Result<Vec<Vec<Placed>>> {
        let unplaced = self.unplaced(capacities.len());
        let mut free: Vec<_> = unplaced
            .iter()
            .zip(capacities)
            .map(|(seeds, slots)| (!seeds.is_empty()).then(|| FreeSlots::new(*slots)))
            .collect();
        if free.iter().any(Option::is_some) {
            for (blueprint, slot) in self.blueprints().zip(self.slots()) {
                let bank = usize::try_from(blueprint).ok().and_then(|blueprint| free.get_mut(blueprint)?.as_mut());
                if let (Some(bank), Ok(slot)) = (bank, u32::try_from(slot)) {
                    bank.take(slot);
                }
            }
        }
        let mut placed = vec![Vec::new(); capacities.len()];
        for (bank, (seeds, free)) in unplaced.into_iter().zip(&free).enumerate() {
            let Some(free) = free else { continue };
            let (mut runs, mut slots) = (free.runs(), 0..0);
            let column = self.column_mut(SLOT).as_chunks_mut().0;
            for mut seeds in seeds {
                while !seeds.is_empty() {
                    if slots.is_empty() {
                        let capacity = capacities[bank];
                        slots = runs
                            .next()
                            .ok_or_else(|| error!(CapacityExceeded, "all {capacity} slots of bank {bank} are taken"))?;
                    }
                    let count = seeds.len().min(slots.len());
                    let given = Placed { seeds: seeds.start..seeds.start + count as u32, slot: slots.start };
                    for (place, slot) in column[given.seeds.start as usize..][..count].iter_mut().zip(slots.start..) {
                        *place = slot.to_le_bytes();
                    }
                    (seeds.start, slots.start) = (given.seeds.end, slots.start + count as u32);
                    placed[bank].push(given);
                }
            }
        }
        Ok(placed)
    }

    /// By bank, the seeds that have a blueprint and no slot, as runs of neighbours.
    fn unplaced(&self, banks: usize) -> Vec<Vec<Range<u32>>> {
        let mut unplaced = vec![Vec::<Range<u32>>::new(); banks];
        let [blueprints, slots] = [BLUEPRINT, SLOT].map(|column| self.column(column).as_chunks().0.chunks(BLOCK));
        for (first, (blueprints, slots)) in (0..).step_by(BLOCK).zip(blueprints.zip(slots)) {
            let (looked_at, seeds) = looked_at(is_uniform_in(blueprints) && is_uniform_in(slots), slots.len());
            for (seed, (blueprint, slot)) in (first..).zip(blueprints.iter().zip(slots)).take(looked_at) {
                let bank = usize::try_from(i32::from_le_bytes(*blueprint)).ok();
                let Some(runs) = bank.and_then(|bank| unplaced.get_mut(bank)) else { continue };
                if i32::from_le_bytes(*slot) >= 0 {
                    continue;
                }
                match runs.last_mut().filter(|run| run.end == seed) {
                    Some(run) => run.end += seeds,
                    None => runs.push(seed..seed + seeds),
                }
            }
        }
        unplaced
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::state::SeedState;
    use std::collections::BTreeSet;

    #[test]
    fn each_seed_without_a_slot_gets_the_first_that_nobody_has_whoever_gave_slots_back() {
        const CAPACITIES: [usize; 2] = [200, 67];
        for seeds in [1, 63, 64, 65, 267] {
            let mut columns = Columns::new(seeds);
            let mut free = CAPACITIES.map(|slots| (0..slots as i32).collect::<BTreeSet<i32>>());
            let mut state = 1_u32;
            for _ in 0..300 {
                let mut random = |below: u32| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 8) % below
                };
                // Neighbours of any number change alike: whole blocks and single seeds.
                let (first, count) = (random(seeds), random(seeds) + 1);
                let wanted = random(3) as i32 - 1;
                let room = usize::try_from(wanted).map_or(usize::MAX, |bank| free[bank].len());
                for seed in (first..seeds.min(first + count)).take(room) {
                    let before = columns.get(seed);
                    if let Ok(bank) = usize::try_from(before.blueprint) {
                        free[bank].insert(before.slot);
                    }
                    columns.set(seed, SeedState { blueprint: wanted, ..SeedState::dormant(0) });
                }
                let mut expected = columns.clone();
                for seed in 0..seeds {
                    let state = columns.get(seed);
                    if let (Ok(bank), -1) = (usize::try_from(state.blueprint), state.slot) {
                        expected.set(seed, SeedState { slot: free[bank].pop_first().unwrap(), ..state });
                    }
                }
                let before = columns.clone();
                let placed = columns.place(&CAPACITIES).unwrap();
                assert_eq!(columns, expected, "{seeds} seeds");
                for (bank, placed) in (0..).zip(placed) {
                    let told = placed.into_iter().flat_map(|run| run.seeds.zip(run.slot as i32..));
                    let given =
                        (0..seeds).filter(|seed| before.get(*seed).slot < 0 && columns.get(*seed).blueprint == bank);
                    assert_eq!(
                        told.collect::<Vec<_>>(),
                        given.map(|seed| (seed, columns.get(seed).slot)).collect::<Vec<_>>()
                    );
                }
            }
        }
    }

    #[test]
    fn one_seed_more_than_slots_is_an_error_that_names_the_bank() {
        let mut columns = Columns::new(65);
        (0..65).for_each(|seed| columns.set(seed, SeedState { blueprint: 1, ..SeedState::dormant(0) }));
        let error = columns.clone().place(&[65, 64]).unwrap_err();
        assert!(error.message().contains("64 slots of bank 1"), "{error}");
        columns.place(&[0, 65]).unwrap();
    }

    #[test]
    fn a_slot_is_taken_once_and_none_is_beyond_the_last() {
        for slots in [1, 63, 64, 65] {
            let mut free = FreeSlots::new(slots as usize);
            assert!(free.take(slots - 1) && !free.take(slots - 1), "{slots}");
            assert!(!free.take(slots) && !free.take(u32::MAX), "there is no such slot");
        }
    }
}
