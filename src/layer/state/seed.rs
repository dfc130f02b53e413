//! One seed: what the columns say of it, and what the bits of its flags mean.

use crate::layer::Lifecycle;

/// Bits of the column `flags`.
pub mod flags {
    /// The seed's kernel is compiled and loaded.
    pub const READY: u8 = 1;
    /// A row fell back to identity since the seed germinated.
    pub const FALLBACK_USED: u8 = 2;
    /// A gradient of the seed's parameters was not finite since it germinated.
    pub const NON_FINITE_SEEN: u8 = 4;
    /// Alpha is held.
    pub const PAUSED: u8 = 8;
    /// All of them.
    pub const ALL: u8 = READY | FALLBACK_USED | NON_FINITE_SEEN | PAUSED;
}

/// One seed: a row of the columns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct SeedState {
    /// Its state.
    pub lifecycle: Lifecycle,
    /// Its blueprint, or -1.
    pub blueprint: i32,
    /// Its slot in the bank, or -1.
    pub slot: i32,
    /// Its blend weight.
    pub alpha: f32,
    /// Epochs that ended since the state began.
    pub epochs_in_state: i16,
    /// How alpha rises.
    pub strategy: i8,
    /// The epoch at whose end (or, in a rollback, in which) the state began.
    pub last_update_epoch: u32,
    /// Epochs until it may be reset.
    pub embargo: u16,
    /// Epochs with errors since it germinated.
    pub error_count: u16,
    /// See [`flags`].
    pub flags: u8,
    /// How often it has germinated.
    pub germinations: u32,
    /// What the strategy remembers of the seed: a momentum or a running mean; 0 when it germinates.
    pub strategy_memory: f64,
}

impl SeedState {
    /// A dormant seed that has germinated this often.
    pub fn dormant(germinations: u32) -> SeedState {
        SeedState {
            lifecycle: Lifecycle::Dormant,
            blueprint: -1,
            slot: -1,
            alpha: 0.0,
            epochs_in_state: 0,
            strategy: 0,
            last_update_epoch: 0,
            embargo: 0,
            error_count: 0,
            flags: 0,
            germinations,
            strategy_memory: 0.0,
        }
    }

    /// The seed as it enters another state at the end of an epoch, or within it in an emergency. A pause is of the state before:
    /// it ends with it.
    pub fn entering(self, lifecycle: Lifecycle, epoch: u32) -> SeedState {
        let flags = self.flags & !flags::PAUSED;
        SeedState { lifecycle, epochs_in_state: 0, last_update_epoch: epoch, flags, ..self }
    }

    /// Whether a flag is set.
    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}
