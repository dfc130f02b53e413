//! Goes from the planner's tiling to better ones, one number at a time, until no other value of any number is better or the
//! time is up.

use super::bench::{Bench, STREAM, Work};
use super::{can_be, problem, read, write};
use crate::compile::{KernelClass, Schedule, Tiling, alternatives, is_of_the_kernel, pipeline, tiling};
use crate::device::{Device, Kernel};
use crate::graph::{Blueprint, Features};
use crate::store::{Candidate, DiskCache, Problem, TuningDatabase};
use crate::validate::validate;
use crate::{Result, Status, fail};
use log::{debug, info};
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Launches before the first that counts.
const WARM_UP: usize = 2;
/// Launches that are timed, unless they take longer together than [`PATIENCE`].
const SAMPLES: usize = 15;
/// Launches of the winner and the planner's kernel that are timed in turn at the end. What has so many samples was confirmed,
/// and nothing else is given to layers.
pub(super) const CONFIRMED: usize = 2 * SAMPLES;
/// The fewest of which a median means anything.
const LEAST_SAMPLES: usize = 5;
const PATIENCE: Duration = Duration::from_millis(500);
/// After [`LEAST_SAMPLES`], one that is slower than the best by this factor in all of them is given up.
const HOPELESS: f64 = 1.3;
/// What a tiling must be faster by, or it is noise: both are timed in turn for this at the end.
const WORTH: f64 = 0.98;
/// How similar another graph must be for its tiling to be a place to begin at.
const SIMILAR: f64 = 0.8;
/// How many of those are tried.
const NEIGHBOURS: usize = 3;

/// A tiling and how long a launch of it takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    /// How the work is cut.
    pub tiling: Tiling,
    /// Median of a launch, in seconds.
    pub seconds: f64,
    /// From the first to the third quartile, in seconds.
    pub spread: f64,
    /// How many launches were timed.
    pub samples: usize,
}

/// What a tuning came to.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// What the planner chooses by rule.
    pub planned: Measured,
    /// What is used from now on: the planner's where nothing else is clearly faster. Timed in turn with `planned`.
    pub best: Measured,
    /// Tilings that were timed this time.
    pub timed: usize,
    /// Tilings whose times were known from before.
    pub known: usize,
    /// Tilings that could not be compiled, loaded or proven, with what was wrong.
    pub refused: Vec<(Tiling, String)>,
    /// Whether every other value of every number was tried; else the time was up, and another call goes on.
    pub finished: bool,
}

/// How far a tuning is.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Tilings that were timed so far.
    pub timed: usize,
    /// The best of them.
    pub best: Measured,
    /// What is left of the time.
    pub left: Duration,
}

/// Looks for the tiling with which a kernel does this work fastest, for at most about so long, and keeps all it measures.
///
/// `class` is in the planner's schedule and has the programs of `blueprints`, in their order. Compiles through the pipeline
/// and waits for it. Tunings that share a cache directory time one after the other; nobody else should use the device
/// meanwhile.
///
/// # Errors
///
/// `Unsupported` while the device's default stream records a graph; whatever keeps the planner's own kernel from running.
pub fn tune(
    device: &Arc<dyn Device>,
    class: &KernelClass,
    blueprints: &[&Blueprint],
    work: Work,
    budget: Duration,
    database: Option<&TuningDatabase>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Outcome> {
    if device.is_capturing(STREAM) {
        fail!(Unsupported, "nothing can be tuned while a CUDA graph is recorded; tune before or after");
    }
    // A time without end is none.
    let until = Instant::now().checked_add(budget);
    let problem = problem(class, device.as_ref(), work)?;
    let features = Features::of(blueprints.iter().map(|blueprint| &blueprint.graph));
    let known = database.map(|database| database.candidates(&problem)).unwrap_or_default();
    let known = known.into_iter().filter_map(|candidate| Some((read(&candidate.schedule)?, candidate))).collect();
    let bench = Bench::new(device, class, blueprints, work)?;
    let planned = tiling(class, device.architecture())?;
    let mut search = Search {
        bench,
        device,
        class,
        blueprints,
        problem,
        features,
        database,
        cache: DiskCache::from_environment(),
        until,
        planned,
        known,
        visited: HashSet::from([planned]),
        timed: 0,
        from_before: 0,
        refused: Vec::new(),
        progress,
        best: None,
    };
    let kernel = search.kernel(planned)?;
    let first = search.sample(&kernel, planned, f64::INFINITY)?;
    search.keep(first)?;
    search.begin_at_neighbours()?;
    let finished = search.climb()?;
    search.conclude(finished)
}

struct Search<'a> {
    bench: Bench<'a>,
    device: &'a Arc<dyn Device>,
    class: &'a KernelClass,
    blueprints: &'a [&'a Blueprint],
    problem: Problem,
    features: Features,
    database: Option<&'a TuningDatabase>,
    /// Its directory is taken while something is timed.
    cache: Option<DiskCache>,
    until: Option<Instant>,
    planned: Tiling,
    /// What was tried another time.
    known: HashMap<Tiling, Candidate>,
    visited: HashSet<Tiling>,
    timed: usize,
    from_before: usize,
    refused: Vec<(Tiling, String)>,
    progress: &'a mut dyn FnMut(Progress),
    best: Option<Measured>,
}

impl Search<'_> {
    /// Tries what served similar graphs best.
    fn begin_at_neighbours(&mut self) -> Result<()> {
        let Some(database) = self.database else { return Ok(()) };
        let neighbours = database.neighbours(&self.problem, &self.features, SIMILAR);
        let architecture = self.device.architecture();
        let tilings = neighbours.iter().filter_map(|neighbour| read(&neighbour.best.schedule));
        let tilings: Vec<Tiling> = tilings.filter(|tiling| can_be(self.class, architecture, *tiling)).collect();
        tilings.into_iter().take(NEIGHBOURS).try_for_each(|tiling| self.visit(tiling))
    }

    /// Changes one number after the other while that helps; returns whether nothing is left to try.
    fn climb(&mut self) -> Result<bool> {
        loop {
            let Some(before) = self.best else { return Ok(true) };
            for line in 0.. {
                // Each line starts from what the one before found.
                let from = self.best.unwrap_or(before).tiling;
                let lines = alternatives(self.class, self.device.architecture(), from);
                let Some(line) = lines.get(line) else { break };
                self.compile(line);
                for tiling in line {
                    if self.left().is_zero() {
                        return Ok(false);
                    }
                    self.visit(*tiling)?;
                }
            }
            if self.best.is_none_or(|best| best.tiling == before.tiling) {
                return Ok(true);
            }
        }
    }

    /// Times a tiling, if that was not done before.
    fn visit(&mut self, tiling: Tiling) -> Result<()> {
        if !self.visited.insert(tiling) {
            return Ok(());
        }
        if let Some(candidate) = self.known.get(&tiling) {
            self.from_before += 1;
            if !candidate.valid {
                self.refused.push((tiling, "it was refused before".into()));
                return Ok(());
            }
            let Candidate { seconds, spread, samples, .. } = *candidate;
            self.notice(Measured { tiling, seconds, spread, samples: samples as usize });
            return Ok(());
        }
        let best = self.best.map_or(f64::INFINITY, |best| best.seconds);
        match self.kernel(tiling).and_then(|kernel| self.sample(&kernel, tiling, best)) {
            Ok(measured) => self.keep(measured),
            Err(error) if is_of_the_kernel(error.status()) => {
                debug!("{tiling:?} cannot be used: {error}");
                self.refused.push((tiling, error.to_string()));
                self.remember(Candidate::invalid(write(tiling)?))?;
                // A device that failed will fail whatever comes next.
                if error.status() == Status::DeviceFailed { Err(error) } else { Ok(()) }
            }
            Err(error) => Err(error),
        }
    }

    /// Compiles what of these was not tried before, all at once, and waits: nothing is compiled while something is timed.
    fn compile(&self, line: &[Tiling]) {
        if self.left().is_zero() {
            return;
        }
        let is_new = |tiling: &&Tiling| !self.visited.contains(*tiling) && !self.known.contains_key(*tiling);
        let request = |tiling| pipeline().request(self.class_of(tiling), self.device.architecture());
        let tickets: Vec<_> = line.iter().filter(is_new).map(|tiling| request(*tiling)).collect();
        // What goes wrong is told to who asks next.
        tickets.iter().for_each(|ticket| drop(ticket.wait()));
    }

    fn class_of(&self, tiling: Tiling) -> KernelClass {
        let schedule = if tiling == self.planned { Schedule::Best } else { Schedule::Tuned(tiling) };
        KernelClass { schedule, ..self.class.clone() }
    }

    /// Compiles, loads and proves.
    fn kernel(&self, tiling: Tiling) -> Result<Kernel> {
        let class = self.class_of(tiling);
        let artifact = pipeline().compile(class.clone(), self.device.architecture())?;
        let kernel = self.device.load(&class, &artifact.machine_code)?;
        validate(self.device, &artifact.key, &class, &kernel, self.blueprints, STREAM)?;
        Ok(kernel)
    }

    /// Times launches, fewer of them where all are much slower than `best`.
    fn sample(&self, kernel: &Kernel, tiling: Tiling, best: f64) -> Result<Measured> {
        let _alone = self.alone();
        let started = Instant::now();
        let mut seconds = Vec::new();
        for number in 0..WARM_UP + SAMPLES {
            let one = self.bench.time(kernel, number)?;
            if number < WARM_UP {
                continue;
            }
            seconds.push(one);
            let hopeless = seconds.iter().all(|one| *one > best * HOPELESS);
            if seconds.len() >= LEAST_SAMPLES && (hopeless || started.elapsed() > PATIENCE) {
                break;
            }
        }
        Ok(measured(tiling, seconds))
    }

    /// Waits until no other tuning is timing, and keeps others from it.
    fn alone(&self) -> Option<File> {
        self.cache.as_ref()?.take_alone()
    }

    fn keep(&mut self, measured: Measured) -> Result<()> {
        self.timed += 1;
        self.notice(measured);
        self.record(measured)
    }

    fn notice(&mut self, measured: Measured) {
        let best = self.best.filter(|best| best.seconds <= measured.seconds).unwrap_or(measured);
        self.best = Some(best);
        let left = self.left();
        (self.progress)(Progress { timed: self.timed, best, left });
    }

    fn left(&self) -> Duration {
        self.until.map_or(Duration::MAX, |until| until.saturating_duration_since(Instant::now()))
    }

    fn record(&self, measured: Measured) -> Result<()> {
        let Measured { tiling, seconds, spread, samples } = measured;
        self.remember(Candidate::new(write(tiling)?, seconds, spread, samples as u32))
    }

    fn remember(&self, candidate: Candidate) -> Result<()> {
        match self.database {
            Some(database) => database.record(&self.problem, &self.features, &[candidate]),
            None => Ok(()),
        }
    }

    /// Times the planner's tiling and the best in turn, often: the fastest of many is partly luck.
    fn conclude(self, finished: bool) -> Result<Outcome> {
        let best = self.best.map_or(self.planned, |best| best.tiling);
        let kernels = [self.kernel(self.planned)?, self.kernel(best)?];
        let mut seconds = [const { Vec::new() }; 2];
        let alone = self.alone();
        for number in 0..WARM_UP + CONFIRMED {
            for (kernel, seconds) in kernels.iter().zip(&mut seconds) {
                let one = self.bench.time(kernel, number)?;
                if number >= WARM_UP {
                    seconds.push(one);
                }
            }
        }
        drop(alone);
        let [of_planned, of_best] = seconds;
        let planned = measured(self.planned, of_planned);
        let best = measured(best, of_best);
        let is_better = best.tiling != planned.tiling && best.seconds < planned.seconds * WORTH;
        let best = if is_better { best } else { planned };
        self.record(best)?;
        info!(
            "tuned {}: {:.1} us planned, {:.1} us in {:?}",
            self.problem.kind,
            planned.seconds * 1e6,
            best.seconds * 1e6,
            best.tiling
        );
        let (timed, known, refused) = (self.timed, self.from_before, self.refused);
        Ok(Outcome { planned, best, timed, known, refused, finished })
    }
}

/// Median and quartiles.
fn measured(tiling: Tiling, mut seconds: Vec<f64>) -> Measured {
    seconds.sort_by(f64::total_cmp);
    let at = |part: f64| seconds[((seconds.len() - 1) as f64 * part).round() as usize];
    Measured { tiling, seconds: at(0.5), spread: at(0.75) - at(0.25), samples: seconds.len() }
}
