//! Circuit breakers: what opens them, what they keep from beginning, and that they never stop what runs.

use crate::bench::{Bench, STREAM, Tensor, command, easy, logarithm, write};
use kasmina::layer::{Action, BreakerState, Command, Lifecycle, Settings};
use kasmina::{ErrorClass, Status};

const RESIDUAL: i32 = 1;

/// Blueprint 0 gives values that are not finite for half of the rows; blueprint 1 is sound. The clock stands at 0.
fn bench(settings: Settings) -> Bench {
    let mut bench = Bench::new(24, 12, settings, &[]);
    let chunk = bench.layer.chunk();
    bench.layer.add_blueprint(logarithm(chunk), 12).unwrap();
    let residual = kasmina::graph::library("residual", chunk, &kasmina::graph::Attributes::new()).unwrap();
    bench.layer.add_blueprint(residual, 12).unwrap();
    bench.layer.set_time(0.0).unwrap();
    bench
}

fn lenient() -> Settings {
    Settings { fallback_blocks_promotion: false, ..easy() }
}

fn germinate(seed: u32, blueprint: i32) -> Command {
    Command { blueprint, ..command(seed, Action::Germinate) }
}

fn state(bench: &Bench, blueprint: usize) -> BreakerState {
    bench.layer.report().breakers.blueprints[blueprint].state
}

/// A seed of the unsound blueprint that trains, which fails in each epoch.
fn failing(settings: Settings) -> Bench {
    let mut bench = bench(settings);
    bench.apply(&[germinate(0, 0)]);
    bench.epoch();
    bench.apply(&[command(0, Action::StartTraining)]);
    bench
}

#[test]
fn three_failing_epochs_of_a_blueprint_keep_its_seeds_from_beginning_and_say_why_and_when() {
    let mut bench = failing(lenient());
    bench.apply(&[germinate(1, 0)]);
    for epoch in 0..2 {
        assert_eq!(state(&bench, 0), BreakerState::Closed, "{epoch}");
        bench.layer.set_time(f64::from(10 * epoch)).unwrap();
        bench.epoch();
    }
    assert_eq!(state(&bench, 0), BreakerState::Open);
    bench.layer.set_time(20.5).unwrap();
    for refused in [germinate(2, 0), command(1, Action::StartTraining)] {
        let refusal = bench.refusal(&[refused]);
        assert_eq!(refusal.status(), Status::TransitionRefused);
        let words = "the circuit breaker of blueprint 0 ('logarithm') is open after 3 failures, the last one: seed 0: rows of \
                     its output were not finite; trials may begin in 49.5 s";
        assert!(refusal.message().contains(words), "{refusal}");
    }
    // The other blueprint is not to blame.
    bench.apply(&[germinate(3, RESIDUAL)]);
    let report = bench.layer.report().breakers;
    assert_eq!((report.blueprints[0].opened, report.blueprints[0].last_class), (1, Some(ErrorClass::Execute)));
    assert_eq!((report.layer.failures, report.layer.state), (1, BreakerState::Closed));
    assert_eq!(report.blueprints[1].failures, 0);
}

#[test]
fn failures_farther_apart_than_the_window_open_nothing() {
    let mut bench = failing(lenient());
    for epoch in 1..6 {
        bench.layer.set_time(f64::from(31 * epoch)).unwrap();
        bench.epoch();
    }
    assert_eq!(state(&bench, 0), BreakerState::Closed);
    assert!(bench.layer.report().breakers.blueprints[0].failures > 4);
}

#[test]
fn what_runs_goes_on_while_the_breaker_is_open() {
    let mut bench = failing(lenient());
    (0..3).for_each(|_| drop(bench.epoch()));
    assert_eq!(state(&bench, 0), BreakerState::Open);
    assert_eq!(bench.state(0), Lifecycle::Training);
    bench.forward();
    bench.apply(&[command(0, Action::Cancel)]);
    bench.apply(&[command(0, Action::Reset)]);
    assert_eq!(bench.state(0), Lifecycle::Dormant);
}

#[test]
fn trials_that_pass_close_it_and_no_more_seeds_than_trials_try_at_once() {
    let mut bench = failing(lenient());
    (0..3).for_each(|_| drop(bench.epoch()));
    // The blueprint is sound where all rows are positive.
    let positive: Vec<f32> = bench.x.read().iter().map(|x| x.abs() + 0.5).collect();
    bench.x = Tensor::new(bench.x.count(), 24, &positive);
    bench.apply(&[command(0, Action::Cancel)]);
    bench.apply(&[command(0, Action::Reset)]);
    assert_eq!(state(&bench, 0), BreakerState::Open);
    bench.layer.set_time(60.0).unwrap();
    let refusal = bench.refusal(&[germinate(1, 0), germinate(2, 0), germinate(3, 0), germinate(4, 0)]);
    assert!(refusal.message().contains("half open, and 3 seeds are trying"), "{refusal}");
    bench.apply(&[germinate(1, 0), germinate(2, 0), germinate(3, 0)]);
    bench.epoch();
    bench.apply(&[command(1, Action::StartTraining)]);
    for passed in 0..3 {
        assert_eq!(state(&bench, 0), BreakerState::HalfOpen);
        assert_eq!(bench.layer.report().breakers.blueprints[0].trials_passed, passed);
        bench.epoch();
    }
    assert_eq!(state(&bench, 0), BreakerState::Closed);
    bench.apply(&[germinate(4, 0), germinate(5, 0)]);
}

#[test]
fn a_trial_that_fails_opens_it_again() {
    let mut bench = failing(lenient());
    (0..3).for_each(|_| drop(bench.epoch()));
    bench.layer.set_time(60.0).unwrap();
    assert_eq!(state(&bench, 0), BreakerState::HalfOpen);
    bench.epoch();
    assert_eq!(state(&bench, 0), BreakerState::Open);
    assert_eq!(bench.layer.report().breakers.blueprints[0].seconds_until_trials, 60.0);
}

#[test]
fn a_command_that_was_accepted_is_refused_with_the_reason_if_the_breaker_has_opened_by_the_epochs_end() {
    let mut bench = failing(lenient());
    (0..2).for_each(|_| drop(bench.epoch()));
    bench.submit(&[germinate(1, 0), germinate(2, RESIDUAL)]);
    bench.submit(&[germinate(3, RESIDUAL)]);
    let summary = bench.epoch();
    assert_eq!((summary.refused.len(), summary.refused[0].commands.len()), (1, 2));
    assert!(summary.refused[0].reason.contains("the circuit breaker of blueprint 0"), "{summary:?}");
    assert_eq!(summary.applied.iter().map(|record| record.seed).collect::<Vec<_>>(), [3]);
}

#[test]
fn damage_to_the_state_counts_against_the_layer_and_keeps_every_blueprint_from_beginning() {
    let mut bench = bench(lenient());
    for _ in 0..3 {
        let flags = bench.layer.array("flags").unwrap().buffer;
        write(&flags, &[0xffu8; 12]);
        assert_eq!(bench.epoch().repaired.len(), 1);
    }
    let report = bench.layer.report().breakers.layer;
    assert_eq!((report.state, report.last_class), (BreakerState::Open, Some(ErrorClass::Memory)));
    let refusal = bench.refusal(&[germinate(0, RESIDUAL)]);
    assert!(refusal.message().contains("the circuit breaker of the layer is open"), "{refusal}");
    bench.layer.set_time(60.0).unwrap();
    bench.apply(&[germinate(0, RESIDUAL)]);
    bench.epoch();
    bench.apply(&[command(0, Action::StartTraining)]);
    (0..3).for_each(|_| drop(bench.epoch()));
    assert_eq!(bench.layer.report().breakers.layer.state, BreakerState::Closed);
}

#[test]
fn with_failures_set_to_0_nothing_ever_opens() {
    let mut settings = lenient();
    settings.breakers.failures = 0;
    let mut bench = failing(settings);
    (0..6).for_each(|_| drop(bench.epoch()));
    bench.apply(&[germinate(1, 0)]);
    assert!(bench.layer.report().breakers.blueprints[0].failures >= 6);
}

#[test]
fn a_restored_layer_has_not_forgotten_what_failed_and_a_loaded_one_begins_anew() {
    let mut bench = failing(lenient());
    let snapshot = bench.layer.snapshot(STREAM).unwrap();
    (0..3).for_each(|_| drop(bench.epoch()));
    bench.layer.restore(&snapshot, "", STREAM).unwrap();
    assert_eq!(state(&bench, 0), BreakerState::Open);
    let loaded = kasmina::layer::Layer::from_bytes(&bench.layer.to_bytes(STREAM).unwrap(), crate::bench::device_kind());
    assert_eq!(state(&Bench::around(loaded.unwrap()), 0), BreakerState::Closed);
}

#[test]
fn time_that_goes_back_or_is_none_is_refused() {
    let mut bench = bench(lenient());
    bench.layer.set_time(5.0).unwrap();
    bench.layer.set_time(5.0).unwrap();
    for (time, words) in [(4.9, "before the 5 of the last call"), (f64::NAN, "must be a finite number")] {
        let error = bench.layer.set_time(time).unwrap_err();
        assert!(error.status() == Status::InvalidArgument && error.message().contains(words), "{error}");
    }
}
