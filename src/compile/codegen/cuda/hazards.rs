//! When the threads of a block must wait for each other: before a step touches shared memory that another thread may
//! still be reading or has written since the last wait.

use std::ops::Range;

/// One step's use of one run of shared memory.
#[derive(Clone, Debug)]
pub(super) struct Access {
    pub range: Range<usize>,
    pub writes: bool,
    /// The value, if every thread touches only the elements of it that are its own by the usual sharing.
    pub own: Option<u32>,
}

/// The accesses since the last wait.
#[derive(Default)]
pub(super) struct Hazards(Vec<Access>);

impl Hazards {
    /// Takes a step's accesses and says whether the block must wait before them.
    pub(super) fn must_wait(&mut self, accesses: Vec<Access>) -> bool {
        let conflict = |earlier: &Access, later: &Access| {
            let overlap = earlier.range.start < later.range.end && later.range.start < earlier.range.end;
            let own = earlier.own.is_some() && earlier.own == later.own;
            overlap && (earlier.writes || later.writes) && !own
        };
        let wait = self.0.iter().any(|earlier| accesses.iter().any(|later| conflict(earlier, later)));
        if wait {
            self.0.clear();
        }
        self.0.extend(accesses);
        wait
    }

    /// All threads have waited.
    pub(super) fn waited(&mut self) {
        self.0.clear();
    }
}
