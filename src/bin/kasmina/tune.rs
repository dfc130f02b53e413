//! `kasmina tune`: finds by measuring how the kernels of some blueprints are best cut, for layers to use from then on.

use crate::compile::{data_types, passes};
use crate::table::Table;
use crate::{output, source};
use kasmina::compile::{Pass, Tiling, kernel_class};
use kasmina::device::{self, DeviceKind};
use kasmina::graph::{Blueprint, DataType};
use kasmina::store::TuningDatabase;
use kasmina::tune::{self, Outcome, Progress, Work};
use kasmina::{Result, fail};
use serde_json::json;
use std::io::{IsTerminal, Write, stderr};
use std::time::{Duration, Instant};

/// Find by measuring how the kernels of blueprints are best cut on a device, and keep it for layers to use
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    blueprints: source::Blueprints,
    /// What to tune; all three if not given
    #[arg(long, value_parser = passes())]
    pass: Option<Pass>,
    /// The element type of the layer's tensors
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = data_types())]
    dtype: DataType,
    /// Let a backward kernel compute the gradient of alpha
    #[arg(long)]
    alpha_gradient: bool,
    /// For layers that allow f32 to be rounded to TF32 in products (the setting `allow_tf32`)
    #[arg(long)]
    tf32: bool,
    /// Rows of the layer's tensors, such as batch times sequence
    #[arg(long, value_name = "N", default_value_t = 4096)]
    rows: usize,
    /// Seeds of the layer
    #[arg(long, value_name = "N", default_value_t = 64)]
    seeds: usize,
    /// How many of them run a blueprint; half of them if not given
    #[arg(long, value_name = "N")]
    running: Option<usize>,
    /// `cpu`, or `cuda` with a number as in `cuda:0`
    #[arg(long, default_value = "cpu", value_parser = device)]
    device: DeviceKind,
    /// About how long to look, for each pass; asked again, it goes on where it stopped
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    seconds: f64,
    /// For programs
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let Ok(budget) = Duration::try_from_secs_f64(arguments.seconds) else {
        fail!(InvalidArgument, "--seconds {} is no time to look for", arguments.seconds);
    };
    let blueprints = arguments.blueprints.read()?;
    let blueprints: Vec<&Blueprint> = blueprints.iter().collect();
    let device = device::open(arguments.device)?;
    let Some(database) = TuningDatabase::from_environment() else {
        fail!(InvalidArgument, "KASMINA_TUNING_DB is `off`, so nothing could be kept; unset it, or name a place");
    };
    let running = arguments.running.unwrap_or(arguments.seeds.div_ceil(2));
    let work = Work { rows: arguments.rows, seeds: arguments.seeds, running };
    let passes = arguments.pass.map_or(vec![Pass::Forward, Pass::Backward, Pass::Train], |pass| vec![pass]);
    let mut found = Vec::new();
    for pass in passes {
        let exact = kernel_class(pass, arguments.dtype, arguments.alpha_gradient, &blueprints)?;
        let class = exact.with_tf32(arguments.tf32, device.architecture());
        let mut teller = Teller::new(pass);
        let outcome = tune::tune(&device, &class, &blueprints, work, budget, Some(&database), &mut |progress| {
            teller.tell(progress)
        });
        teller.end();
        found.push((pass, outcome?));
    }
    output::text(&if arguments.json { as_json(&found) } else { as_table(&found) }, None)?;
    if let Some(fault) = database.statistics().fault {
        fail!(StorageFailed, "what was found could not be kept in {}: {fault}", database.place());
    }
    Ok(())
}

/// Says on standard error how far a tuning is, every two seconds; on a terminal in one line.
struct Teller {
    pass: Pass,
    last: Instant,
    open: bool,
}

impl Teller {
    fn new(pass: Pass) -> Teller {
        Teller { pass, last: Instant::now(), open: false }
    }

    fn tell(&mut self, progress: Progress) {
        if self.last.elapsed() < Duration::from_secs(2) {
            return;
        }
        self.last = Instant::now();
        let (pass, Progress { timed, best, left }) = (self.pass.name(), progress);
        let (seconds, left) = (microseconds(best.seconds), left.as_secs());
        let line = format!("{pass}: {timed} tilings timed, the best takes {seconds} us; {left} s left");
        self.open = stderr().is_terminal();
        // Where standard error is closed, there is nobody to tell.
        let _ = if self.open { write!(stderr(), "\r\x1b[K{line}") } else { writeln!(stderr(), "{line}") };
    }

    fn end(&mut self) {
        if std::mem::take(&mut self.open) {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }
}

fn as_table(found: &[(Pass, Outcome)]) -> String {
    let heading = ["pass", "planned us", "best us", "gain", "timed", "known", "refused", "tiling"];
    let mut table = Table::new(&heading);
    for (pass, outcome) in found {
        let Outcome { planned, best, timed, known, refused, .. } = outcome;
        let gain = format!("{:.2}x", planned.seconds / best.seconds);
        let is_planned = best.tiling == planned.tiling;
        let tiling = if is_planned { "as planned".to_owned() } else { describe(best.tiling) };
        let counts = [*timed, *known, refused.len()].map(|count| count.to_string());
        let times = [planned, best].map(|measured| microseconds(measured.seconds));
        table.row([vec![pass.name().to_owned()], times.to_vec(), vec![gain], counts.to_vec(), vec![tiling]].concat());
    }
    let mut text = table.print("");
    if found.iter().any(|(_, outcome)| !outcome.finished) {
        text += "\nThe time was up before everything was tried; the same command goes on from here.\n";
    }
    text
}

fn as_json(found: &[(Pass, Outcome)]) -> String {
    let one = |(pass, outcome): &(Pass, Outcome)| {
        let measured = |measured: &tune::Measured| {
            let tune::Measured { tiling, seconds, spread, samples } = measured;
            json!({"tiling": tiling, "seconds": seconds, "spread": spread, "samples": samples})
        };
        let refused = outcome.refused.iter().map(|(tiling, reason)| json!({"tiling": tiling, "reason": reason}));
        json!({
            "pass": pass.name(),
            "planned": measured(&outcome.planned),
            "best": measured(&outcome.best),
            "timed": outcome.timed,
            "known": outcome.known,
            "refused": refused.collect::<Vec<_>>(),
            "finished": outcome.finished,
        })
    };
    format!("{:#}\n", json!(found.iter().map(one).collect::<Vec<_>>()))
}

/// A tiling in words, without what has no part in it.
fn describe(tiling: Tiling) -> String {
    let Tiling { fragments, rows, threads, blocks, stages, waves } = tiling;
    let numbers = [("rows", rows), ("threads", threads), ("blocks", blocks), ("stages", stages), ("waves", waves)];
    let numbers = numbers.iter().filter(|(_, number)| *number > 0).map(|(name, number)| format!("{name} {number}"));
    numbers.chain(fragments.then(|| "in fragments".to_owned())).collect::<Vec<_>>().join(", ")
}

fn microseconds(seconds: f64) -> String {
    format!("{:.1}", seconds * 1e6)
}

fn device(text: &str) -> std::result::Result<DeviceKind, String> {
    match text.split_once(':') {
        None if text == "cpu" => Ok(DeviceKind::Cpu),
        None if text == "cuda" => Ok(DeviceKind::Cuda(0)),
        Some(("cuda", number)) if number.parse::<u32>().is_ok() => Ok(DeviceKind::Cuda(number.parse().unwrap_or(0))),
        _ => Err("a device is `cpu`, `cuda` or `cuda:` and a number".into()),
    }
}
