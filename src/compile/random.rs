//! Random numbers by counting: what a blueprint draws depends on a key and on where it draws, on nothing that ran before, so
//! that backward finds the numbers of forward again, and every backend the same ones.
//!
//! Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011).

/// Where in a launch a number is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The row of the launch.
    pub row: u64,
    /// The element of the value.
    pub element: u32,
    /// The seed of the layer.
    pub seed: u32,
    /// The number of the drawing operator in its blueprint.
    pub stream: u16,
}

/// The number drawn there: a multiple of 2^-24 in [0, 1).
pub fn number(key: u64, draw: Draw) -> f32 {
    let last = u32::from(draw.stream) | ((draw.row >> 32) as u32) << 16;
    let [bits, ..] = philox(key, [draw.row as u32, draw.element, draw.seed, last]);
    (bits >> 8) as f32 / (1 << 24) as f32
}

/// Ten rounds of Philox4x32.
pub fn philox(key: u64, counter: [u32; 4]) -> [u32; 4] {
    let mut keys = [key as u32, (key >> 32) as u32];
    let [mut a, mut b, mut c, mut d] = counter;
    for _ in 0..10 {
        let first = 0xd251_1f53 * u64::from(a);
        let second = 0xcd9e_8d57 * u64::from(c);
        [a, b, c, d] =
            [(second >> 32) as u32 ^ b ^ keys[0], second as u32, (first >> 32) as u32 ^ d ^ keys[1], first as u32];
        keys = [keys[0].wrapping_add(0x9e37_79b9), keys[1].wrapping_add(0xbb67_ae85)];
    }
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::philox;

    /// The known answers that come with the authors' Random123 library.
    #[test]
    fn philox_gives_the_published_answers() {
        assert_eq!(philox(0, [0; 4]), [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]);
        assert_eq!(philox(u64::MAX, [u32::MAX; 4]), [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]);
        assert_eq!(
            philox(0x299f_31d0_a409_3822, [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344]),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }
}
