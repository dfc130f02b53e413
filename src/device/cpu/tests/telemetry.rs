//! What telemetry sees, of numbers of any size and for every kind of instructions, against plain loops in f64.

use super::reference;
use super::scene::Numbers as Random;
use crate::device::cpu::vector::{Instructions, Numbers, Real, Statistics, View};
use crate::device::telemetry::*;

/// Rows of so many columns; `number` makes an element from its position and a number between -1 and 1.
fn rows(columns: usize, number: impl Fn(usize, f64) -> f64) -> Vec<f64> {
    let mut random = Random(columns as u64);
    (0..columns * 70).map(|position| number(position, random.number())).collect()
}

fn seen<T: Real>(instructions: Instructions, view: View, numbers: &[f64], columns: usize) -> [f64; COLUMNS] {
    let numbers: Vec<T> = numbers.iter().map(|number| T::from_f64(*number)).collect();
    let rows = Numbers { first: numbers.as_ptr(), stride: columns, rows: numbers.len() / columns, columns };
    let mut statistics = Statistics::default();
    // SAFETY: the instructions are of those available, and the rows are there.
    unsafe { (instructions.vectors::<T>().observe)(view, &rows, &mut statistics) };
    let mut telemetry = [0.0; COLUMNS];
    (telemetry[MIN], telemetry[MAX]) = (f64::INFINITY, f64::NEG_INFINITY);
    statistics.add_to(&mut telemetry);
    telemetry
}

/// Compares what is seen of numbers, rounded to T, with the reference.
#[track_caller]
fn agree<T: Real>(what: &str, numbers: &[f64], columns: usize, tolerance: f64) {
    let numbers: Vec<f64> = numbers.iter().map(|number| T::from_f64(*number).to_f64()).collect();
    let mut expected = [0.0; COLUMNS];
    (expected[MIN], expected[MAX]) = (f64::INFINITY, f64::NEG_INFINITY);
    numbers.chunks(columns).for_each(|row| reference::observe(row, &mut expected));
    let finite = numbers.iter().filter(|number| number.is_finite());
    let (sizes, squares) = finite.fold((0.0, 0.0), |(sizes, squares), n| (sizes + n.abs(), squares + n * n));
    for instructions in Instructions::available() {
        let mut found = seen::<T>(instructions, View::Input, &numbers, columns);
        found[GRADIENT_SQUARES] = seen::<T>(instructions, View::Gradient, &numbers, columns)[GRADIENT_SQUARES];
        for column in 0..COLUMNS {
            // Sums may cancel: what they may be off by depends on the size of their terms.
            let (expected, allowed) = match column {
                SUM => (expected[SUM], tolerance * sizes),
                GRADIENT_SQUARES => (squares, tolerance * squares),
                SQUARES | NEIGHBOURS => (expected[column], tolerance * squares),
                _ => (expected[column], 0.0),
            };
            let near = found[column] == expected || (found[column] - expected).abs() <= allowed;
            let name = instructions.name();
            assert!(near, "{what}, {columns} columns, {name}: [{column}] is {}, not {expected}", found[column]);
        }
    }
}

#[test]
fn numbers_of_any_size_are_seen_as_they_are() {
    for columns in [1, 7, 8, 16, 17, 33, 64, 5000] {
        let scaled = |factor: f64| rows(columns, move |_, number| number * factor);
        for (what, factor) in [("ordinary", 1.0), ("as small as what is dead", 2e-6), ("large", 1e15)] {
            agree::<f32>(what, &scaled(factor), columns, 2e-6);
            agree::<f64>(what, &scaled(factor), columns, 1e-13);
        }
        // Squares beyond what f32 holds, above and below.
        for (what, factor) in [("huge", 1e30), ("tiny", 1e-30), ("zero", 0.0)] {
            agree::<f32>(what, &scaled(factor), columns, 1e-13);
        }
    }
}

#[test]
fn what_is_not_finite_counts_apart_and_spoils_nothing() {
    for columns in [1, 16, 64] {
        for (what, strange) in [("NaN", f64::NAN), ("infinity", f64::INFINITY), ("minus infinity", f64::NEG_INFINITY)] {
            let numbers = rows(columns, |place, number| if place % 97 == 0 { strange } else { number });
            agree::<f32>(what, &numbers, columns, 2e-6);
            agree::<f64>(what, &numbers, columns, 1e-13);
            agree::<f32>(what, &vec![strange; columns * 3], columns, 0.0);
        }
    }
}
