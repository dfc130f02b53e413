//! Which sets stay and which are dropped, counted on the device.

use super::broken::{Broken, CAPTURING, Fault};
use super::tests::blueprints;
use super::*;
use crate::device::{DeviceKind, Rows};
use crate::graph::{Attributes, library};
use crate::layer::{Action, Command, Forward, Layer, LayerConfig, Settings};

const STREAM: Stream = Stream(0);
/// Forward and training.
const KINDS: usize = 2;

/// Three blueprints of chunks of this width, which no other test has: what is compiled is compiled here.
fn kernels(chunk: usize) -> (Kernels, Vec<Bank>, Arc<Broken>) {
    let counting = Broken::new(|_| Fault::None);
    let device: Arc<dyn Device> = counting.clone();
    let bank = |name| {
        let blueprint = library(name, chunk, &Attributes::new()).unwrap();
        Bank::new(Arc::new(blueprint), 2, DataType::F32, &device).unwrap()
    };
    let banks = ["residual", "mlp", "attention"].map(bank).into();
    (Kernels::new(device.clone(), chunk, DataType::F32, false, STREAM).unwrap(), banks, counting)
}

/// An epoch's end after which these blueprints run, whose kernels are waited for.
fn run(kernels: &mut Kernels, banks: &[Bank], live: &BTreeSet<u32>) {
    kernels.request(live, live, banks, STREAM).unwrap();
    for kind in kernels.kinds() {
        kernels.find(live).unwrap().kernel(kind, STREAM).unwrap();
    }
    kernels.swap(live, live);
    assert!(kernels.current().members.iter().eq(live));
}

/// The sets of three blueprints, from one to all of them.
fn combinations() -> Vec<BTreeSet<u32>> {
    (1..8).map(|bits| (0..3).filter(|blueprint| bits >> blueprint & 1 == 1).collect()).collect()
}

#[test]
fn a_layer_that_goes_through_all_combinations_of_its_blueprints_keeps_those_of_the_last_epochs() {
    let (mut kernels, banks, device) = kernels(17);
    for round in 1..=3 {
        for live in combinations() {
            run(&mut kernels, &banks, &live);
            assert!(kernels.sets.len() <= 4, "the one that runs, two that rest, and identity: {}", kernels.sets.len());
            assert!(device.held() <= 3 * KINDS, "{} kernels are held", device.held());
        }
        assert_eq!(device.loads(), round * 7 * KINDS, "each is loaded again when it comes back");
        assert_eq!(device.unloads(), round * 7 - 3, "what is dropped is given back at the same epoch's end");
    }
}

#[test]
fn a_set_that_comes_back_soon_is_not_even_loaded_again() {
    let (mut kernels, banks, device) = kernels(18);
    for _ in 0..5 {
        for live in [&[0][..], &[1], &[0, 1]] {
            run(&mut kernels, &banks, &blueprints(live));
        }
    }
    assert_eq!((device.loads(), device.unloads()), (3 * KINDS, 0));
}

#[test]
fn a_set_that_comes_back_late_is_loaded_at_the_epochs_end_that_asks_for_it() {
    let (mut kernels, banks, device) = kernels(19);
    for live in combinations() {
        run(&mut kernels, &banks, &live);
    }
    let (first, loads) = (blueprints(&[0]), device.loads());
    assert!(kernels.find(&first).is_none());
    // As an epoch's end does it, without any waiting: the machine code is at hand.
    kernels.request(&first, &first, &banks, STREAM).unwrap();
    kernels.collect(STREAM);
    assert!(kernels.swap(&first, &first));
    assert_eq!((kernels.current().members.as_slice(), device.loads()), (&[0][..], loads + KINDS));
}

#[test]
fn a_set_stays_for_as_long_as_a_snapshot_may_bring_it_back() {
    let (mut kernels, banks, device) = kernels(20);
    run(&mut kernels, &banks, &blueprints(&[0]));
    let then = kernels.running();
    for live in &combinations()[1..] {
        run(&mut kernels, &banks, live);
    }
    let loads = device.loads();
    kernels.resume(&then);
    assert_eq!(kernels.current().members, [0]);
    kernels.current().kernel(Kind::forward(DataType::F32), CAPTURING).unwrap();
    drop(then);
    for live in combinations() {
        run(&mut kernels, &banks, &live);
    }
    assert!(device.loads() > loads && kernels.sets.len() <= 4 && kernels.find(&blueprints(&[0])).is_none());
}

#[test]
fn a_set_that_a_graph_has_recorded_stays_for_as_long_as_the_layer() {
    for (stream, stays) in [(CAPTURING, true), (STREAM, false)] {
        let device = Broken::new(|_| Fault::None);
        let (data_type, settings) = (DataType::F32, Settings::default());
        let config = LayerConfig { hidden: 21, seeds: 1, device: DeviceKind::Cpu, parameter_type: data_type, settings };
        let mut layer = Layer::on(device.clone(), config).unwrap();
        layer.add_blueprint(library("residual", 21, &Attributes::new()).unwrap(), 1).unwrap();
        layer.submit(&[Command::new(0, Action::Germinate)]).unwrap();
        layer.end_epoch(STREAM).unwrap();
        layer.wait_for_kernels().unwrap();
        layer.end_epoch(STREAM).unwrap();
        assert_eq!(layer.kernels.current().members, [0]);

        let memory: Arc<dyn Device> = device.clone();
        let [x, y] = [0, 1].map(|_| crate::device::Buffer::new(&memory, 21 * 4).unwrap());
        let forward = Forward {
            x: Rows::spaced(x.address(), 21),
            y: Rows::spaced(y.address(), 21),
            rows: 1,
            data_type,
            alpha: None,
            banks: None,
            telemetry: None,
            random: None,
            deterministic: true,
        };
        layer.forward(&forward, stream).unwrap();
        let branch = layer.kernels.current().branch.address();
        layer.submit(&[Command::new(0, Action::Cancel)]).unwrap();
        layer.end_epoch(STREAM).unwrap();
        layer.wait_for_kernels().unwrap();
        for _ in 0..5 {
            layer.end_epoch(STREAM).unwrap();
        }
        assert_eq!(layer.kernels.current().members, Vec::<u32>::new());
        let kept = layer.kernels.find(&blueprints(&[0]));
        assert_eq!(kept.is_some_and(|set| set.branch.address() == branch), stays);
        assert_eq!((device.held(), device.unloads()), if stays { (2 * KINDS, 0) } else { (KINDS, 1) });
        drop(layer);
        assert_eq!(device.held(), 0);
    }
}
