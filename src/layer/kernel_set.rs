//! The kernels for one set of live blueprints: one for each pass and row type, compiled when asked for and loaded between
//! epochs or at first use. Which set runs is the business of [`super::kernels`].

use crate::compile::{self, KernelClass, Pass, Schedule, Ticket};
use crate::device::{Buffer, Device, Kernel, Stream};
use crate::graph::{Blueprint, DataType};
use crate::validate::validate;
use crate::{Error, Result, error};
use parking_lot::Mutex;
use std::array;
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// How many blueprints a layer can know: the length of every `branch` array.
pub(super) const MAXIMUM_BLUEPRINTS: usize = 256;

/// Kinds of kernels: four row types, and for each a forward, two backward and a training kernel.
const KINDS: usize = 16;

/// What a kernel of a set is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub pass: Pass,
    pub data_type: DataType,
    alpha_gradient: bool,
}

impl Kind {
    /// Forward over rows of a type.
    pub fn forward(data_type: DataType) -> Kind {
        Kind { pass: Pass::Forward, data_type, alpha_gradient: false }
    }

    /// Backward, with or without the gradient of alpha.
    pub fn backward(data_type: DataType, alpha_gradient: bool) -> Kind {
        Kind { pass: Pass::Backward, data_type, alpha_gradient }
    }

    /// Isolated training.
    pub fn train(data_type: DataType) -> Kind {
        Kind { pass: Pass::Train, data_type, alpha_gradient: false }
    }

    /// A number below [`KINDS`].
    pub fn index(self) -> usize {
        let data_type = match self.data_type {
            DataType::F16 => 1,
            DataType::BF16 => 2,
            DataType::F64 => 3,
            _ => 0,
        };
        let pass = match (self.pass, self.alpha_gradient) {
            (Pass::Forward, _) => 0,
            (Pass::Backward, false) => 1,
            (Pass::Backward, true) => 2,
            (Pass::Train, _) => 3,
        };
        4 * data_type + pass
    }

    /// Every kind.
    pub fn all() -> impl Iterator<Item = Kind> {
        [DataType::F32, DataType::F16, DataType::BF16, DataType::F64].into_iter().flat_map(|data_type| {
            [
                Kind::forward(data_type),
                Kind::backward(data_type, false),
                Kind::backward(data_type, true),
                Kind::train(data_type),
            ]
        })
    }
}

/// The kernels for one set of live blueprints.
pub(super) struct KernelSet {
    /// The blueprints' indices, ascending; a blueprint's branch is its position here.
    pub members: Vec<u32>,
    /// `[MAXIMUM_BLUEPRINTS]` i32: branch by blueprint, or -1.
    pub branch: Buffer,
    blueprints: Vec<Arc<Blueprint>>,
    chunk: usize,
    device: Arc<dyn Device>,
    kernels: [OnceLock<Kernel>; KINDS],
    progress: Mutex<[Progress; KINDS]>,
}

/// How far the background has got with a kernel that is not loaded.
#[derive(Default)]
enum Progress {
    #[default]
    Idle,
    Requested(Request),
    Failed(Error),
}

/// A kernel that was asked for: what of, and where it comes.
struct Request {
    class: KernelClass,
    ticket: Ticket,
}

impl KernelSet {
    /// Nothing of it is compiled yet.
    pub fn new(
        members: &BTreeSet<u32>,
        blueprints: Vec<Arc<Blueprint>>,
        chunk: usize,
        device: &Arc<dyn Device>,
        stream: Stream,
    ) -> Result<KernelSet> {
        let mut branches = [-1i32; MAXIMUM_BLUEPRINTS];
        for (branch, member) in members.iter().enumerate() {
            branches[*member as usize] = branch as i32;
        }
        let bytes: Vec<u8> = branches.iter().flat_map(|branch| branch.to_le_bytes()).collect();
        let branch = Buffer::new(device, bytes.len())?;
        device.upload(branch.address(), &bytes, stream)?;
        Ok(KernelSet {
            members: members.iter().copied().collect(),
            branch,
            blueprints,
            chunk,
            device: device.clone(),
            kernels: array::from_fn(|_| OnceLock::new()),
            progress: Mutex::new(array::from_fn(|_| Progress::default())),
        })
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
        let mut progress = self.progress.lock();
        if slot.get().is_none() {
            log::info!("compiling the {} now, because it is needed at once", self.name(kind));
            let request = match std::mem::take(&mut progress[kind.index()]) {
                Progress::Requested(request) => request,
                _ => self.ask(kind)?,
            };
            let kernel = self.load(kind, &request, stream)?;
            let _ = slot.set(kernel);
        }
        slot.get().ok_or_else(|| error!(NotReady, "the {} could not be kept", self.name(kind)))
    }

    /// Whether the kernels of these kinds are compiled. Those that nobody asked for yet are asked for.
    ///
    /// # Errors
    ///
    /// `NotReady` while one is being compiled; the compiler's error if it failed: the next call asks again. What cannot
    /// be loaded stays refused until [`KernelSet::collect`] is called again.
    pub fn readiness(&self, kinds: &[Kind]) -> Result<()> {
        let mut progress = self.progress.lock();
        let mut waiting = None;
        for &kind in kinds {
            let index = kind.index();
            if self.kernels[index].get().is_some() {
                continue;
            }
            let request = match std::mem::take(&mut progress[index]) {
                Progress::Failed(error) => {
                    progress[index] = Progress::Failed(error.clone());
                    return Err(error.context(self.name(kind)));
                }
                Progress::Requested(request) => request,
                Progress::Idle => self.ask(kind)?,
            };
            match request.ticket.poll() {
                Some(Err(error)) => return Err(error.context(self.name(kind))),
                None => waiting = Some(kind),
                Some(Ok(_)) => {}
            }
            progress[index] = Progress::Requested(request);
        }
        match waiting {
            Some(kind) => Err(error!(NotReady, "the {} is still being compiled", self.name(kind))),
            None => Ok(()),
        }
    }

    /// Loads what the background has finished, and forgets what could not be loaded the last time. Only between epochs:
    /// loading may wait for the device.
    pub fn collect(&self, stream: Stream) {
        let mut progress = self.progress.lock();
        for kind in Kind::all() {
            let index = kind.index();
            progress[index] = match std::mem::take(&mut progress[index]) {
                Progress::Requested(request) if request.ticket.poll().is_some() => {
                    match self.load(kind, &request, stream) {
                        Ok(kernel) => {
                            let _ = self.kernels[index].set(kernel);
                            Progress::Idle
                        }
                        Err(error) => {
                            log::warn!("the {} cannot be used: {error}", self.name(kind));
                            Progress::Failed(error)
                        }
                    }
                }
                Progress::Failed(_) => Progress::Idle,
                other => other,
            };
        }
    }

    /// Whether it could run launches of these kinds at once.
    pub fn is_loaded(&self, kinds: &[Kind]) -> bool {
        kinds.iter().all(|kind| self.kernels[kind.index()].get().is_some())
    }

    /// Whether it serves all of these blueprints.
    pub fn contains(&self, blueprints: &BTreeSet<u32>) -> bool {
        blueprints.iter().all(|blueprint| self.members.binary_search(blueprint).is_ok())
    }

    fn class(&self, kind: Kind) -> Result<KernelClass> {
        if self.blueprints.is_empty() {
            // Identity for all seeds: no blueprint, no program.
            let Kind { pass, data_type, .. } = kind;
            let (schedule, chunk) = (Schedule::Best, self.chunk);
            return Ok(KernelClass { pass, schedule, data_type, chunk, programs: Vec::new(), frozen: Vec::new() });
        }
        let blueprints: Vec<&Blueprint> = self.blueprints.iter().map(Arc::as_ref).collect();
        compile::kernel_class(kind.pass, kind.data_type, kind.alpha_gradient, &blueprints)
    }

    fn ask(&self, kind: Kind) -> Result<Request> {
        let class = self.class(kind).map_err(|error| error.context(self.name(kind)))?;
        let ticket = compile::pipeline().request(class.clone(), self.device.architecture());
        Ok(Request { class, ticket })
    }

    /// Loads a kernel and proves it: one that is refused is never used.
    fn load(&self, kind: Kind, Request { class, ticket }: &Request, stream: Stream) -> Result<Kernel> {
        let artifact = ticket.wait().map_err(|error| error.context(self.name(kind)))?;
        let kernel = self.device.load(class, &artifact.machine_code)?;
        let blueprints: Vec<&Blueprint> = self.blueprints.iter().map(Arc::as_ref).collect();
        validate(&self.device, &artifact.key, class, &kernel, &blueprints, stream)
            .map_err(|error| error.context(self.name(kind)))?;
        Ok(kernel)
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
