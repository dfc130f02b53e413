//! How fast the compiler seems to be to the thread that asks, in tests: so that they can let it finish when they like.

use std::cell::Cell;

/// What a ticket says when it is looked at.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// What is so.
    Real,
    /// Nothing is finished.
    Stuck,
    /// Everything is finished.
    Instant,
}

thread_local! {
    static PACE: Cell<Pace> = const { Cell::new(Pace::Real) };
}

/// The pace of this thread.
pub fn get() -> Pace {
    PACE.get()
}

/// Changes the pace of this thread.
pub fn set(pace: Pace) {
    PACE.set(pace);
}
