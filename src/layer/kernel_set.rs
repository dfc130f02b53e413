//! The kernels for one set of live blueprints: one for each pass and row type, compiled when asked for and loaded between
//! epochs or at first use. Which set runs is the business of [`super::kernels`], what is tried where a kernel fails that of
//! [`super::ladder`].

use super::kind::{KINDS, Kind};
use super::ladder::{self, Attempt, Failure};
use super::report::{KernelReport, KernelState};
use crate::compile::{self, Artifact, KernelClass, Pass, Schedule};
use crate::device::{Buffer, Device, Kernel, Stream};
use crate::graph::Blueprint;
use crate::tune;
use crate::validate::validate;
use crate::{Error, Result, Status, error};
use parking_lot::Mutex;
use std::array;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

/// How many blueprints a layer can know: the length of every `branch` array.
pub(super) const MAXIMUM_BLUEPRINTS: usize = 256;

/// For how many epochs a set stays that ran and is not needed any more. Launches of it were queued before the first of
/// them; the others are for seeds that come back.
const STAYS: u8 = 2;

/// The kernels for one set of live blueprints.
pub(super) struct KernelSet {
    /// The blueprints' indices, ascending; a blueprint's branch is its position here.
    pub members: Vec<u32>,
    /// `[MAXIMUM_BLUEPRINTS]` i32: branch by blueprint, or -1.
    pub branch: Buffer,
    blueprints: Vec<Arc<Blueprint>>,
    chunk: usize,
    /// Whether products of f32 may be rounded to TF32.
    tf32: bool,
    device: Arc<dyn Device>,
    kernels: [OnceLock<Kernel>; KINDS],
    progress: Mutex<[Progress; KINDS]>,
    /// For how many epochs it stays when it is not needed: none, if it never ran.
    stays: AtomicU8,
    recorded: AtomicBool,
}

/// How far the background has got with a kernel.
#[derive(Default)]
enum Progress {
    #[default]
    Idle,
    Requested(Attempt),
    Loaded(Loaded),
    Failed(Failure),
}

/// What is known of a kernel that is loaded.
struct Loaded {
    schedule: Schedule,
    /// Why not a better schedule.
    reason: Option<Error>,
    /// Keeps the machine code in the memory cache for the next layer of the kind.
    _pin: Arc<Artifact>,
}

impl Progress {
    /// What the pipeline says of a request, if it says anything yet.
    fn poll(&self) -> Option<Result<Arc<Artifact>>> {
        match self {
            Progress::Requested(attempt) => attempt.poll(),
            _ => None,
        }
    }

    /// Whether to ask may give a kernel by now. A compile that took too long goes on by itself.
    fn may_be_asked_again(&self) -> bool {
        match self {
            Progress::Idle | Progress::Failed(Failure::Passing(_)) => true,
            Progress::Failed(Failure::Final(error)) => error.status() == Status::CompileTimedOut,
            Progress::Requested(_) | Progress::Loaded(_) => false,
        }
    }

    /// The request, if it is one; what stays then must be replaced.
    fn take_request(&mut self) -> Option<Attempt> {
        match std::mem::take(self) {
            Progress::Requested(attempt) => Some(attempt),
            other => {
                *self = other;
                None
            }
        }
    }
}

impl KernelSet {
    /// Nothing of it is compiled yet.
    pub fn new(
        members: &BTreeSet<u32>,
        blueprints: Vec<Arc<Blueprint>>,
        chunk: usize,
        tf32: bool,
        device: &Arc<dyn Device>,
        stream: Stream,
    ) -> Result<KernelSet> {
        let members: Vec<u32> = members.iter().copied().collect();
        let bytes = branches(&members);
        let branch = Buffer::new(device, bytes.len())?;
        device.upload(branch.address(), &bytes, stream)?;
        Ok(KernelSet {
            members,
            branch,
            blueprints,
            chunk,
            tf32,
            device: device.clone(),
            kernels: array::from_fn(|_| OnceLock::new()),
            progress: Mutex::new(array::from_fn(|_| Progress::default())),
            stays: AtomicU8::new(0),
            recorded: AtomicBool::new(false),
        })
    }

    /// What its array of branches must hold.
    pub fn branches(&self) -> Vec<u8> {
        branches(&self.members)
    }

    /// The kernel of a kind. If it is not loaded, it is compiled now, which is waited for.
    ///
    /// # Errors
    ///
    /// `NotReady` if it is not loaded and the stream is capturing; `CompileFailed` and others from compiling it.
    pub fn kernel(&self, kind: Kind, stream: Stream) -> Result<&Kernel> {
        match self.kernels[kind.index()].get() {
            Some(kernel) => Ok(kernel),
            None => self.load_now(kind, stream),
        }
    }

    #[cold]
    fn load_now(&self, kind: Kind, stream: Stream) -> Result<&Kernel> {
        if self.device.is_capturing(stream) {
            return Err(error!(
                NotReady,
                "the {} is not loaded and the stream is capturing a graph; call prepare before the capture",
                self.name(kind)
            ));
        }
        let slot = &self.kernels[kind.index()];
        let progress = &mut self.progress.lock()[kind.index()];
        if slot.get().is_none() {
            log::info!("compiling the {} now, because it is needed at once", self.name(kind));
            if progress.may_be_asked_again() {
                *progress = self.ask(kind);
            }
            while let Some(attempt) = progress.take_request() {
                *progress = self.settle(kind, attempt, stream);
            }
            if let Progress::Failed(failure) = progress {
                return Err(failure.error().clone().context(self.name(kind)));
            }
        }
        slot.get().ok_or_else(|| error!(NotReady, "the {} could not be kept", self.name(kind)))
    }

    /// Whether the kernels of these kinds are compiled. Those that nobody asked for yet are asked for, and so is the next
    /// schedule of one that failed.
    ///
    /// # Errors
    ///
    /// `NotReady` while one is being compiled; the reason if one cannot be had. It stays that, for good if no schedule gives
    /// the kernel, else until [`KernelSet::collect`] is called again.
    pub fn readiness(&self, kinds: &[Kind]) -> Result<()> {
        let mut progress = self.progress.lock();
        let mut waiting = None;
        for &kind in kinds {
            let progress = &mut progress[kind.index()];
            if matches!(progress, Progress::Idle) {
                *progress = self.ask(kind);
            }
            while let Some(Err(error)) = progress.poll()
                && let Some(attempt) = progress.take_request()
            {
                *progress = self.step_down(kind, attempt, error);
            }
            match progress {
                Progress::Failed(failure) => return Err(failure.error().clone().context(self.name(kind))),
                Progress::Requested(_) if progress.poll().is_none() => waiting = Some(kind),
                _ => {}
            }
        }
        match waiting {
            Some(kind) => Err(error!(NotReady, "the {} is still being compiled", self.name(kind))),
            None => Ok(()),
        }
    }

    /// Lets the kernels of these kinds be compiled before all others: a seed is to train with them.
    pub fn hurry(&self, kinds: &[Kind]) {
        let progress = self.progress.lock();
        for kind in kinds {
            if let Progress::Requested(attempt) = &progress[kind.index()] {
                attempt.hurry();
            }
        }
    }

    /// Loads and proves what the background has finished, asks for a simpler schedule of what fails, and forgets failures
    /// that may pass. Only between epochs: loading may wait for the device.
    pub fn collect(&self, stream: Stream) {
        let mut progress = self.progress.lock();
        for kind in Kind::all() {
            let progress = &mut progress[kind.index()];
            if matches!(progress, Progress::Failed(Failure::Passing(_))) {
                *progress = Progress::Idle;
            }
            if progress.poll().is_some()
                && let Some(attempt) = progress.take_request()
            {
                *progress = self.settle(kind, attempt, stream);
            }
        }
    }

    /// Whether one of these kernels is given by no schedule: this set will never run.
    pub fn has_failed(&self, kinds: &[Kind]) -> bool {
        let progress = self.progress.lock();
        kinds.iter().any(|kind| matches!(progress[kind.index()], Progress::Failed(Failure::Final(_))))
    }

    /// The kernels that were asked for, and how far they are.
    pub fn report(&self, runs: bool) -> Vec<KernelReport> {
        let progress = self.progress.lock();
        let report = |kind: Kind| {
            let (state, schedule, reason) = match &progress[kind.index()] {
                Progress::Idle => return None,
                Progress::Requested(attempt) => {
                    (KernelState::Waiting, Some(attempt.schedule()), attempt.reason.as_ref())
                }
                Progress::Loaded(loaded) => (KernelState::Ready, Some(loaded.schedule), loaded.reason.as_ref()),
                Progress::Failed(failure) => (KernelState::Failed, None, Some(failure.error())),
            };
            Some(KernelReport {
                pass: kind.pass,
                data_type: kind.data_type,
                alpha_gradient: kind.alpha_gradient,
                blueprints: self.members.clone(),
                runs,
                state,
                schedule,
                reason: reason.map(Error::to_string),
            })
        };
        Kind::all().filter_map(report).collect()
    }

    /// Remembers that launches may use it from now on.
    pub fn mark_run(&self) {
        self.stays.store(STAYS, Ordering::Relaxed);
    }

    /// An epoch ended in which it was not needed. Returns whether it stays all the same.
    pub fn rest(&self) -> bool {
        let left = self.stays.load(Ordering::Relaxed);
        self.stays.store(left.saturating_sub(1), Ordering::Relaxed);
        left > 0
    }

    /// Remembers that a graph has a launch of it.
    pub fn mark_recorded(&self) {
        self.recorded.store(true, Ordering::Relaxed);
    }

    /// Whether a graph has a launch of it, and may repeat it at any time.
    pub fn is_recorded(&self) -> bool {
        self.recorded.load(Ordering::Relaxed)
    }

    /// Whether it could run launches of these kinds at once.
    pub fn is_loaded(&self, kinds: &[Kind]) -> bool {
        kinds.iter().all(|kind| self.kernels[kind.index()].get().is_some())
    }

    /// Whether it serves all of these blueprints.
    pub fn contains(&self, blueprints: &BTreeSet<u32>) -> bool {
        blueprints.iter().all(|blueprint| self.members.binary_search(blueprint).is_ok())
    }

    /// Whether it could run launches of these kinds for all of these blueprints at once.
    pub fn serves(&self, blueprints: &BTreeSet<u32>, kinds: &[Kind]) -> bool {
        self.contains(blueprints) && self.is_loaded(kinds)
    }

    fn class(&self, kind: Kind) -> Result<KernelClass> {
        if self.blueprints.is_empty() {
            // Identity for all seeds: no blueprint, no program.
            let Kind { pass, data_type, .. } = kind;
            let (schedule, chunk, programs, frozen) = (Schedule::Best, self.chunk, Vec::new(), Vec::new());
            return Ok(KernelClass { pass, schedule, data_type, tf32: false, chunk, programs, frozen });
        }
        let blueprints: Vec<&Blueprint> = self.blueprints.iter().map(Arc::as_ref).collect();
        let class = compile::kernel_class(kind.pass, kind.data_type, kind.alpha_gradient, &blueprints)?;
        Ok(class.with_tf32(self.tf32, self.device.architecture()))
    }

    fn ask(&self, kind: Kind) -> Progress {
        match self.class(kind) {
            Ok(planned) => {
                let schedule = tune::schedule(&planned, self.device.as_ref());
                let class = KernelClass { schedule, ..planned };
                Progress::Requested(Attempt::new(class, &self.device))
            }
            Err(error) => Progress::Failed(ladder::give_up(error, &self.name(kind))),
        }
    }

    /// Takes what was asked for as far as it goes: loaded, or one schedule down.
    fn settle(&self, kind: Kind, attempt: Attempt, stream: Stream) -> Progress {
        match self.load(&attempt, stream) {
            Ok((kernel, artifact)) => {
                let _ = self.kernels[kind.index()].set(kernel);
                Progress::Loaded(Loaded { schedule: attempt.schedule(), reason: attempt.reason, _pin: artifact })
            }
            Err(error) => self.step_down(kind, attempt, error),
        }
    }

    fn step_down(&self, kind: Kind, attempt: Attempt, error: Error) -> Progress {
        let next = attempt.step_down(error, &self.name(kind), &self.device);
        next.map_or_else(Progress::Failed, Progress::Requested)
    }

    /// Loads a kernel and proves it: one that is refused is never used, nor offered to anybody again.
    fn load(&self, attempt: &Attempt, stream: Stream) -> Result<(Kernel, Arc<Artifact>)> {
        let artifact = attempt.wait()?;
        let (device, class) = (&self.device, &attempt.class);
        let blueprints: Vec<&Blueprint> = self.blueprints.iter().map(Arc::as_ref).collect();
        let proven = device
            .load(class, &artifact.machine_code)
            .and_then(|kernel| validate(device, &artifact.key, class, &kernel, &blueprints, stream).map(|()| kernel));
        if let Err(error) = &proven
            && matches!(error.status(), Status::ValidationFailed | Status::FileCorrupted)
        {
            compile::pipeline().withdraw(&artifact.key, error);
        }
        Ok((proven?, artifact))
    }

    fn name(&self, kind: Kind) -> String {
        let names: Vec<_> = self.blueprints.iter().map(|blueprint| blueprint.name.as_str()).collect();
        let pass = match kind.pass {
            Pass::Forward => "forward",
            Pass::Backward => "backward",
            Pass::Train => "training",
        };
        format!("{pass} kernel for {} rows and the blueprints [{}]", kind.data_type.name(), names.join(", "))
    }
}

/// By blueprint, its position among the members, or -1.
fn branches(members: &[u32]) -> Vec<u8> {
    let mut branches = [-1i32; MAXIMUM_BLUEPRINTS];
    for (branch, member) in members.iter().enumerate() {
        branches[*member as usize] = branch as i32;
    }
    branches.iter().flat_map(|branch| branch.to_le_bytes()).collect()
}
