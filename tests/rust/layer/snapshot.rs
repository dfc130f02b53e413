//! Snapshots: what comes back, when, and what is refused.

use crate::bench::{Bench, STREAM, command, device_kind, easy, read, write};
use kasmina::Status;
use kasmina::layer::{Action, Layer, Lifecycle};

/// A layer with seeds in many states, a queue, and an epoch half gone.
fn busy() -> Bench {
    let mut settings = easy();
    settings.training.loss_threshold = 1e-12;
    let mut bench = Bench::new(22, 4, settings, &[("bottleneck", 3), ("residual", 2)]);
    bench.bring(1, Lifecycle::Training);
    bench.apply(&[kasmina::layer::Command { blueprint: 1, ..command(3, Action::Germinate) }]);
    bench.epoch();
    bench.submit(&[command(3, Action::StartTraining), command(0, Action::Germinate)]);
    bench.layer.set_metric(0.5);
    step(&bench);
    bench
}

fn step(bench: &Bench) {
    bench.forward_observed(None);
    bench.train();
}

fn checkpoint(bench: &Bench) -> Vec<u8> {
    bench.layer.to_bytes(STREAM).unwrap()
}

/// Everything that a layer has on the device.
fn on_device(layer: &Layer) -> Vec<Vec<u8>> {
    let columns = [
        "lifecycle",
        "blueprint",
        "slot",
        "alpha",
        "epochs_in_state",
        "strategy",
        "last_update_epoch",
        "embargo",
        "error_count",
        "flags",
        "germinations",
        "strategy_memory",
        "telemetry",
        "loss",
    ];
    let mut arrays: Vec<_> = columns.iter().map(|name| read::<u8>(&layer.array(name).unwrap().buffer)).collect();
    for index in 0..layer.blueprint_count() {
        let bank = layer.bank(index).unwrap();
        let buffers = [bank.parameters, bank.first_moment, bank.second_moment, bank.steps, bank.mode, bank.non_finite];
        arrays.extend(buffers.iter().map(read::<u8>));
    }
    arrays
}

#[test]
fn a_restore_gives_back_every_bit_that_the_layer_had() {
    let mut bench = busy();
    let snapshot = bench.layer.snapshot(STREAM).unwrap();
    let (bytes, device, state) = (checkpoint(&bench), on_device(&bench.layer), bench.layer.state());
    let report = format!("{:?}", bench.layer.report().seeds);
    for _ in 0..4 {
        bench.epoch();
    }
    assert_ne!(on_device(&bench.layer), device);
    let done = bench.layer.restore(&snapshot, "a test", STREAM).unwrap();
    let then = snapshot.epoch().unwrap();
    assert_eq!((done.to_epoch, done.from_epoch, done.reason.as_str()), (then, then + 4, "a test"));
    assert_eq!(on_device(&bench.layer), device);
    assert_eq!((bench.layer.state(), bench.layer.epoch()), (state, then));
    assert_eq!(format!("{:?}", bench.layer.report().seeds), report);
    assert!(checkpoint(&bench) == bytes, "the checkpoint differs");
}

#[test]
fn training_goes_on_from_a_restore_as_it_did_from_the_snapshot() {
    let mut bench = busy();
    let snapshot = bench.layer.snapshot(STREAM).unwrap();
    let mut lives = Vec::new();
    for life in 0..3 {
        let mut summaries = Vec::new();
        for epoch in 0..5 {
            let mut summary = bench.epoch();
            assert_eq!(summary.restored.len(), usize::from(life > 0 && epoch == 0));
            summary.restored.clear();
            summaries.push(format!("{summary:?}"));
            if epoch == 2 {
                bench.submit(&[command(0, Action::StartTraining)]);
            }
        }
        lives.push((summaries, bench.forward(), checkpoint(&bench)));
        bench.layer.restore(&snapshot, "again", STREAM).unwrap();
    }
    assert!(lives[0] == lives[1] && lives[1] == lives[2], "what followed from one snapshot was not the same each time");
}

#[test]
fn the_next_forward_after_a_restore_computes_what_was_computed_then() {
    let mut bench = Bench::in_state(Lifecycle::Fossilized);
    let (then, snapshot) = (bench.forward(), bench.layer.snapshot(STREAM).unwrap());
    assert_ne!(then, bench.x.read());
    bench.set_residual(-3.0);
    assert_ne!(bench.forward(), then);
    bench.layer.restore(&snapshot, "", STREAM).unwrap();
    assert_eq!(bench.forward(), then);
}

#[test]
fn the_kernels_that_ran_then_run_again() {
    let mut bench = Bench::new(12, 2, easy(), &[("residual", 2), ("bottleneck", 2)]);
    bench.bring(0, Lifecycle::Grafting);
    bench.set_residual(0.5);
    let (then, snapshot) = (bench.forward(), bench.layer.snapshot(STREAM).unwrap());
    bench.apply(&[
        command(0, Action::RollBack),
        kasmina::layer::Command { blueprint: 1, ..command(1, Action::Germinate) },
    ]);
    bench.epoch();
    bench.apply(&[command(0, Action::Reset), command(1, Action::StartTraining)]);
    bench.epoch();
    assert_eq!(bench.forward(), bench.x.read(), "no seed is applied");
    bench.layer.restore(&snapshot, "", STREAM).unwrap();
    assert_eq!(bench.forward(), then);
    assert_ne!(then, bench.x.read());
}

#[test]
fn a_snapshot_is_not_changed_by_what_happens_to_the_layer_and_can_be_taken_anew() {
    let mut bench = busy();
    let mut snapshot = bench.layer.snapshot(STREAM).unwrap();
    let (first, bytes) = (checkpoint(&bench), snapshot.bytes());
    bench.epoch();
    bench.epoch();
    bench.layer.restore(&snapshot, "", STREAM).unwrap();
    assert!(checkpoint(&bench) == first);
    bench.epoch();
    step(&bench);
    let second = checkpoint(&bench);
    bench.layer.snapshot_into(&mut snapshot, STREAM).unwrap();
    bench.epoch();
    bench.layer.restore(&snapshot, "", STREAM).unwrap();
    assert!(checkpoint(&bench) == second && second != first);
    assert_eq!(snapshot.bytes(), bytes);
}

#[test]
fn commands_accepted_since_the_snapshot_are_dropped_by_name_and_those_before_it_wait_again() {
    let mut bench = Bench::new(8, 4, easy(), &[("residual", 4)]);
    let (before, after) = ([command(0, Action::Germinate)], [command(1, Action::Germinate)]);
    bench.submit(&before);
    let snapshot = bench.layer.snapshot(STREAM).unwrap();
    bench.submit(&after);
    let done = bench.layer.restore(&snapshot, "spike", STREAM).unwrap();
    assert_eq!(done.dropped, [after.to_vec()]);
    // Once more: nothing is dropped twice.
    assert_eq!(bench.layer.restore(&snapshot, "spike", STREAM).unwrap().dropped, [] as [Vec<_>; 0]);
    let summary = bench.epoch();
    assert_eq!(summary.restored.len(), 2);
    assert_eq!(summary.restored[0], done);
    assert_eq!(summary.applied.iter().map(|record| record.seed).collect::<Vec<_>>(), [0]);
    assert_eq!((bench.state(0), bench.state(1)), (Lifecycle::Germinated, Lifecycle::Dormant));
    // The epoch that applied it is undone, so it waits again, and is applied again.
    bench.submit(&[command(2, Action::Germinate)]);
    assert_eq!(bench.layer.restore(&snapshot, "", STREAM).unwrap().dropped.len(), 1);
    assert_eq!(bench.epoch().applied.len(), 1);
    assert_eq!((bench.state(0), bench.state(2)), (Lifecycle::Germinated, Lifecycle::Dormant));
}

#[test]
fn a_restore_undoes_an_emergency_rollback_and_says_so() {
    let mut bench = Bench::in_state(Lifecycle::Grafting);
    let snapshot = bench.layer.snapshot(STREAM).unwrap();
    let record = bench.layer.roll_back(0, "it misbehaved", STREAM).unwrap();
    let done = bench.layer.restore(&snapshot, "", STREAM).unwrap();
    assert_eq!((done.undone.len(), bench.state(0)), (1, Lifecycle::Grafting));
    assert_eq!((done.undone[0].seed, &done.undone[0].reason), (0, &record.reason));
    bench.layer.roll_back(0, "it misbehaved again", STREAM).unwrap();
    let snapshot = bench.layer.snapshot(STREAM).unwrap();
    assert_eq!(
        bench.layer.restore(&snapshot, "", STREAM).unwrap().undone.len(),
        0,
        "it is rolled back in the snapshot"
    );
    assert_eq!(bench.epoch().applied.len(), 1);
    bench.layer.restore(&snapshot, "", STREAM).unwrap();
    assert_eq!(bench.epoch().applied.len(), 1, "it is reported as it was then");
}

#[test]
fn snapshots_of_other_layers_and_of_fewer_blueprints_are_refused_and_change_nothing() {
    let mut bench = busy();
    let mut snapshot = bench.layer.snapshot(STREAM).unwrap();
    let copy = Layer::from_bytes(&checkpoint(&bench), device_kind()).unwrap();
    let mut copy = Bench::around(copy);
    let before = checkpoint(&copy);
    let refusal = copy.layer.restore(&snapshot, "", STREAM).unwrap_err();
    assert_eq!(refusal.status(), Status::SnapshotMismatch);
    assert!(refusal.message().contains("another layer"), "{refusal}");
    assert_eq!(copy.layer.snapshot_into(&mut snapshot, STREAM).unwrap_err().status(), Status::SnapshotMismatch);
    assert!(checkpoint(&copy) == before);

    let residual = bench.layer.blueprint(1).unwrap().clone();
    bench.layer.add_blueprint(residual, 1).unwrap();
    let before = checkpoint(&bench);
    let refusal = bench.layer.restore(&snapshot, "", STREAM).unwrap_err();
    assert_eq!(refusal.status(), Status::SnapshotMismatch);
    assert!(refusal.message().contains("2 blueprints, and the layer has 3"), "{refusal}");
    assert!(checkpoint(&bench) == before);
    let snapshot = bench.layer.snapshot(STREAM).unwrap();
    bench.epoch();
    bench.layer.restore(&snapshot, "", STREAM).unwrap();
    assert!(checkpoint(&bench) == before);
}

#[test]
fn a_bit_that_flips_after_a_restore_is_found_at_the_next_boundary() {
    let mut bench = busy();
    let snapshot = bench.layer.snapshot(STREAM).unwrap();
    bench.epoch();
    bench.layer.restore(&snapshot, "", STREAM).unwrap();
    let flags = bench.layer.array("flags").unwrap().buffer;
    let damaged: Vec<u8> = read::<u8>(&flags).iter().map(|flags| flags ^ 0x80).collect();
    write(&flags, &damaged);
    let repaired = bench.epoch().repaired;
    assert!(repaired.len() == 1 && repaired[0].contains("(flags)"), "{repaired:?}");
}

#[test]
fn a_snapshot_outlives_its_layer() {
    let bench = busy();
    let snapshot = bench.layer.snapshot(STREAM).unwrap();
    drop(bench);
    assert!(snapshot.bytes() > 0 && snapshot.epoch().is_some());
}
