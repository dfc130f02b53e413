//! Working memory of a task, kept by its thread for the next one.

use std::cell::Cell;

/// What memory is handed out in: as wide as the widest vector.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Line([u8; 64]);

thread_local! {
    static SPARE: Cell<Vec<Line>> = const { Cell::new(Vec::new()) };
}

/// Memory for numbers, of any content. It goes back to the thread when this is dropped.
pub struct Scratch {
    lines: Vec<Line>,
    used: usize,
}

/// A type of which every bit pattern is a value, so that it may be read from memory of any content.
pub trait Plain: Copy {}

impl Plain for f32 {}
impl Plain for f64 {}

impl Scratch {
    /// Room for parts of these lengths, in elements of T.
    pub fn with_room<T: Plain>(parts: &[usize]) -> Scratch {
        let room: usize = parts.iter().map(|elements| lines::<T>(*elements)).sum();
        let mut lines = SPARE.take();
        if lines.len() < room {
            lines.resize(room, Line([0; 64]));
        }
        Scratch { lines, used: 0 }
    }

    /// The next part. It stays valid, and nobody else's, as long as the scratch lives.
    ///
    /// Panics if `with_room` was not told of it.
    pub fn part<T: Plain>(&mut self, elements: usize) -> *mut T {
        let end = self.used + lines::<T>(elements);
        assert!(end <= self.lines.len(), "scratch memory has no room for {elements} more elements");
        // SAFETY: the part begins within the allocation, or at its end if it is empty.
        let part = unsafe { self.lines.as_mut_ptr().add(self.used) };
        self.used = end;
        part.cast()
    }
}

fn lines<T>(elements: usize) -> usize {
    (elements * size_of::<T>()).div_ceil(size_of::<Line>())
}

impl Drop for Scratch {
    fn drop(&mut self) {
        SPARE.set(std::mem::take(&mut self.lines));
    }
}
