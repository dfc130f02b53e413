//! What a launch over the seeds of a layer, or a step of the optimiser, is given: shapes, strides and addresses. Both backends read the
//! same; must know neither.

use super::Address;
use crate::Result;
use crate::compile::Pass;

/// A row tensor: rows of channels, spaced in up to two levels.
///
/// Row r begins `(r / group) * group_stride + (r % group) * stride` elements after the first one, and the channels of a
/// row are `channel_stride` apart. So this describes `[..., hidden]` with any one or two strides over its rows, and
/// `[N, channels, *spatial]` as groups of `*spatial` adjacent rows whose channels are that many elements apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rows {
    /// The first element.
    pub address: Address,
    /// Elements from one channel of a row to the next.
    pub channel_stride: usize,
    /// Elements from one row of a group to the next.
    pub stride: usize,
    /// Rows of a group, at least 1; [`Rows::EVEN`] if all rows are one.
    pub group: usize,
    /// Elements from one group to the next.
    pub group_stride: usize,
}

impl Rows {
    /// The `group` of rows that are all equally far apart.
    pub const EVEN: usize = isize::MAX as usize;

    /// Evenly spaced rows with adjacent channels.
    pub fn spaced(address: Address, stride: usize) -> Rows {
        Rows { address, channel_stride: 1, stride, group: Rows::EVEN, group_stride: 0 }
    }

    /// Elements from the first one to where a row begins.
    pub fn offset(&self, row: usize) -> usize {
        // Nearly all tensors have one group, and division is slow.
        if row < self.group {
            row * self.stride
        } else {
            row / self.group * self.group_stride + row % self.group * self.stride
        }
    }

    /// Elements from the first one to just after the last one of a tensor that is not empty; `None` if that overflows or
    /// the layout means nothing.
    pub fn extent(&self, rows: usize, channels: usize) -> Option<usize> {
        let reach = |(size, stride): (usize, usize)| (size - 1).checked_mul(stride);
        let sizes = self.sizes(rows, channels)?;
        sizes.into_iter().map(reach).try_fold(1usize, |extent, reach| extent.checked_add(reach?))
    }

    /// Whether no two elements of a tensor that is not empty share a place.
    pub fn is_disjoint(&self, rows: usize, channels: usize) -> bool {
        let Some(mut sizes) = self.sizes(rows, channels) else { return false };
        sizes.sort_unstable_by_key(|(_, stride)| *stride);
        // Each level steps over all that the finer ones reach.
        let mut extent = 1usize;
        sizes.into_iter().filter(|(size, _)| *size > 1).all(|(size, stride)| {
            let apart = stride >= extent;
            extent = extent.saturating_add((size - 1).saturating_mul(stride));
            apart
        })
    }

    /// So many rows in the order in which they lie, if that makes them even: those of each group lie between those of the others.
    fn interleaved(&self, rows: usize) -> Option<Rows> {
        let groups = rows / self.group.max(1);
        let fills = rows == groups * self.group && self.group_stride.checked_mul(groups) == Some(self.stride);
        fills.then_some(Rows { stride: self.group_stride, group: Rows::EVEN, group_stride: 0, ..*self })
    }

    /// Size and stride of the channels, of a group and of the groups.
    fn sizes(&self, rows: usize, channels: usize) -> Option<[(usize, usize); 3]> {
        if rows == 0 || channels == 0 || self.group == 0 {
            return None;
        }
        let group = self.group.min(rows);
        Some([(channels, self.channel_stride), (group, self.stride), (rows.div_ceil(group), self.group_stride)])
    }
}

impl std::fmt::Display for Rows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "rows {} apart, channels {} apart", self.stride, self.channel_stride)?;
        if self.group == Rows::EVEN {
            return Ok(());
        }
        write!(f, ", groups of {} rows {} apart", self.group, self.group_stride)
    }
}

impl Default for Rows {
    fn default() -> Rows {
        Rows::spaced(Address::NULL, 0)
    }
}

/// The parameters of all slots of one blueprint structure, and the gradient of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bank {
    /// `[capacity, size]` in the compute type.
    pub parameters: Address,
    /// `[capacity, size]` in the compute type, added to by backward and train launches; null in a forward launch.
    pub gradient: Address,
    /// Slots. No slot read from a state array may reach beyond it: the CPU backend refuses such a launch, a CUDA kernel
    /// runs the seed as identity.
    pub capacity: usize,
    /// Elements of one slot.
    pub size: usize,
}

/// Columns of the telemetry array, `[seeds, COLUMNS]` f64. Forward launches add to all but `GRADIENT_SQUARES`; backward
/// launches add to that one alone, train launches to `FALLBACK_ROWS` alone (a training seed whose rows all fell back has
/// no loss, and that must not look like success). Non-finite elements of x count in `COUNT` and `NON_FINITE` and nowhere
/// else.
pub mod telemetry {
    /// How many columns there are.
    pub const COLUMNS: usize = 10;
    /// Elements of x seen, finite or not.
    pub const COUNT: usize = 0;
    /// Sum of the finite elements of x.
    pub const SUM: usize = 1;
    /// Sum of the squares of the finite elements of x.
    pub const SQUARES: usize = 2;
    /// Smallest finite element of x; +inf when none.
    pub const MIN: usize = 3;
    /// Largest finite element of x; -inf when none.
    pub const MAX: usize = 4;
    /// Elements with |x| < 1e-6.
    pub const DEAD: usize = 5;
    /// Sum of x[c] * x[c + 1] over neighbouring channels of the chunk, where both are finite.
    pub const NEIGHBOURS: usize = 6;
    /// Elements of x that are not finite.
    pub const NON_FINITE: usize = 7;
    /// Sum of the squares of the finite elements of the output gradient.
    pub const GRADIENT_SQUARES: usize = 8;
    /// Rows that fell back to identity because the blueprint's output was not finite. Rows that fall back in backward are
    /// not counted: they are the same rows again, or their gradient overflowed, as it is meant to when a loss scaler
    /// looks for its limit.
    pub const FALLBACK_ROWS: usize = 9;
    /// Magnitude below which an element counts as dead.
    pub const DEAD_BELOW: f64 = 1e-6;
}

/// One launch of a kernel over all seeds of a layer.
///
/// For each seed, the kernel reads `lifecycle[seed]` and `blueprint[seed]` and picks a program:
/// forward: `programs[branch[blueprint]]` if the state applies a blueprint (3..=7), else identity;
/// backward: the same, from `programs` if the state trains on the main loss (3 or 6), else from `frozen`;
/// train: `programs[branch[blueprint]]` if the state is TRAINING (2), else nothing.
/// A blueprint of -1 or a branch of -1 is identity. Identity copies the bits of the fallback input to the output.
/// Channels after `seeds * chunk` are identity.
#[derive(Clone, Copy, Debug, Default)]
pub struct Launch<'a> {
    /// Rows of every row tensor. May be 0.
    pub rows: usize,
    /// Channels of a row; at least `seeds * chunk`.
    pub hidden: usize,
    /// Seeds of the layer.
    pub seeds: usize,
    /// Input of the layer.
    pub x: Rows,
    /// Gradient of the output; backward.
    pub output_gradient: Rows,
    /// Aim of isolated training; train.
    pub target: Rows,
    /// What is written: y in forward, dx in backward, nothing in train. It may be one of the inputs (same address, same
    /// layout), each row being read before it is written; any other overlap is refused, and so are rows of it that
    /// overlap each other. Null in a launch that [only observes](Launch::only_observes).
    pub output: Rows,
    /// `[seeds]` i8.
    pub lifecycle: Address,
    /// `[seeds]` i32: position in `branch`, or -1.
    pub blueprint: Address,
    /// `[seeds]` i32: slot in the bank.
    pub slot: Address,
    /// `[seeds]` f32; the kernel clamps it to [0, 1].
    pub alpha: Address,
    /// `[blueprints]` i32: position in the class's programs and in `banks`, or -1.
    pub branch: Address,
    /// Blueprints of the layer: the length of `branch`. Numbers in `blueprint` that are not below it are treated as
    /// slots beyond [`Bank::capacity`] are.
    pub blueprints: usize,
    /// The banks by branch; as many as the class has programs.
    pub banks: &'a [Bank],
    /// `[seeds, telemetry::COLUMNS]` f64; may be null, then nothing is observed.
    pub telemetry: Address,
    /// `[seeds]` f32, added to if the programs compute it; may be null.
    pub alpha_gradient: Address,
    /// `[seeds, 2]` f64: train launches of at least one row add the loss to the first and 1 to the second; null
    /// otherwise.
    pub loss: Address,
    /// The number [`crate::graph::Scalar::LossScale`] stands for.
    pub loss_scale: f64,
    /// u64: with `random_offset` added, the key of the random numbers that blueprints draw ([`crate::compile::random`]). It
    /// is read when the kernel runs. Null where dropout is not active.
    pub random: Address,
    /// Added to that key, modulo 2^64.
    pub random_offset: u64,
    /// `[seeds]` u32: the seeds, those first that take long; in a train launch, those last. It decides nothing but how well a
    /// device is kept busy, and the CPU backend does without. Null: as they are numbered.
    pub order: Address,
    /// How many seeds of `order` take longer than the others; in a train launch, how many train.
    pub busy: usize,
    /// Whether two launches on the same inputs must give the same bits. The CPU backend always does.
    pub deterministic: bool,
}

impl Launch<'_> {
    /// Whether a forward or backward launch has no output: then x is looked at, which in a backward launch is the output gradient as
    /// well, and nothing but telemetry is written. It must know no blueprint and no channels beyond its seeds, so that whatever the
    /// state arrays hold, nothing wants to be written.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` if it has no output and knows either.
    pub fn only_observes(&self, pass: Pass, chunk: usize) -> Result<bool> {
        if pass == Pass::Train || !self.output.address.is_null() {
            return Ok(false);
        }
        let (blueprints, tail) = (self.blueprints, self.hidden.saturating_sub(self.seeds.saturating_mul(chunk)));
        if blueprints > 0 || tail > 0 {
            crate::fail!(
                InvalidArgument,
                "a launch without an output knows {blueprints} blueprints and {tail} channels beyond its seeds; it may know neither"
            );
        }
        if pass == Pass::Backward && self.x != self.output_gradient {
            crate::fail!(
                InvalidArgument,
                "a backward launch without an output looks at its output gradient alone, and x is another"
            );
        }
        Ok(true)
    }

    /// The same with its rows in another order, if there is one in which those of all tensors are evenly spaced: a batch of sequences
    /// may lie as a sequence of batches. Only random numbers depend on which row is which.
    pub fn in_memory_order(self) -> Self {
        let group = self.x.group;
        if group == Rows::EVEN || !self.random.is_null() {
            return self;
        }
        let even = [self.x, self.output_gradient, self.target, self.output].map(|tensor| match tensor {
            missing if missing.address.is_null() => Some(missing),
            alike if alike.group == group => alike.interleaved(self.rows),
            _ => None,
        });
        match even {
            [Some(x), Some(output_gradient), Some(target), Some(output)] => {
                Launch { x, output_gradient, target, output, ..self }
            }
            _ => self,
        }
    }

    /// Where identity is written. What has no output has its input there, which identity leaves as it is.
    pub(super) fn written(&self) -> Rows {
        if self.output.address.is_null() { self.x } else { self.output }
    }
}

/// One step of AdamW on the slots of a bank that are in a given mode; the others keep their bits.
///
/// As `torch.optim.AdamW`: decoupled weight decay, bias correction by the slot's own step count. A slot with a
/// non-finite gradient is skipped and marked.
#[derive(Clone, Copy, Debug)]
pub struct Adamw {
    /// Whether parameters, gradient and moments are f64 instead of f32.
    pub double: bool,
    /// `[capacity, size]`.
    pub parameters: Address,
    /// `[capacity, size]`.
    pub gradient: Address,
    /// `[capacity, size]`, running mean of the gradient.
    pub first_moment: Address,
    /// `[capacity, size]`, running mean of its square.
    pub second_moment: Address,
    /// `[capacity]` u32: steps done by each slot.
    pub steps: Address,
    /// `[capacity]` u8: the mode of each slot.
    pub mode: Address,
    /// The mode that is updated.
    pub updated: u8,
    /// `[capacity]` u8, set to 1 where the gradient was not finite.
    pub non_finite: Address,
    /// Slots of the bank.
    pub capacity: usize,
    /// Elements of one slot.
    pub size: usize,
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two sequences of three rows that lie as three batches of two.
    fn batches(address: u64) -> Rows {
        Rows { address: Address(address), channel_stride: 1, stride: 2 * 8, group: 3, group_stride: 8 }
    }

    #[test]
    fn rows_between_each_other_are_taken_as_they_lie_where_all_tensors_have_them_so() {
        let launch = Launch { rows: 6, hidden: 8, x: batches(64), output: batches(640), ..Launch::default() };
        let even = launch.in_memory_order();
        assert_eq!((even.x, even.output), (Rows::spaced(Address(64), 8), Rows::spaced(Address(640), 8)));
        assert_eq!(even.target, launch.target, "there is none");

        let padded = Rows { group_stride: 9, ..batches(640) };
        let shorter = Rows { group: 2, ..batches(640) };
        for output in [padded, shorter, Rows::spaced(Address(640), 8)] {
            let mixed = Launch { output, ..launch }.in_memory_order();
            assert_eq!((mixed.x, mixed.output), (batches(64), output));
        }
        let random = Launch { random: Address(8), ..launch }.in_memory_order();
        assert_eq!(random.x, batches(64), "what a row draws follows from its number");
        let more = Launch { rows: 9, ..launch }.in_memory_order();
        assert_eq!(more.x, batches(64), "three sequences would not lie so");
    }
}
