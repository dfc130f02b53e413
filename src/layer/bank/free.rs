//! Which slots of a bank are free: a bit for each. Taking the first one and giving one back cost next to nothing, however many
//! there are.

/// The free slots.
#[derive(Clone)]
pub(super) struct FreeSlots {
    words: Vec<u64>,
    /// No word before this one has a free slot.
    first: usize,
}

impl FreeSlots {
    /// So many slots, all free.
    pub fn new(slots: usize) -> FreeSlots {
        let mut words = vec![u64::MAX; slots / 64];
        words.extend((!slots.is_multiple_of(64)).then_some((1 << (slots % 64)) - 1));
        FreeSlots { words, first: 0 }
    }

    /// Takes the first free slot, if there is one.
    pub fn take_first(&mut self) -> Option<u32> {
        self.first += self.words[self.first..].iter().position(|word| *word != 0)?;
        let word = &mut self.words[self.first];
        let bit = word.trailing_zeros();
        *word &= *word - 1;
        Some(self.first as u32 * 64 + bit)
    }

    /// Takes this very slot; whether it was free.
    pub fn take(&mut self, slot: u32) -> bool {
        let Some(word) = self.words.get_mut(slot as usize / 64) else { return false };
        let bit = 1 << (slot % 64);
        let free = *word & bit != 0;
        *word &= !bit;
        free
    }

    /// Gives a slot back.
    pub fn release(&mut self, slot: u32) {
        let place = slot as usize / 64;
        self.words[place] |= 1 << (slot % 64);
        self.first = self.first.min(place);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn free_slots_are_those_of_a_set_whatever_is_taken_and_given_back() {
        for slots in [1, 63, 64, 65, 200] {
            let (mut free, mut set) = (FreeSlots::new(slots as usize), (0..slots).collect::<BTreeSet<u32>>());
            let mut state = 1_u32;
            for _ in 0..2000 {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let slot = (state >> 8) % slots;
                match state >> 30 {
                    0 => assert_eq!(free.take(slot), set.remove(&slot)),
                    1 => assert_eq!(free.take_first(), set.pop_first()),
                    _ if set.contains(&slot) => assert_eq!(free.take_first(), set.pop_first()),
                    _ => {
                        free.release(slot);
                        set.insert(slot);
                    }
                }
            }
            assert!(!free.take(slots) && !free.take(u32::MAX), "there is no such slot");
            while let Some(slot) = set.pop_first() {
                assert_eq!(free.take_first(), Some(slot));
            }
            assert_eq!(free.take_first(), None);
        }
    }

    #[test]
    fn what_was_taken_and_given_back_is_as_if_it_had_never_been_taken() {
        let mut free = FreeSlots::new(130);
        let taken: Vec<_> = (0..100).filter_map(|_| free.take_first()).collect();
        taken.into_iter().rev().for_each(|slot| free.release(slot));
        assert_eq!(free.words, FreeSlots::new(130).words);
        assert_eq!(free.take_first(), Some(0));
    }
}
