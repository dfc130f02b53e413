//! What kernels observed of each chunk, and what follows from it.
//!
//! Kernels add to device arrays during an epoch; at its end these are read once and begin anew.

use super::Metrics;
use crate::Result;
use crate::device::telemetry::{self as column, COLUMNS};
use crate::device::{Buffer, Device, HostMemory, Reading, Stream};
use std::sync::Arc;

/// One seed's observations: a row of the telemetry array.
pub(super) type Row = [f64; COLUMNS];

/// Nothing observed yet.
pub(super) const NOTHING: Row = {
    let mut row = [0.0; COLUMNS];
    row[column::MIN] = f64::INFINITY;
    row[column::MAX] = f64::NEG_INFINITY;
    row
};

/// What was seen of one seed in the last epoch that ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Observation {
    /// Its telemetry.
    pub row: Row,
    /// Mean reconstruction loss over the steps of isolated training; NaN if there were none.
    pub loss: f64,
    /// How far the chunk's statistics moved since the epoch before; NaN if one of the two saw nothing.
    pub change: f64,
    /// Whether an optimiser step met a gradient that was not finite.
    pub non_finite_gradient: bool,
}

impl Observation {
    /// Of an epoch in which nothing was seen.
    pub const NONE: Observation =
        Observation { row: NOTHING, loss: f64::NAN, change: f64::NAN, non_finite_gradient: false };

    /// Whether a row fell back to identity.
    pub fn fell_back(&self) -> bool {
        self.row[column::FALLBACK_ROWS] > 0.0
    }

    /// Root mean square of the finite elements; NaN if there were none.
    pub fn root_mean_square(&self) -> f64 {
        ratio(self.row[column::SQUARES], finite(&self.row)).sqrt()
    }

    /// Root of the sum of the squares of the output gradient's elements.
    pub fn gradient_norm(&self) -> f64 {
        self.row[column::GRADIENT_SQUARES].sqrt()
    }

    /// The numbers people read, for a chunk of this many channels.
    ///
    /// With n = finite elements seen (all less the non-finite ones), s = their sum, q = the sum of their squares and
    /// p = the sum of the products of neighbours: `mean = s / n`, `variance = max(q / n - mean², 0)`,
    /// `dead_ratio = dead / n`, `snr = mean² / variance`, `correlation = (p C / (n (C - 1)) - mean²) / variance`,
    /// `gradient_norm = root of the sum of the gradient's squares`. What would divide by zero is NaN.
    pub fn metrics(&self, chunk: usize) -> Metrics {
        let row = &self.row;
        let (mean, variance) = moments(row);
        let square = mean * mean;
        let pairs = finite(row) * (chunk as f64 - 1.0) / chunk as f64;
        Metrics {
            count: row[column::COUNT] as u64,
            mean,
            variance,
            minimum: row[column::MIN],
            maximum: row[column::MAX],
            dead_ratio: ratio(row[column::DEAD], finite(row)),
            correlation: ratio(ratio(row[column::NEIGHBOURS], pairs) - square, variance).clamp(-1.0, 1.0),
            snr: ratio(square, variance),
            gradient_norm: self.gradient_norm(),
            non_finite: row[column::NON_FINITE] as u64,
            fallback_rows: row[column::FALLBACK_ROWS] as u64,
            loss: self.loss,
        }
    }
}

/// How many finite elements were seen.
fn finite(row: &Row) -> f64 {
    row[column::COUNT] - row[column::NON_FINITE]
}

/// Mean and variance of the finite elements of a row; NaN if there were none.
fn moments(row: &Row) -> (f64, f64) {
    let mean = ratio(row[column::SUM], finite(row));
    let variance = ratio(row[column::SQUARES], finite(row)) - mean * mean;
    // `max` would turn NaN into 0.
    (mean, if variance < 0.0 { 0.0 } else { variance })
}

/// a / b, or NaN for b = 0.
fn ratio(a: f64, b: f64) -> f64 {
    if b == 0.0 { f64::NAN } else { a / b }
}

/// How far mean and variance moved, relative to the deviation and variance before: the larger of the two. 0 if neither
/// moved, NaN if one row saw nothing.
fn change(before: &Row, now: &Row) -> f64 {
    let ((old_mean, old_variance), (mean, variance)) = (moments(before), moments(now));
    let relative = |difference: f64, scale: f64| if difference == 0.0 { 0.0 } else { difference.abs() / scale };
    let (by_mean, by_variance) =
        (relative(mean - old_mean, old_variance.sqrt()), relative(variance - old_variance, old_variance));
    if by_mean.is_nan() || by_variance.is_nan() { f64::NAN } else { by_mean.max(by_variance) }
}

/// What was seen of every seed in an epoch: the bytes that were read, of which those are understood that somebody asks for.
pub(super) struct Observations {
    /// `[seeds]` rows, then `[seeds, 2]` f64: sum of losses, steps.
    seen: Arc<HostMemory>,
    before: Before,
    /// `[seeds]`
    pub non_finite_gradients: Vec<bool>,
}

/// What changes are measured from.
enum Before {
    /// What was seen in the epoch before.
    Seen(Arc<HostMemory>),
    /// The changes themselves, from a checkpoint.
    Changes(Vec<f64>),
}

impl Observations {
    /// Of an epoch in which nothing was seen.
    pub fn none(seeds: usize, device: &Arc<dyn Device>) -> Result<Observations> {
        Observations::of(&vec![Observation::NONE; seeds], device)
    }

    /// These.
    pub fn of(observations: &[Observation], device: &Arc<dyn Device>) -> Result<Observations> {
        let rows: Vec<_> = observations.iter().map(|seen| seen.row).collect();
        let losses: Vec<_> = observations.iter().map(|seen| [seen.loss, 1.0]).collect();
        Ok(Observations {
            seen: Arc::new(HostMemory::of(device, &[encode(&rows), encode(&losses)].concat())?),
            before: Before::Changes(observations.iter().map(|seen| seen.change).collect()),
            non_finite_gradients: observations.iter().map(|seen| seen.non_finite_gradient).collect(),
        })
    }

    pub fn seeds(&self) -> usize {
        self.non_finite_gradients.len()
    }

    /// What was seen of one seed. Inlined, so that what the caller does not look at is not computed.
    #[inline(always)]
    pub fn get(&self, seed: u32) -> Observation {
        let seed = seed as usize;
        let row = row(&self.seen, seed);
        let [sum, steps] = numbers(&self.seen, self.seeds() * size_of::<Row>() + seed * size_of::<[f64; 2]>());
        let change = match &self.before {
            Before::Seen(seen) => change(&self::row(seen, seed), &row),
            Before::Changes(changes) => changes[seed],
        };
        Observation { row, loss: ratio(sum, steps), change, non_finite_gradient: self.non_finite_gradients[seed] }
    }

    /// Whether a row of a seed fell back to identity.
    pub fn fell_back(&self, seed: u32) -> bool {
        let [rows] = numbers(&self.seen, seed as usize * size_of::<Row>() + column::FALLBACK_ROWS * size_of::<f64>());
        rows > 0.0
    }

    /// All of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = Observation> + '_ {
        (0..self.seeds() as u32).map(|seed| self.get(seed))
    }
}

fn row(seen: &[u8], seed: usize) -> Row {
    numbers(seen, seed * size_of::<Row>())
}

/// The numbers that begin at a byte.
fn numbers<const N: usize>(bytes: &[u8], start: usize) -> [f64; N] {
    let bytes = bytes[start..start + N * size_of::<f64>()].as_chunks().0;
    std::array::from_fn(|number| f64::from_le_bytes(bytes[number]))
}

/// The device arrays kernels observe into, and the last epoch's observations.
pub(super) struct Telemetry {
    /// `[seeds, COLUMNS]` f64.
    pub array: Buffer,
    /// `[seeds, 2]` f64: sum of losses, steps.
    pub loss: Buffer,
    /// Both arrays, in one piece, so that a snapshot is one copy.
    pub memory: Buffer,
    /// What both arrays were read into: some of it is in use, and the rest is read into again.
    rooms: Vec<Arc<HostMemory>>,
    /// Of the last epoch that ended. Shared with snapshots.
    pub last: Arc<Observations>,
}

impl Telemetry {
    /// Nothing observed.
    pub fn new(seeds: u32, device: &Arc<dyn Device>, stream: Stream) -> Result<Telemetry> {
        let seeds = seeds as usize;
        let [rows, losses] = [seeds * size_of::<Row>(), seeds * 16];
        // The rows are f64, so the losses after them are aligned as they must be.
        let memory = Buffer::new(device, rows + losses)?;
        let telemetry = Telemetry {
            array: memory.part(0, rows)?,
            loss: memory.part(rows, losses)?,
            rooms: Vec::new(),
            last: Arc::new(Observations::none(seeds, device)?),
            memory,
        };
        telemetry.reset(stream)?;
        Ok(telemetry)
    }

    /// Begins to read what the epoch saw, after all work on the stream.
    pub fn read(&mut self, stream: Stream) -> Result<Reading> {
        self.room()?.read(self.memory.address(), stream)
    }

    /// Makes what was read what the last epoch saw, and begins anew.
    pub fn end_epoch(&mut self, read: Reading, stream: Stream) -> Result<()> {
        let seen = read.wait()?;
        self.reset(stream)?;
        let seen = Arc::new(seen);
        self.rooms.push(seen.clone());
        let before = Before::Seen(self.last.seen.clone());
        let non_finite_gradients = vec![false; self.last.seeds()];
        self.last = Arc::new(Observations { seen, before, non_finite_gradients });
        Ok(())
    }

    /// Memory of any content to read into: what nobody uses any more, if there is any. More than that is given back.
    fn room(&mut self) -> Result<HostMemory> {
        let (in_use, free): (Vec<_>, Vec<_>) = self.rooms.drain(..).partition(|room| Arc::strong_count(room) > 1);
        self.rooms = in_use;
        match free.into_iter().find_map(Arc::into_inner) {
            Some(room) => Ok(room),
            None => HostMemory::new(self.memory.device(), self.memory.bytes()),
        }
    }

    /// Adds to what the last epoch saw that an optimiser step met a gradient of this seed that was not finite.
    pub fn note_non_finite_gradient(&mut self, seed: u32) {
        // Nobody shares it yet in the epoch's end, which alone calls this.
        if let Some(last) = Arc::get_mut(&mut self.last) {
            last.non_finite_gradients[seed as usize] = true;
        }
    }

    /// What the running epoch has seen so far; nothing begins anew. Waits for the stream.
    pub fn peek(&self, stream: Stream) -> Result<Observations> {
        let device = self.memory.device();
        let mut seen = HostMemory::new(device, self.memory.bytes())?;
        device.download(&mut seen, self.memory.address(), stream)?;
        let seeds = self.last.seeds();
        let (before, non_finite_gradients) = (Before::Changes(vec![f64::NAN; seeds]), vec![false; seeds]);
        Ok(Observations { seen: Arc::new(seen), before, non_finite_gradients })
    }

    fn reset(&self, stream: Stream) -> Result<()> {
        let device = self.array.device();
        // Made anew each time, because a copy that is kept could be damaged.
        device.repeat(self.array.address(), &encode(&[NOTHING]), self.last.seeds(), stream)?;
        device.zero(self.loss.address(), self.loss.bytes(), stream)
    }
}

/// The bytes of a device buffer. Waits for the stream.
pub(super) fn read(buffer: &Buffer, stream: Stream) -> Result<Vec<u8>> {
    let mut bytes = vec![0; buffer.bytes()];
    buffer.device().download(&mut bytes, buffer.address(), stream)?;
    Ok(bytes)
}

/// Rows of numbers as bytes.
pub(super) fn encode<const N: usize>(rows: &[[f64; N]]) -> Vec<u8> {
    rows.iter().flatten().flat_map(|number| number.to_le_bytes()).collect()
}

/// Rows of numbers from bytes.
pub(super) fn decode<const N: usize>(bytes: &[u8]) -> Vec<[f64; N]> {
    let number = |bytes: &[u8]| bytes.try_into().map_or(f64::NAN, f64::from_le_bytes);
    bytes
        .chunks_exact(8 * N)
        .map(|row| std::array::from_fn(|column| number(&row[8 * column..8 * column + 8])))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::cpu;

    /// What a kernel adds up for these rows of a chunk.
    fn observe(rows: &[&[f64]]) -> Row {
        let mut row = NOTHING;
        for elements in rows {
            for (channel, x) in elements.iter().enumerate() {
                row[column::COUNT] += 1.0;
                row[column::SUM] += x;
                row[column::SQUARES] += x * x;
                row[column::MIN] = row[column::MIN].min(*x);
                row[column::MAX] = row[column::MAX].max(*x);
                row[column::DEAD] += f64::from(x.abs() < 1e-6);
                row[column::NEIGHBOURS] += elements.get(channel + 1).map_or(0.0, |next| x * next);
            }
        }
        row
    }

    fn metrics(row: Row, chunk: usize) -> Metrics {
        Observation { row, ..Observation::NONE }.metrics(chunk)
    }

    #[test]
    fn metrics_are_those_of_the_elements() {
        let metrics = metrics(observe(&[&[1.0, 2.0, 3.0], &[0.0, -1.0, 7.0]]), 3);
        assert_eq!((metrics.count, metrics.mean, metrics.minimum, metrics.maximum), (6, 2.0, -1.0, 7.0));
        let variance = (1.0 + 0.0 + 1.0 + 4.0 + 9.0 + 25.0) / 6.0;
        assert!((metrics.variance - variance).abs() < 1e-12);
        assert!((metrics.snr - 4.0 / variance).abs() < 1e-12);
        assert!((metrics.dead_ratio - 1.0 / 6.0).abs() < 1e-12);
        let neighbours = (2.0 + 6.0 + 0.0 - 7.0) / 4.0;
        assert!((metrics.correlation - (neighbours - 4.0) / variance).abs() < 1e-12);
    }

    #[test]
    fn elements_that_are_not_finite_leave_the_metrics_of_the_others_alone() {
        let mut row = observe(&[&[1.0, 2.0, 3.0, 0.0]]);
        let clean = metrics(row, 4);
        // As kernels do: counted as seen and as not finite, and nowhere else.
        row[column::COUNT] += 4.0;
        row[column::NON_FINITE] += 4.0;
        let found = metrics(row, 4);
        assert_eq!((found.mean, found.variance, found.dead_ratio), (clean.mean, clean.variance, clean.dead_ratio));
        assert_eq!((found.count, found.non_finite), (8, 4));
    }

    #[test]
    fn neighbours_that_agree_correlate_and_neighbours_that_differ_do_not() {
        let smooth = metrics(observe(&[&[1.0, 1.0, 1.0, 1.0], &[-1.0, -1.0, -1.0, -1.0]]), 4);
        let rough = metrics(observe(&[&[1.0, -1.0, 1.0, -1.0], &[-1.0, 1.0, -1.0, 1.0]]), 4);
        assert_eq!((smooth.correlation, rough.correlation), (1.0, -1.0));
    }

    #[test]
    fn an_epoch_that_saw_nothing_has_no_numbers_and_its_json_has_nulls() {
        let metrics = metrics(NOTHING, 4);
        assert!(metrics.mean.is_nan() && metrics.correlation.is_nan() && metrics.snr.is_nan());
        let json = serde_json::to_value(metrics).unwrap();
        for name in ["mean", "variance", "minimum", "maximum", "dead_ratio", "correlation", "snr", "loss"] {
            assert!(json[name].is_null(), "{name} is {}", json[name]);
        }
        assert_eq!(json["gradient_norm"], 0.0);
    }

    #[test]
    fn a_constant_chunk_or_a_chunk_of_one_channel_divides_by_nothing() {
        let constant = metrics(observe(&[&[3.0, 3.0]]), 2);
        assert_eq!((constant.mean, constant.variance), (3.0, 0.0));
        assert!(constant.snr.is_nan() && constant.correlation.is_nan());
        assert!(metrics(observe(&[&[1.0], &[2.0]]), 1).correlation.is_nan());
    }

    #[test]
    fn change_is_zero_for_equal_epochs_and_grows_with_the_distance() {
        let epoch = observe(&[&[1.0, 2.0, 3.0]]);
        assert_eq!(change(&epoch, &epoch), 0.0);
        let moved = change(&epoch, &observe(&[&[2.0, 3.0, 4.0]]));
        assert!((moved - 1.0 / (2.0f64 / 3.0).sqrt()).abs() < 1e-9, "{moved}");
        assert!(change(&NOTHING, &epoch).is_nan() && change(&epoch, &NOTHING).is_nan());
        let constant = observe(&[&[1.0, 1.0]]);
        assert_eq!(change(&constant, &constant), 0.0);
        assert!(change(&constant, &epoch).is_infinite());
    }

    #[test]
    fn what_is_kept_of_an_epoch_stays_and_other_memory_is_read_into_again() {
        let stream = Stream(0);
        let mut telemetry = Telemetry::new(3, &cpu::device(), stream).unwrap();
        let end_epoch = |telemetry: &mut Telemetry| {
            let read = telemetry.read(stream).unwrap();
            telemetry.end_epoch(read, stream).unwrap();
        };
        let mut kept = Vec::new();
        for epoch in 0..20 {
            let rows = encode(&[[f64::from(epoch); COLUMNS]; 3]);
            telemetry.array.device().upload(telemetry.array.address(), &rows, stream).unwrap();
            end_epoch(&mut telemetry);
            // What a snapshot keeps.
            if epoch % 8 == 3 {
                kept.push((epoch, telemetry.last.clone()));
            }
        }
        for (epoch, seen) in &kept {
            assert!(seen.iter().all(|seen| seen.row == [f64::from(*epoch); COLUMNS]), "epoch {epoch}");
        }
        // Each keeps two epochs, the layer another two, and one more was read into.
        assert!(telemetry.rooms.len() <= 2 * kept.len() + 3, "{}", telemetry.rooms.len());
        kept.clear();
        end_epoch(&mut telemetry);
        assert_eq!(telemetry.rooms.len(), 3);
    }
}
