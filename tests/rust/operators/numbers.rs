//! Numbers for tests: the same on every machine.

/// A stream of numbers that look random.
pub struct Numbers(u64);

impl Numbers {
    /// A stream of its own for each seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ 0xD1B5_4A32_D192_ED03)
    }

    /// Between -2 and 2, and never nearer to 0 than 0.05.
    pub fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let fraction = (self.0 >> 11) as f64 / (1u64 << 53) as f64;
        let magnitude = 0.05 + 1.95 * (2.0 * fraction - 1.0).abs();
        if fraction < 0.5 { -magnitude } else { magnitude }
    }

    /// Many of them.
    pub fn take(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.next()).collect()
    }
}
