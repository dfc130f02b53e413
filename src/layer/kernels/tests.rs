//! Which set runs, on a device of which some kernels fail.

use super::*;
use crate::device::cpu;
use crate::graph::{Attributes, library};
use crate::layer::kernel_set::MAXIMUM_BLUEPRINTS;
use crate::layer::kernels::broken::{Broken, CAPTURING, Fault};
use std::time::Duration;

const UNLOADABLE: DataType = DataType::F64;
/// Chunks of this width are computed wrongly.
const BROKEN: usize = 5;

fn kernels() -> (Kernels, Vec<Bank>) {
    kernels_for(4)
}

fn kernels_for(chunk: usize) -> (Kernels, Vec<Bank>) {
    let device: Arc<dyn Device> = Broken::new(|class| match class.data_type {
        UNLOADABLE => Fault::Unloadable,
        _ if class.chunk == BROKEN && !class.programs.is_empty() => Fault::Wrong(0),
        _ => Fault::None,
    });
    let bank = |name| {
        let blueprint = library(name, chunk, &Attributes::new()).unwrap();
        Bank::new(Arc::new(blueprint), 2, DataType::F32, &device).unwrap()
    };
    let banks = ["residual", "mlp", "attention"].map(bank).into();
    (Kernels::new(device.clone(), chunk, DataType::F32, false, Stream::default()).unwrap(), banks)
}

pub(super) fn blueprints(indices: &[u32]) -> BTreeSet<u32> {
    indices.iter().copied().collect()
}

/// Waits as epochs would, until the kernels of these blueprints are loaded or cannot be had.
fn wait(kernels: &Kernels, live: &BTreeSet<u32>) -> Result<()> {
    for _ in 0..2000 {
        let verdict = kernels.readiness(live);
        match &verdict {
            Err(error) if error.status() == Status::NotReady => {}
            Err(_) => return verdict,
            Ok(()) => kernels.collect(Stream::default()),
        }
        if kernels.sets.iter().any(|set| set.contains(live) && set.is_loaded(&kernels.kinds())) {
            return Ok(());
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
    kernels.request(&live, &live, &banks, Stream::default()).unwrap();
    wait(&kernels, &live).unwrap();
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
    kernels.request(&small, &small, &banks, Stream::default()).unwrap();
    wait(&kernels, &small).unwrap();
    assert!(kernels.swap(&small, &small));
    kernels.request(&large, &small, &banks, Stream::default()).unwrap();
    assert!(!kernels.swap(&large, &small), "nothing of it is loaded yet");
    assert_eq!(kernels.current().members, [0]);
    wait(&kernels, &large).unwrap();
    assert!(kernels.swap(&large, &large));
    assert_eq!(kernels.current().members, [0, 2]);
    kernels.request(&small, &small, &banks, Stream::default()).unwrap();
    assert!(kernels.swap(&small, &small));
    assert_eq!((kernels.current().members.as_slice(), kernels.sets.len()), (&[0][..], 3));
}

#[test]
fn a_set_that_no_schedule_can_be_loaded_of_is_tried_once_and_never_runs() {
    let (mut kernels, banks) = kernels();
    kernels.mark_used(Kind::forward(UNLOADABLE));
    let live = blueprints(&[1]);
    kernels.request(&live, &live, &banks, Stream::default()).unwrap();
    for _ in 0..3 {
        assert_eq!(wait(&kernels, &live).unwrap_err().status(), Status::KernelTooLarge);
        assert!(!kernels.swap(&live, &live));
        kernels.collect(Stream::default());
        kernels.request(&live, &live, &banks, Stream::default()).unwrap();
    }
    kernels.swap_at_once(&live, &banks, Stream::default()).unwrap();
    let refusal = kernels.current().kernel(Kind::forward(UNLOADABLE), Stream::default()).err().unwrap();
    assert_eq!(refusal.status(), Status::KernelTooLarge);
}

#[test]
fn a_kernel_that_computes_something_else_never_runs_and_is_counted() {
    let (mut kernels, banks) = kernels_for(BROKEN);
    let (live, kind) = (blueprints(&[0]), Kind::forward(DataType::F32));
    let before = crate::validate::statistics().refused;
    kernels.request(&live, &live, &banks, Stream::default()).unwrap();
    for _ in 0..2 {
        let refusal = wait(&kernels, &live).unwrap_err();
        assert_eq!(refusal.status(), Status::ValidationFailed);
        assert!(refusal.message().contains("row 0, channel 0 of the output of seed 1 (GRAFTING) as"), "{refusal}");
        assert!(refusal.message().contains("forward kernel for f32 rows"), "{refusal}");
        assert!(!kernels.swap(&live, &live));
        kernels.collect(Stream::default());
    }
    kernels.swap_at_once(&live, &banks, Stream::default()).unwrap();
    assert_eq!(kernels.current().kernel(kind, Stream::default()).err().unwrap().status(), Status::ValidationFailed);
    let refused = crate::validate::statistics().refused - before;
    assert!(refused >= 3, "forward and training, the best and the generic, were tried: {refused}");
}

#[test]
fn the_branch_of_a_blueprint_is_its_place_among_the_members() {
    let (mut kernels, banks) = kernels();
    let live = blueprints(&[0, 2]);
    kernels.request(&live, &live, &banks, Stream::default()).unwrap();
    let branch = &kernels.next.branch;
    let mut bytes = vec![0; branch.bytes()];
    cpu::device().download(&mut bytes, branch.address(), Stream::default()).unwrap();
    let branches: Vec<_> = bytes.chunks_exact(4).map(|bytes| i32::from_le_bytes(bytes.try_into().unwrap())).collect();
    assert_eq!((&branches[..4], branches.len()), (&[0, -1, 1, -1][..], MAXIMUM_BLUEPRINTS));
}
