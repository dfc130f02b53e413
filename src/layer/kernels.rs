//! Which kernels a layer runs: one set for each set of live blueprints.
//!
//! A set that is needed soon is compiled in the background while another one runs; the swap happens between epochs.
//! Each set keeps its own `branch` array, and none is dropped before the layer: a captured graph that still runs an
//! older set stays consistent, it only knows fewer blueprints.

use super::kernel_set::{KernelSet, Kind};
use crate::compile::Pass;
use crate::device::{Device, Stream};
use crate::graph::DataType;
use crate::{Result, error};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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
        let current = Arc::new(KernelSet::new(&BTreeSet::new(), Vec::new(), chunk, &device, stream)?);
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
                let set = Arc::new(KernelSet::new(live, blueprints, self.chunk, &self.device, stream)?);
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
    pub fn collect(&self, stream: Stream) {
        self.sets.iter().for_each(|set| set.collect(stream));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Status;
    use crate::compile::{Architecture, Expression, KernelClass, Unary, codegen};
    use crate::device::{Adamw, Address, DeviceKind, Kernel, Launch, cpu};
    use crate::graph::{Attributes, library};
    use crate::layer::bank::Bank;
    use crate::layer::kernel_set::MAXIMUM_BLUEPRINTS;
    use std::time::Duration;

    const CAPTURING: Stream = Stream(7);
    const UNLOADABLE: DataType = DataType::F64;
    const BROKEN: usize = 5;

    /// The CPU, but its stream 7 is recording a graph, it loads no kernels for f64 rows, and those for
    /// chunks of 5 compute something else.
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
            if class.chunk == BROKEN && !class.programs.is_empty() {
                let mut wrong = class.clone();
                let last = wrong.programs[0].body.last_mut().unwrap();
                last.expression = Expression::unary(Unary::Neg, last.expression.clone());
                return self.0.load(&wrong, &codegen::cpu::compile(&wrong)?);
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
        kernels_for(4)
    }

    fn kernels_for(chunk: usize) -> (Kernels, Vec<Bank>) {
        let device: Arc<dyn Device> = Arc::new(Recorder(cpu::device()));
        let bank = |name| {
            let blueprint = library(name, chunk, &Attributes::new()).unwrap();
            Bank::new(Arc::new(blueprint), 2, DataType::F32, &device).unwrap()
        };
        let banks = ["residual", "mlp", "attention"].map(bank).into();
        (Kernels::new(device.clone(), chunk, DataType::F32, Stream::default()).unwrap(), banks)
    }

    fn blueprints(indices: &[u32]) -> BTreeSet<u32> {
        indices.iter().copied().collect()
    }

    fn wait(kernels: &Kernels, live: &BTreeSet<u32>) {
        for _ in 0..2000 {
            match kernels.readiness(live) {
                Ok(()) => return kernels.collect(Stream::default()),
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
        kernels.collect(Stream::default());
        wait(&kernels, &live);
        assert_eq!(kernels.readiness(&live).unwrap_err().status(), Status::KernelTooLarge, "it was tried again");
    }

    #[test]
    fn a_kernel_that_computes_something_else_never_runs_and_is_counted() {
        let (mut kernels, banks) = kernels_for(BROKEN);
        let (live, kind) = (blueprints(&[0]), Kind::forward(DataType::F32));
        let before = crate::validate::statistics().refused;
        kernels.request(&live, &banks, Stream::default()).unwrap();
        wait(&kernels, &live);
        for _ in 0..2 {
            let refusal = kernels.readiness(&live).unwrap_err();
            assert_eq!(refusal.status(), Status::ValidationFailed);
            assert!(refusal.message().contains("row 0, channel 0 of the output of seed 1 (GRAFTING) as"), "{refusal}");
            assert!(refusal.message().contains("forward kernel for f32 rows"), "{refusal}");
            assert!(!kernels.swap(&live, &live));
            kernels.collect(Stream::default());
            wait(&kernels, &live);
        }
        kernels.swap_at_once();
        assert_eq!(kernels.current().kernel(kind, Stream::default()).err().unwrap().status(), Status::ValidationFailed);
        assert_eq!(crate::validate::statistics().refused, before + 2, "forward and training were tried once");
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
