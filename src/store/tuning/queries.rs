//! The questions and changes of the tuning database, as statements that SQLite and PostgreSQL both take.

use super::backend::{Backend, Failure, Row, Value, transaction};
use super::database::TuningLimits;
use super::pivots;
use super::problem::{Candidate, Neighbour, Problem, Tuned};
use super::record::{bytes, candidate_row, counted, problem_row, read_candidate, read_problem};
use crate::graph::Features;
use std::cmp::Reverse;
use std::time::{SystemTime, UNIX_EPOCH};

/// What is looked up again within so many microseconds is not written down as used again.
const USE: u64 = 3600 * 1_000_000;

/// Problems that are read at a time.
const PAGE: usize = 64;

const KEEP_PROBLEM: &str = "
    INSERT INTO kasmina_problems
        (problem, class, kind, device, generator, compiler, row_count, seed_count, features,
         pivot_0, pivot_1, pivot_2, pivot_3, used_at)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    ON CONFLICT (problem) DO UPDATE SET features = excluded.features, pivot_0 = excluded.pivot_0,
        pivot_1 = excluded.pivot_1, pivot_2 = excluded.pivot_2, pivot_3 = excluded.pivot_3, used_at = excluded.used_at";

const KEEP_CANDIDATE: &str = "
    INSERT INTO kasmina_candidates
        (problem, candidate, schedule, seconds, spread, samples, valid, measured_at, checksum)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
    ON CONFLICT (problem, candidate) DO UPDATE SET schedule = excluded.schedule, seconds = excluded.seconds,
        spread = excluded.spread, samples = excluded.samples, valid = excluded.valid,
        measured_at = excluded.measured_at, checksum = excluded.checksum
    WHERE CAST($10 AS BIGINT) = 1 OR excluded.measured_at > kasmina_candidates.measured_at";

const CANDIDATES: &str = "
    SELECT schedule, seconds, spread, samples, valid, measured_at, checksum FROM kasmina_candidates
    WHERE problem = $1 ORDER BY valid DESC, seconds, candidate";

const BEST: &str = "
    SELECT schedule, seconds, spread, samples, valid, measured_at, checksum FROM kasmina_candidates
    WHERE problem = $1 AND valid = 1 ORDER BY seconds, candidate LIMIT 1";

const SLOWEST: &str = "
    DELETE FROM kasmina_candidates WHERE problem = $1 AND candidate NOT IN
        (SELECT candidate FROM kasmina_candidates WHERE problem = $2 ORDER BY valid DESC, seconds, candidate LIMIT $3)";

const USED: &str = "UPDATE kasmina_problems SET used_at = $1 WHERE problem = $2 AND used_at < $3";

const LEAST_USED: &str = "
    DELETE FROM kasmina_problems WHERE problem IN
        (SELECT problem FROM kasmina_problems WHERE problem <> $1 ORDER BY used_at, problem LIMIT $2)";

const LIKE: &str = "
    SELECT problem, class, kind, device, generator, compiler, row_count, seed_count, features FROM kasmina_problems
    WHERE kind = $1 AND device = $2 AND pivot_0 BETWEEN $3 AND $4 AND pivot_1 BETWEEN $5 AND $6
        AND pivot_2 BETWEEN $7 AND $8 AND pivot_3 BETWEEN $9 AND $10";

const OF_CLASS: &str = "
    SELECT problem, class, kind, device, generator, compiler, row_count, seed_count, features FROM kasmina_problems
    WHERE class = $1 AND device = $2 AND generator = $3 AND compiler = $4 ORDER BY problem";

const AFTER: &str = "
    SELECT problem, class, kind, device, generator, compiler, row_count, seed_count, features FROM kasmina_problems
    WHERE problem > $1 ORDER BY problem LIMIT $2";

/// Whether measurements replace newer ones of the same schedule.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Replace {
    Always,
    Older,
}

/// Keeps a problem with candidates; returns how many were added or changed.
pub(super) fn record(
    backend: &mut dyn Backend,
    tuned: &Tuned,
    replace: Replace,
    limits: &TuningLimits,
) -> Result<u64, Failure> {
    let identity = tuned.problem.identity();
    transaction(backend, |backend| {
        backend.execute(KEEP_PROBLEM, &problem_row(&tuned.problem, &tuned.features, microseconds()))?;
        let mut changed = 0;
        for candidate in &tuned.candidates {
            let mut row = candidate_row(&identity, candidate);
            row.push(Value::Integer((replace == Replace::Always).into()));
            changed += backend.execute(KEEP_CANDIDATE, &row)?;
        }
        drop_slowest(backend, &identity, limits)?;
        drop_least_used(backend, &identity, limits)?;
        Ok(changed)
    })
}

fn drop_slowest(backend: &mut dyn Backend, identity: &[u8; 32], limits: &TuningLimits) -> Result<(), Failure> {
    let problem = Value::Bytes(identity.to_vec());
    let count = "SELECT COUNT(*) FROM kasmina_candidates WHERE problem = $1";
    if counted(backend.query(count, std::slice::from_ref(&problem))?) > limits.candidates {
        backend.execute(SLOWEST, &[problem.clone(), problem, integer(limits.candidates)])?;
    }
    Ok(())
}

fn drop_least_used(backend: &mut dyn Backend, but: &[u8; 32], limits: &TuningLimits) -> Result<(), Failure> {
    let problems = counted(backend.query("SELECT COUNT(*) FROM kasmina_problems", &[])?);
    if problems > limits.problems {
        // Some more than must, so that it is not done for each new one.
        let surplus = problems - limits.problems + limits.problems / 8;
        backend.execute(LEAST_USED, &[Value::Bytes(but.to_vec()), integer(surplus)])?;
    }
    Ok(())
}

/// Everything that was tried, the best first.
pub(super) fn candidates(backend: &mut dyn Backend, problem: &Problem) -> Result<Vec<Candidate>, Failure> {
    let identity = problem.identity();
    let rows = backend.query(CANDIDATES, &[Value::Bytes(identity.to_vec())])?;
    touch(backend, &identity, !rows.is_empty());
    Ok(rows.into_iter().filter_map(|row| read_candidate(&identity, row)).collect())
}

/// The fastest valid candidate.
pub(super) fn best(backend: &mut dyn Backend, problem: &Problem) -> Result<Option<Candidate>, Failure> {
    let identity = problem.identity();
    let found = fastest(backend, &identity)?;
    touch(backend, &identity, found.is_some());
    Ok(found)
}

fn fastest(backend: &mut dyn Backend, identity: &[u8; 32]) -> Result<Option<Candidate>, Failure> {
    let Some(row) = backend.query(BEST, &[Value::Bytes(identity.to_vec())])?.pop() else { return Ok(None) };
    if let Some(candidate) = read_candidate(identity, row) {
        return Ok(Some(candidate));
    }
    // The first is damaged; perhaps the next is whole.
    let rows = backend.query(CANDIDATES, &[Value::Bytes(identity.to_vec())])?;
    Ok(rows.into_iter().filter_map(|row| read_candidate(identity, row)).find(|candidate| candidate.valid))
}

/// Notes that a problem was of use, now and then. An answer is no worse if this cannot be written.
fn touch(backend: &mut dyn Backend, identity: &[u8; 32], found: bool) {
    if found {
        let time = microseconds();
        let values = [integer(time), Value::Bytes(identity.to_vec()), integer(time.saturating_sub(USE))];
        let _ = backend.execute(USED, &values);
    }
}

/// Problems of the same kind and device that are at least so similar and have a best candidate, the most similar first.
pub(super) fn neighbours(
    backend: &mut dyn Backend,
    problem: &Problem,
    features: &Features,
    similarity: f64,
) -> Result<Vec<Neighbour>, Failure> {
    let mut values = vec![Value::Text(problem.kind.clone()), Value::Text(problem.device.clone())];
    for (least, most) in pivots::bounds(features, similarity) {
        values.extend([Value::Real(least), Value::Real(most)]);
    }
    let mut neighbours = Vec::new();
    for row in backend.query(LIKE, &values)? {
        let Some((other, of_other)) = read_problem(row) else { continue };
        let alike = features.similarity(&of_other);
        if alike < similarity || other == *problem {
            continue;
        }
        if let Some(best) = fastest(backend, &other.identity())? {
            neighbours.push(Neighbour { problem: other, similarity: alike, best });
        }
    }
    let shape = |other: &Problem| ratio(other.rows, problem.rows) + ratio(other.seeds, problem.seeds);
    neighbours.sort_by(|one, other| {
        let by_likeness = other.similarity.total_cmp(&one.similarity);
        by_likeness
            .then_with(|| shape(&one.problem).total_cmp(&shape(&other.problem)))
            .then_with(|| Reverse(one.best.measured_at).cmp(&Reverse(other.best.measured_at)))
            .then_with(|| one.problem.identity().cmp(&other.problem.identity()))
    });
    Ok(neighbours)
}

fn ratio(one: u64, other: u64) -> f64 {
    ((1.0 + one as f64) / (1.0 + other as f64)).ln().abs()
}

/// Some problems with their candidates, in a fixed order, after the one of this identity; none after the last.
pub(super) fn page(backend: &mut dyn Backend, after: &[u8]) -> Result<(Vec<Tuned>, Option<Vec<u8>>), Failure> {
    let rows = backend.query(AFTER, &[Value::Bytes(after.to_vec()), integer(PAGE as u64)])?;
    let last = rows.last().and_then(|row: &Row| bytes(row.first()?.clone()));
    Ok((with_candidates(backend, rows)?, last))
}

/// All problems of a class on a device, whatever the shape of their work.
pub(super) fn of_class(backend: &mut dyn Backend, problem: &Problem) -> Result<Vec<Tuned>, Failure> {
    let Problem { class, device, generator, compiler, .. } = problem;
    let texts = [device, generator, compiler].map(|text| Value::Text(text.clone()));
    let rows = backend.query(OF_CLASS, &[vec![Value::Bytes(class.to_vec())], texts.to_vec()].concat())?;
    let tuned = with_candidates(backend, rows)?;
    tuned.iter().for_each(|tuned| touch(backend, &tuned.problem.identity(), true));
    Ok(tuned)
}

fn with_candidates(backend: &mut dyn Backend, problems: Vec<Row>) -> Result<Vec<Tuned>, Failure> {
    let mut tuned = Vec::with_capacity(problems.len());
    for (problem, features) in problems.into_iter().filter_map(read_problem) {
        let identity = problem.identity();
        let candidates = backend.query(CANDIDATES, &[Value::Bytes(identity.to_vec())])?;
        let candidates = candidates.into_iter().filter_map(|row| read_candidate(&identity, row)).collect();
        tuned.push(Tuned { problem, features, candidates });
    }
    Ok(tuned)
}

/// How many problems and candidates there are.
pub(super) fn count(backend: &mut dyn Backend) -> Result<(u64, u64), Failure> {
    let problems = counted(backend.query("SELECT COUNT(*) FROM kasmina_problems", &[])?);
    let candidates = counted(backend.query("SELECT COUNT(*) FROM kasmina_candidates", &[])?);
    Ok((problems, candidates))
}

/// Removes everything; returns how many problems there were.
pub(super) fn clear(backend: &mut dyn Backend) -> Result<u64, Failure> {
    transaction(backend, |backend| backend.execute("DELETE FROM kasmina_problems", &[]))
}

/// Microseconds since 1970: fine enough to tell what was used first.
fn microseconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_micros() as u64)
}

fn integer(number: u64) -> Value {
    Value::Integer(i64::try_from(number).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::LIKE;
    use crate::store::tuning::backend::{Backend, Value};
    use crate::store::tuning::sqlite::Sqlite;

    #[test]
    fn looking_for_what_is_similar_searches_an_index_and_scans_nothing() {
        let mut memory = Sqlite::in_memory().unwrap();
        let question = Box::leak(format!("EXPLAIN QUERY PLAN {LIKE}").into_boxed_str());
        let plan = memory.query(question, &vec![Value::Real(0.0); 10]).unwrap();
        let [row] = &plan[..] else { panic!("{plan:?}") };
        let Some(Value::Text(step)) = row.last() else { panic!("{row:?}") };
        let index = "USING INDEX kasmina_problems_by_likeness (kind=? AND device=? AND pivot_0>? AND pivot_0<?)";
        assert!(step.starts_with("SEARCH") && step.ends_with(index), "{step}");
    }
}
