//! Which kernels a layer runs: one set for each set of live blueprints, one kernel in it for each pass and row type.
//!
//! A set that is needed soon is compiled in the background while another one runs; the swap happens between epochs.
//! Each set keeps its own `branch` array, and none is dropped before the layer: a captured graph that still runs an
//! older set stays consistent, it only knows fewer blueprints.

use crate::compile::{self, KernelClass, Pass, Ticket};
use crate::device::{Buffer, Device, Kernel, Stream};
use crate::graph::{Blueprint, DataType};
use crate::{Error, Result, error};
use parking_lot::Mutex;
use std::array;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

/// How many blueprints a layer can know: the length of every `branch` array.
pub(super) const MAXIMUM_BLUEPRINTS: usize = 256;

/// Kinds of kernels: four row types, and for each a forward, two backward and a training kernel.
const KINDS: usize = 16;

/// What a kernel of a set is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pass: Pass,
    data_type: DataType,
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

    fn index(self) -> usize {
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

    fn all() -> impl Iterator<Item = Kind> {
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
    Requested(Ticket),
    Failed(Error),
}

impl KernelSet {
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
            let ticket = match std::mem::take(&mut progress[kind.index()]) {
                Progress::Requested(ticket) => ticket,
                _ => self.ask(kind)?,
            };
            let kernel = self.load(kind, &ticket)?;
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
            let ticket = match std::mem::take(&mut progress[index]) {
                Progress::Failed(error) => {
                    progress[index] = Progress::Failed(error.clone());
                    return Err(error.context(self.name(kind)));
                }
                Progress::Requested(ticket) => ticket,
                Progress::Idle => self.ask(kind)?,
            };
            match ticket.poll() {
                Some(Err(error)) => return Err(error.context(self.name(kind))),
                None => waiting = Some(kind),
                Some(Ok(_)) => {}
            }
            progress[index] = Progress::Requested(ticket);
        }
        match waiting {
            Some(kind) => Err(error!(NotReady, "the {} is still being compiled", self.name(kind))),
            None => Ok(()),
        }
    }

    /// Loads what the background has finished, and forgets what could not be loaded the last time. Only between epochs:
    /// loading may wait for the device.
    fn collect(&self) {
        let mut progress = self.progress.lock();
        for kind in Kind::all() {
            let index = kind.index();
            progress[index] = match std::mem::take(&mut progress[index]) {
                Progress::Requested(ticket) if ticket.poll().is_some() => match self.load(kind, &ticket) {
                    Ok(kernel) => {
                        let _ = self.kernels[index].set(kernel);
                        Progress::Idle
                    }
                    Err(error) => {
                        log::warn!("the {} cannot be used: {error}", self.name(kind));
                        Progress::Failed(error)
                    }
                },
                Progress::Failed(_) => Progress::Idle,
                other => other,
            };
        }
    }

    fn is_loaded(&self, kinds: &[Kind]) -> bool {
        kinds.iter().all(|kind| self.kernels[kind.index()].get().is_some())
    }

    fn contains(&self, blueprints: &BTreeSet<u32>) -> bool {
        blueprints.iter().all(|blueprint| self.members.binary_search(blueprint).is_ok())
    }

    fn class(&self, kind: Kind) -> Result<KernelClass> {
        if self.blueprints.is_empty() {
            // Identity for all seeds: no blueprint, no program.
            let Kind { pass, data_type, .. } = kind;
            return Ok(KernelClass { pass, data_type, chunk: self.chunk, programs: Vec::new(), frozen: Vec::new() });
        }
        let blueprints: Vec<&Blueprint> = self.blueprints.iter().map(Arc::as_ref).collect();
        compile::kernel_class(kind.pass, kind.data_type, kind.alpha_gradient, &blueprints)
    }

    fn ask(&self, kind: Kind) -> Result<Ticket> {
        let class = self.class(kind).map_err(|error| error.context(self.name(kind)))?;
        Ok(compile::pipeline().request(class, self.device.architecture()))
    }

    fn load(&self, kind: Kind, ticket: &Ticket) -> Result<Kernel> {
        let artifact = ticket.wait().map_err(|error| error.context(self.name(kind)))?;
        self.device.load(&self.class(kind)?, &artifact.machine_code)
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

/// All sets of a layer and which of them runs.
pub(super) struct Kernels {
    device: Arc<dyn Device>,
    chunk: usize,
    parameter_type: DataType,
    /// Bits of the kinds that were ever used, so that a new set comes with all of them.
    used: AtomicU32,
    sets: Vec<Arc<KernelSet>>,
    current: Arc<KernelSet>,
    /// The set that was asked for last; it runs as soon as it is compiled.
    next: Arc<KernelSet>,
}

impl Kernels {
    /// Identity only.
    pub fn new(device: Arc<dyn Device>, chunk: usize, parameter_type: DataType, stream: Stream) -> Result<Kernels> {
        let current = Arc::new(new_set(&BTreeSet::new(), Vec::new(), chunk, &device, stream)?);
        let (sets, next) = (vec![current.clone()], current.clone());
        Ok(Kernels { device, chunk, parameter_type, used: AtomicU32::new(0), sets, current, next })
    }

    /// The set that runs.
    pub fn current(&self) -> &KernelSet {
        &self.current
    }

    /// The set that runs, and the one that will.
    pub fn current_and_next(&self) -> [&KernelSet; 2] {
        [&self.current, &self.next]
    }

    /// Remembers that a kind is used.
    pub fn mark_used(&self, kind: Kind) {
        let bit = 1 << kind.index();
        if self.used.load(Ordering::Relaxed) & bit == 0 {
            self.used.fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// The kinds a set must have before it may run: those that were used, and isolated training on the same rows, for
    /// seeds that begin it only once their kernels are ready. Before any was used, what a first epoch needs.
    pub fn kinds(&self) -> Vec<Kind> {
        let used = self.used.load(Ordering::Relaxed);
        if used == 0 {
            return vec![Kind::forward(self.parameter_type), Kind::train(self.parameter_type)];
        }
        let is_used = |kind: Kind| used & (1 << kind.index()) != 0;
        let trains_on = |kind: &Kind| kind.pass == Pass::Train && is_used(Kind::forward(kind.data_type));
        Kind::all().filter(|kind| is_used(*kind) || trains_on(kind)).collect()
    }

    /// Asks for the kernels of these blueprints in the background.
    pub fn request(&mut self, live: &BTreeSet<u32>, banks: &[super::bank::Bank], stream: Stream) -> Result<()> {
        let set = match self.find(live) {
            Some(set) => set.clone(),
            None => {
                let blueprints = live.iter().filter_map(|index| banks.get(*index as usize));
                let blueprints = blueprints.map(|bank| bank.blueprint.clone()).collect();
                let set = Arc::new(new_set(live, blueprints, self.chunk, &self.device, stream)?);
                self.sets.push(set.clone());
                set
            }
        };
        self.next = set.clone();
        if !set.is_loaded(&self.kinds()) {
            // An error is reported by the gate that needs the set, or by the next boundary.
            if let Err(error) = set.readiness(&self.kinds())
                && error.status() != crate::Status::NotReady
            {
                log::warn!("{error}");
            }
        }
        Ok(())
    }

    /// Whether a set with all of these blueprints could run.
    ///
    /// # Errors
    ///
    /// `NotReady` while it is being compiled, or the compiler's error.
    pub fn readiness(&self, blueprints: &BTreeSet<u32>) -> Result<()> {
        let kinds = self.kinds();
        let mut candidates = self.sets.iter().filter(|set| set.contains(blueprints)).map(|set| set.readiness(&kinds));
        let newest = candidates.next_back();
        let newest =
            newest.unwrap_or_else(|| Err(error!(NotReady, "no kernel was asked for yet; an epoch must end first")));
        newest.or_else(|error| if candidates.any(|older| older.is_ok()) { Ok(()) } else { Err(error) })
    }

    /// Loads what is compiled, everywhere.
    pub fn collect(&self) {
        self.sets.iter().for_each(|set| set.collect());
    }

    /// Swaps in the set of the live blueprints if it is loaded; else any that has at least those that run. Returns
    /// whether another set runs now.
    pub fn swap(&mut self, live: &BTreeSet<u32>, running: &BTreeSet<u32>) -> bool {
        let kinds = self.kinds();
        let exact = self.find(live).filter(|set| set.is_loaded(&kinds));
        let next = exact.or_else(|| {
            let fits = |set: &&Arc<KernelSet>| set.contains(running) && set.is_loaded(&kinds);
            if self.current.contains(running) { Some(&self.current) } else { self.sets.iter().find(fits) }
        });
        let next = next.unwrap_or(&self.current).clone();
        let swapped = !Arc::ptr_eq(&next, &self.current);
        self.current = next;
        swapped
    }

    /// Swaps in the set that was asked for last, although nothing of it may be loaded: that is compiled at first use.
    pub fn swap_at_once(&mut self) {
        self.current = self.next.clone();
    }

    fn find(&self, blueprints: &BTreeSet<u32>) -> Option<&Arc<KernelSet>> {
        self.sets.iter().find(|set| set.members.iter().eq(blueprints))
    }
}

fn new_set(
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;
    use crate::compile::Architecture;
    use crate::device::{Adamw, Address, DeviceKind, Launch, cpu};
    use crate::graph::{Attributes, library};
    use crate::layer::bank::Bank;
    use std::time::Duration;

    const CAPTURING: Stream = Stream(7);
    const UNLOADABLE: DataType = DataType::F64;

    /// The CPU, but its stream 7 is recording a graph, and it loads no kernels for f64 rows.
    struct Recorder(Arc<dyn Device>);

    impl Device for Recorder {
        fn is_capturing(&self, stream: Stream) -> bool {
            stream == CAPTURING
        }

        fn kind(&self) -> DeviceKind {
            self.0.kind()
        }

        fn description(&self) -> String {
            self.0.description()
        }

        fn architecture(&self) -> Architecture {
            self.0.architecture()
        }

        fn allocate(&self, bytes: usize) -> Result<Address> {
            self.0.allocate(bytes)
        }

        fn free(&self, address: Address, bytes: usize) {
            self.0.free(address, bytes);
        }

        fn upload(&self, to: Address, from: &[u8], stream: Stream) -> Result<()> {
            self.0.upload(to, from, stream)
        }

        fn download(&self, to: &mut [u8], from: Address, stream: Stream) -> Result<()> {
            self.0.download(to, from, stream)
        }

        fn copy(&self, to: Address, from: Address, bytes: usize, stream: Stream) -> Result<()> {
            self.0.copy(to, from, bytes, stream)
        }

        fn zero(&self, to: Address, bytes: usize, stream: Stream) -> Result<()> {
            self.0.zero(to, bytes, stream)
        }

        fn synchronize(&self, stream: Stream) -> Result<()> {
            self.0.synchronize(stream)
        }

        fn load(&self, class: &KernelClass, machine_code: &[u8]) -> Result<Kernel> {
            if class.data_type == UNLOADABLE {
                return Err(error!(KernelTooLarge, "no room for it"));
            }
            self.0.load(class, machine_code)
        }

        fn launch(&self, kernel: &Kernel, launch: &Launch<'_>, stream: Stream) -> Result<()> {
            self.0.launch(kernel, launch, stream)
        }

        fn adamw(&self, update: &Adamw, stream: Stream) -> Result<()> {
            self.0.adamw(update, stream)
        }
    }

    fn kernels() -> (Kernels, Vec<Bank>) {
        let device: Arc<dyn Device> = Arc::new(Recorder(cpu::device()));
        let bank = |name| {
            let blueprint = library(name, 4, &Attributes::new()).unwrap();
            Bank::new(Arc::new(blueprint), 2, DataType::F32, &device).unwrap()
        };
        let banks = ["residual", "mlp", "attention"].map(bank).into();
        (Kernels::new(device.clone(), 4, DataType::F32, Stream::default()).unwrap(), banks)
    }

    fn blueprints(indices: &[u32]) -> BTreeSet<u32> {
        indices.iter().copied().collect()
    }

    fn wait(kernels: &Kernels, live: &BTreeSet<u32>) {
        for _ in 0..2000 {
            match kernels.readiness(live) {
                Ok(()) => return kernels.collect(),
                Err(error) => assert_eq!(error.status(), Status::NotReady, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("not compiled in ten seconds");
    }

    #[test]
    fn a_missing_kernel_is_compiled_at_once_but_never_while_the_stream_is_capturing() {
        let (kernels, _) = kernels();
        let kind = Kind::backward(DataType::BF16, true);
        let refusal = kernels.current().kernel(kind, CAPTURING).err().unwrap();
        assert_eq!(refusal.status(), Status::NotReady);
        assert!(refusal.message().contains("backward kernel for bf16 rows"), "{refusal}");
        kernels.current().kernel(kind, Stream::default()).unwrap();
        kernels.current().kernel(kind, CAPTURING).unwrap();
    }

    #[test]
    fn a_set_runs_only_when_all_kinds_that_were_used_are_loaded() {
        let (mut kernels, banks) = kernels();
        kernels.mark_used(Kind::forward(DataType::F16));
        kernels.mark_used(Kind::backward(DataType::F16, false));
        let live = blueprints(&[1]);
        assert_eq!(kernels.readiness(&live).unwrap_err().status(), Status::NotReady);
        kernels.request(&live, &banks, Stream::default()).unwrap();
        wait(&kernels, &live);
        assert!(kernels.swap(&live, &live));
        assert_eq!(kernels.current().members, [1]);
        kernels.current().kernel(Kind::forward(DataType::F16), CAPTURING).unwrap();
        kernels.current().kernel(Kind::backward(DataType::F16, false), CAPTURING).unwrap();
        kernels.current().kernel(Kind::train(DataType::F16), CAPTURING).unwrap();
        assert!(!kernels.swap(&live, &live), "it runs already");
    }

    #[test]
    fn a_set_that_runs_stays_until_the_next_one_is_loaded_and_comes_back_without_a_compile() {
        let (mut kernels, banks) = kernels();
        let (small, large) = (blueprints(&[0]), blueprints(&[0, 2]));
        kernels.request(&small, &banks, Stream::default()).unwrap();
        wait(&kernels, &small);
        assert!(kernels.swap(&small, &small));
        kernels.request(&large, &banks, Stream::default()).unwrap();
        assert!(!kernels.swap(&large, &small), "nothing of it is loaded yet");
        assert_eq!(kernels.current().members, [0]);
        wait(&kernels, &large);
        assert!(kernels.swap(&large, &large));
        assert_eq!(kernels.current().members, [0, 2]);
        kernels.request(&small, &banks, Stream::default()).unwrap();
        assert!(kernels.swap(&small, &small));
        assert_eq!((kernels.current().members.as_slice(), kernels.sets.len()), (&[0][..], 3));
    }

    #[test]
    fn a_set_that_cannot_be_loaded_is_refused_as_often_as_it_is_asked_for_and_does_not_run() {
        let (mut kernels, banks) = kernels();
        kernels.mark_used(Kind::forward(UNLOADABLE));
        let live = blueprints(&[1]);
        kernels.request(&live, &banks, Stream::default()).unwrap();
        wait(&kernels, &live);
        for _ in 0..3 {
            assert_eq!(kernels.readiness(&live).unwrap_err().status(), Status::KernelTooLarge);
        }
        assert!(!kernels.swap(&live, &live));
        kernels.collect();
        wait(&kernels, &live);
        assert_eq!(kernels.readiness(&live).unwrap_err().status(), Status::KernelTooLarge, "it was tried again");
    }

    #[test]
    fn the_branch_of_a_blueprint_is_its_place_among_the_members() {
        let (mut kernels, banks) = kernels();
        let live = blueprints(&[0, 2]);
        kernels.request(&live, &banks, Stream::default()).unwrap();
        let branch = &kernels.sets[1].branch;
        let mut bytes = vec![0; branch.bytes()];
        cpu::device().download(&mut bytes, branch.address(), Stream::default()).unwrap();
        let branches: Vec<_> =
            bytes.chunks_exact(4).map(|bytes| i32::from_le_bytes(bytes.try_into().unwrap())).collect();
        assert_eq!((&branches[..4], branches.len()), (&[0, -1, 1, -1][..], MAXIMUM_BLUEPRINTS));
    }
}
