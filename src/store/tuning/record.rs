//! Rows of the tables, and what is read from them. A row that is not what it was when it was written is nothing.

use super::backend::{Row, Value};
use super::pivots;
use super::problem::{Candidate, Problem};
use crate::graph::Features;

/// The values of a problem's row, in the order of the columns.
pub(super) fn problem_row(problem: &Problem, features: &Features, used_at: u64) -> Row {
    let text = |text: &str| Value::Text(text.to_owned());
    let mut row = vec![
        Value::Bytes(problem.identity().to_vec()),
        Value::Bytes(problem.class.to_vec()),
        text(&problem.kind),
        text(&problem.device),
        text(&problem.generator),
        text(&problem.compiler),
        Value::Integer(problem.rows as i64),
        Value::Integer(problem.seeds as i64),
        // Of maps with texts for keys and of numbers: this cannot fail.
        Value::Text(serde_json::to_string(features).unwrap_or_default()),
    ];
    row.extend(pivots::distances(features).map(Value::Real));
    row.push(Value::Integer(used_at as i64));
    row
}

/// A problem and its features, from `problem` to `features` of its row.
pub(super) fn read_problem(row: Row) -> Option<(Problem, Features)> {
    let [identity, class, kind, device, generator, compiler, rows, seeds, features] = row.try_into().ok()?;
    let problem = Problem {
        class: bytes(class)?.try_into().ok()?,
        kind: text(kind)?,
        device: text(device)?,
        generator: text(generator)?,
        compiler: text(compiler)?,
        rows: count(rows)?,
        seeds: count(seeds)?,
    };
    let features = serde_json::from_str(&text(features)?).ok()?;
    (bytes(identity)? == problem.identity()).then_some((problem, features))
}

/// The values of a candidate's row, in the order of the columns.
pub(super) fn candidate_row(problem: &[u8; 32], candidate: &Candidate) -> Row {
    vec![
        Value::Bytes(problem.to_vec()),
        Value::Bytes(candidate.identity().to_vec()),
        Value::Text(candidate.schedule.clone()),
        Value::Real(candidate.seconds),
        Value::Real(candidate.spread),
        Value::Integer(candidate.samples.into()),
        Value::Integer(candidate.valid.into()),
        Value::Integer(candidate.measured_at as i64),
        Value::Integer(checksum(problem, candidate).into()),
    ]
}

/// A candidate of this problem, from `schedule` to `checksum` of its row.
pub(super) fn read_candidate(problem: &[u8; 32], row: Row) -> Option<Candidate> {
    let [schedule, seconds, spread, samples, valid, measured_at, sum] = row.try_into().ok()?;
    let candidate = Candidate {
        schedule: text(schedule)?,
        seconds: real(seconds)?,
        spread: real(spread)?,
        samples: count(samples)?.try_into().ok()?,
        valid: count(valid)? == 1,
        measured_at: count(measured_at)?,
    };
    (count(sum)? == u64::from(checksum(problem, &candidate)) && candidate.check().is_ok()).then_some(candidate)
}

/// SQLite has no checksums of its own, so a flipped bit could make a slow schedule the best.
fn checksum(problem: &[u8; 32], candidate: &Candidate) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(problem);
    hasher.update(candidate.schedule.as_bytes());
    hasher.update(&candidate.seconds.to_bits().to_le_bytes());
    hasher.update(&candidate.spread.to_bits().to_le_bytes());
    hasher.update(&candidate.samples.to_le_bytes());
    hasher.update(&[u8::from(candidate.valid)]);
    hasher.update(&candidate.measured_at.to_le_bytes());
    hasher.finalize()
}

/// The number that a statement counted.
pub(super) fn counted(rows: Vec<Row>) -> u64 {
    rows.into_iter().next().and_then(|row| count(row.into_iter().next()?)).unwrap_or(0)
}

pub(super) fn bytes(value: Value) -> Option<Vec<u8>> {
    if let Value::Bytes(bytes) = value { Some(bytes) } else { None }
}

pub(super) fn count(value: Value) -> Option<u64> {
    if let Value::Integer(number) = value { number.try_into().ok() } else { None }
}

fn text(value: Value) -> Option<String> {
    if let Value::Text(text) = value { Some(text) } else { None }
}

fn real(value: Value) -> Option<f64> {
    if let Value::Real(number) = value { Some(number) } else { None }
}
