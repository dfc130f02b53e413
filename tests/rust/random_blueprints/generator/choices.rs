//! Choices drawn from bytes.

/// A source of choices. When the bytes are used up, every choice is the first one.
#[derive(Default)]
pub struct Choices<'a> {
    bytes: std::slice::Iter<'a, u8>,
}

impl<'a> Choices<'a> {
    /// Choices as these bytes say.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes: bytes.iter() }
    }

    /// As many bytes, the same for the same seed (SplitMix64).
    pub fn bytes(seed: u64, count: usize) -> Vec<u8> {
        let mut state = seed;
        let mut word = || {
            state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
            let mixed = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            (mixed ^ (mixed >> 31)).to_le_bytes()
        };
        let mut bytes: Vec<u8> = (0..count.div_ceil(8)).flat_map(|_| word()).collect();
        bytes.truncate(count);
        bytes
    }

    /// Whether only first options are left.
    pub fn is_empty(&self) -> bool {
        self.bytes.as_slice().is_empty()
    }

    /// The next bytes themselves, as many as there are.
    pub fn take(&mut self, most: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.as_slice().split_at(most.min(self.bytes.len()));
        self.bytes = rest.iter();
        taken
    }

    /// A number below the bound, which is 1 to 256.
    pub fn below(&mut self, bound: usize) -> usize {
        usize::from(self.bytes.next().copied().unwrap_or(0)) % bound
    }

    /// One of these.
    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == times - 1
    }
}
