//! A tuning database as text, for other machines: a line that says what it is, then a line of JSON for each problem. Whatever
//! bytes come are read, and nothing of them is believed before it was checked.

use super::database::TuningDatabase;
use super::problem::{Tuned, now};
use super::queries::Replace;
use crate::{Result, error, fail};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, Read, Write};

/// The version of the text.
const VERSION: u32 = 1;

/// Candidates on one line. A problem with more of them has several lines.
const TOGETHER: usize = 64;

/// Bytes of a line, at most. So many candidates of the longest schedules fit, however they are written.
const LONGEST: u64 = 1 << 25;

/// The first line.
#[derive(Serialize, Deserialize)]
struct Head {
    kasmina_tuning: u32,
}

/// What an import has brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TuningImported {
    /// Lines that were read, of which each is of one problem.
    pub lines: u64,
    /// Candidates that were not there, or only an older measurement of them.
    pub candidates: u64,
}

impl TuningDatabase {
    /// Writes everything as text. Returns how many problems there are.
    ///
    /// # Errors
    ///
    /// `StorageFailed` if the database cannot be read or the text not be written.
    pub fn export(&self, output: &mut impl Write) -> Result<u64> {
        write_line(output, &Head { kasmina_tuning: VERSION })?;
        let mut problems = 0;
        self.each(|tuned| {
            problems += 1;
            let Tuned { problem, features, candidates } = tuned;
            candidates.chunks(TOGETHER).try_for_each(|part| {
                let (problem, features) = (problem.clone(), features.clone());
                write_line(output, &Tuned { problem, features, candidates: part.to_vec() })
            })
        })?;
        Ok(problems)
    }

    /// Adds what [`TuningDatabase::export`] has written. Of two measurements of one schedule the later stays.
    ///
    /// # Errors
    ///
    /// `FileCorrupted` and `FileTooNew` if it is no such text, `StorageFailed` if it cannot be read or the database not be
    /// written. What stands before the line that the error names is added.
    pub fn import(&self, input: &mut impl BufRead) -> Result<TuningImported> {
        let head = next_line(input, 1)?.unwrap_or_default();
        let Ok(Head { kasmina_tuning: version }) = serde_json::from_slice(&head) else {
            fail!(FileCorrupted, "line 1: these are no tuned schedules; `kasmina tuning export` writes them");
        };
        if version != VERSION {
            fail!(FileTooNew, "line 1: it is of version {version}, and this library reads {VERSION}");
        }
        let mut imported = TuningImported::default();
        for number in 2.. {
            let Some(line) = next_line(input, number)? else { break };
            let mut tuned: Tuned = serde_json::from_slice(&line)
                .map_err(|cause| error!(FileCorrupted, "line {number} is not a tuned problem").caused_by(cause))?;
            // A measurement to come would never be replaced.
            let time = now();
            tuned.candidates.iter_mut().for_each(|candidate| candidate.measured_at = candidate.measured_at.min(time));
            let kept = self
                .keep(&tuned, Replace::Older)
                .map_err(|cause| error!(FileCorrupted, "line {number} cannot be kept").caused_by(cause))?;
            let Some(candidates) = kept else {
                let fault = self.statistics().fault.unwrap_or_default();
                fail!(
                    StorageFailed,
                    "line {number} cannot be written to the tuning database {}: {fault}",
                    self.place()
                );
            };
            imported.lines += 1;
            imported.candidates += candidates;
        }
        Ok(imported)
    }
}

fn write_line(output: &mut impl Write, line: &impl Serialize) -> Result<()> {
    let mut bytes = serde_json::to_vec(line)
        .map_err(|cause| error!(StorageFailed, "a tuned problem cannot be written").caused_by(cause))?;
    bytes.push(b'\n');
    output
        .write_all(&bytes)
        .map_err(|cause| error!(StorageFailed, "the tuned schedules cannot be written").caused_by(cause))
}

/// The next line without its end; `None` after the last.
fn next_line(input: &mut impl BufRead, number: u64) -> Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input
        .take(LONGEST)
        .read_until(b'\n', &mut line)
        .map_err(|cause| error!(StorageFailed, "line {number} cannot be read").caused_by(cause))?;
    match line.pop() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(line)),
        Some(_) if line.len() as u64 + 1 == LONGEST => {
            fail!(FileCorrupted, "line {number} has more than {LONGEST} bytes")
        }
        Some(_) => fail!(FileCorrupted, "line {number} is cut short; export it again"),
    }
}
