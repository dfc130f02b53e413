//! `kasmina tuning`: what is in the tuning database, and how to carry it elsewhere.

use crate::output;
use crate::table::Table;
use clap::Subcommand;
use kasmina::store::{Tuned, TuningDatabase, TuningLimits, TuningPlace};
use kasmina::{Result, error, fail};
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Letters of a schedule in a table.
const SHORT: usize = 48;

/// Look at the tuning database, and carry it elsewhere
#[derive(clap::Args)]
pub struct Arguments {
    /// The database, if not the one that KASMINA_TUNING_DB names: a file, or postgres://...
    #[arg(long, value_name = "PLACE", global = true)]
    database: Option<OsString>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the problems, each with its best schedule
    Ls,
    /// Write everything to a file of text
    Export {
        /// The file to write
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Add what such a file has; of two measurements of one schedule the later stays
    Import {
        /// The file to read
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Remove everything
    Clear,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let place = match &arguments.database {
        Some(named) => TuningPlace::named(named),
        None => TuningPlace::from_environment(),
    };
    let place = match place {
        Some(TuningPlace::Memory) | None => fail!(
            InvalidArgument,
            "there is no tuning database that lasts; set KASMINA_TUNING_DB or KASMINA_CACHE_DIR, or give --database"
        ),
        Some(place) => place,
    };
    let database = TuningDatabase::new(place, TuningLimits::default());
    if let Some(fault) = database.statistics().fault {
        fail!(StorageFailed, "the tuning database {} cannot be used: {fault}", database.place());
    }
    match &arguments.action {
        Action::Ls => output::text(&list(&database)?, None),
        Action::Export { file } => export(&database, file),
        Action::Import { file } => import(&database, file),
        Action::Clear => {
            let problems = database.clear()?;
            output::text(&format!("{}: {problems} problems removed\n", database.place()), None)
        }
    }
}

fn list(database: &TuningDatabase) -> Result<String> {
    let mut table = Table::new(&["kernel", "kind", "device", "rows", "seeds", "tried", "best us", "schedule"]);
    let mut problems = 0;
    database.each(|Tuned { problem, candidates, .. }| {
        problems += 1;
        let best = candidates.first().filter(|candidate| candidate.valid);
        let digits = problem.class[..6].iter().map(|byte| format!("{byte:02x}"));
        table.row([
            digits.collect(),
            problem.kind,
            problem.device,
            problem.rows.to_string(),
            problem.seeds.to_string(),
            candidates.len().to_string(),
            best.map_or("none".into(), |best| format!("{:.1}", best.seconds * 1e6)),
            best.map_or(String::new(), |best| best.schedule.chars().take(SHORT).collect()),
        ]);
        Ok(())
    })?;
    let rows = if problems == 0 { String::new() } else { table.print("") + "\n" };
    Ok(format!("{rows}{}: {problems} problems\n", database.place()))
}

fn export(database: &TuningDatabase, path: &Path) -> Result<()> {
    let mut text = Vec::new();
    let problems = database.export(&mut text)?;
    let path_name = path.display();
    fs::write(path, text).map_err(|cause| error!(StorageFailed, "{path_name} cannot be written").caused_by(cause))?;
    output::text(&format!("{path_name}: {problems} problems\n"), None)
}

fn import(database: &TuningDatabase, path: &Path) -> Result<()> {
    let name = path.display();
    let file = File::open(path).map_err(|cause| error!(StorageFailed, "{name} cannot be read").caused_by(cause))?;
    let imported = database.import(&mut BufReader::new(file)).map_err(|error| error.context(name))?;
    let text =
        format!("{}: {} candidates are new, of {} lines\n", database.place(), imported.candidates, imported.lines);
    output::text(&text, None)
}
