//! Schedules that were measured, for this process, the next one and other machines: [`TuningDatabase`].
//!
//! A database never fails who asks it: what cannot be read is not there, what cannot be kept is measured again, and the log
//! and [`TuningStatistics`] say why. A schedule is text that means nothing here; whoever takes one out checks it as if a
//! stranger had written it. This module must know no device, no kernel and nothing of measuring.

mod backend;
mod database;
mod exchange;
mod pivots;
mod place;
#[cfg(feature = "postgres")]
mod postgres;
mod problem;
mod queries;
mod record;
mod schema;
mod sqlite;

pub use database::{TuningDatabase, TuningLimits, TuningStatistics};
pub use exchange::TuningImported;
pub use place::TuningPlace;
pub use problem::{Candidate, Neighbour, Problem, Tuned};
