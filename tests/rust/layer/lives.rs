//! The life of seeds: commands, gates, epochs, slots.

use crate::bench::{Bench, STREAM, blueprint, command, device_kind, easy, good, read, write};
use kasmina::Status;
use kasmina::device::DeviceKind;
use kasmina::graph::{DataType, Limits};
use kasmina::layer::{Action, Command, Evidence, Layer, LayerConfig, Lifecycle, Settings};

fn germinate(seed: u32, blueprint: i32) -> Command {
    Command { blueprint, ..command(seed, Action::Germinate) }
}

#[test]
fn a_seed_lives_through_all_states_and_each_transition_is_reported_once() {
    let mut bench = Bench::new(8, 2, easy(), &[("residual", 2)]);
    let mut seen = Vec::new();
    for action in [
        Action::Germinate,
        Action::StartTraining,
        Action::StartGrafting,
        Action::Stabilise,
        Action::Evaluate,
        Action::FineTune,
        Action::Fossilise,
    ] {
        bench.epoch();
        let summary = bench.apply(&[Command { reason: format!("because of {action}"), ..command(1, action) }]);
        let [record] = &summary.applied[..] else { panic!("{summary:?}") };
        assert_eq!((record.seed, record.action, record.epoch), (1, action, summary.epoch));
        assert_eq!((record.blueprint, record.reason.as_str()), (0, format!("because of {action}").as_str()));
        assert_eq!(record.to, bench.state(1));
        seen.push((record.from as i8, record.to as i8));
    }
    assert_eq!(seen, [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5), (5, 6), (6, 7)]);
    assert_eq!(bench.state(0), Lifecycle::Dormant);
    assert_eq!(bench.epoch().applied, []);
}

#[test]
fn a_refused_batch_changes_nothing_and_says_which_seed_which_transition_and_why() {
    let mut bench = Bench::new(8, 4, easy(), &[("residual", 4)]);
    bench.bring(0, Lifecycle::Training);
    let before = bench.layer.to_bytes(STREAM).unwrap();
    let refusal = bench.refusal(&[germinate(1, 0), command(2, Action::StartGrafting), germinate(3, 0)]);
    assert_eq!(refusal.status(), Status::TransitionRefused);
    assert!(refusal.message().starts_with("seed 2 cannot start_grafting from DORMANT"), "{refusal}");
    assert_eq!(bench.layer.to_bytes(STREAM).unwrap(), before);
    let summary = bench.epoch();
    assert_eq!((summary.applied, summary.refused), (Vec::new(), Vec::new()));
}

#[test]
fn what_no_layer_has_is_refused_by_name() {
    let mut bench = Bench::new(8, 2, easy(), &[("residual", 2)]);
    let refusal = bench.refusal(&[germinate(2, 0)]);
    assert_eq!((refusal.status(), refusal.message()), (Status::InvalidArgument, "there is no seed 2; the layer has 2"));
    for blueprint in [-1, 1, i32::MAX] {
        let refusal = bench.refusal(&[germinate(0, blueprint)]);
        assert_eq!(refusal.status(), Status::InvalidArgument);
        assert!(refusal.message().contains(&format!("there is no blueprint {blueprint}")), "{refusal}");
    }
    for strategy in [-1, 5, 256, i32::MAX] {
        let refusal = bench.refusal(&[Command { strategy, ..germinate(0, 0) }]);
        assert_eq!(refusal.status(), Status::InvalidArgument);
        assert!(refusal.message().contains(&format!("there is no grafting strategy {strategy}")), "{refusal}");
    }
}

#[test]
fn a_layer_whose_chunks_no_blueprint_has_is_refused() {
    let most = Limits::DEFAULT.elements;
    let layer = |hidden, seeds| {
        let (device, parameter_type, settings) = (DeviceKind::Cpu, DataType::F32, easy());
        Layer::new(LayerConfig { hidden, seeds, device, parameter_type, settings })
    };
    for (hidden, seeds) in [(most + 1, 1), (2 * most + 2, 2), (1 << 48, 3), (usize::MAX, 1)] {
        let refusal = layer(hidden, seeds).err().unwrap();
        assert_eq!(refusal.status(), Status::InvalidArgument);
        assert!(refusal.message().contains("no blueprint has more than 4194304 channels"), "{refusal}");
    }
    assert!(layer(2 * most + 1, 2).is_ok());
}

#[test]
fn a_blueprint_whose_parameters_might_not_start_finite_is_refused_before_any_seed_can_have_it() {
    // Ten deviations above the mean is more than f32 holds.
    let normal = serde_json::json!({"normal": {"mean": 3e38, "standard_deviation": 1e37}});
    let blueprint = || {
        blueprint(serde_json::json!({
            "ir_version": 1, "name": "vast", "chunk": 4, "output": "y",
            "parameters": [{"name": "w", "shape": [4], "initializer": normal}],
            "nodes": [{"name": "y", "op": "mul", "inputs": ["x", "w"]}],
        }))
    };
    let layer = |parameter_type| {
        let (device, settings) = (device_kind(), easy());
        Layer::new(LayerConfig { hidden: 8, seeds: 2, device, parameter_type, settings }).unwrap()
    };
    let mut narrow = layer(DataType::F32);
    let refusal = narrow.add_blueprint(blueprint(), 1).unwrap_err();
    assert_eq!(refusal.status(), Status::InvalidBlueprint);
    let words = "parameter 'w' of blueprint 'vast' may start at 4e38, which is not finite in f32";
    assert_eq!((refusal.message(), narrow.blueprint_count()), (words, 0));
    layer(DataType::F64).add_blueprint(blueprint(), 1).unwrap();
}

#[test]
fn commands_for_one_seed_follow_each_other_within_a_batch_and_across_batches() {
    let mut bench = Bench::new(8, 2, easy(), &[("residual", 2)]);
    let summary = bench.apply(&[germinate(0, 0), command(0, Action::Cancel)]);
    assert_eq!(summary.applied.iter().map(|record| record.to as i8).collect::<Vec<_>>(), [1, 9]);
    bench.submit(&[command(0, Action::Reset)]);
    assert_eq!(bench.refusal(&[command(0, Action::Reset)]).status(), Status::TransitionRefused);
    bench.submit(&[germinate(0, 0)]);
    assert_eq!(bench.epoch().applied.len(), 2);
    assert_eq!(bench.state(0), Lifecycle::Germinated);
}

#[test]
fn a_batch_that_no_longer_fits_at_the_boundary_is_refused_whole_and_reported() {
    let mut bench = Bench::new(8, 3, easy(), &[("residual", 3)]);
    bench.bring(0, Lifecycle::Training);
    bench.epoch();
    let batch = [germinate(1, 0), command(0, Action::StartGrafting)];
    bench.submit(&batch);
    bench.submit(&[germinate(2, 0)]);
    bench.layer.roll_back(0, "loss spike", STREAM).unwrap();
    let summary = bench.epoch();
    assert_eq!(summary.refused.len(), 1);
    assert_eq!(summary.refused[0].commands, batch);
    assert!(summary.refused[0].reason.contains("seed 0 cannot start_grafting from ROLLED_BACK"), "{summary:?}");
    let reported: Vec<_> = summary.applied.iter().map(|record| (record.seed, record.action)).collect();
    assert_eq!(reported, [(0, Action::RollBack), (2, Action::Germinate)]);
    assert_eq!(summary.applied[0].reason, "loss spike");
    assert_eq!(bench.state(1), Lifecycle::Dormant);
}

#[test]
fn epochs_are_counted_by_epochs_and_not_by_forwards_and_begin_anew_with_each_state() {
    let mut bench = Bench::new(8, 2, easy(), &[("residual", 2)]);
    for _ in 0..5 {
        bench.forward_observed(None);
    }
    assert_eq!(bench.layer.state()[0][2], 0);
    bench.epoch();
    bench.epoch();
    assert_eq!(bench.layer.state()[0], [0, -1, 2, 0]);
    bench.apply(&[germinate(0, 0)]);
    assert_eq!(bench.layer.state()[0], [1, 0, 0, 0]);
    bench.epoch();
    assert_eq!((bench.layer.state()[0][2], bench.layer.state()[1][2], bench.layer.epoch()), (1, 4, 4));
}

#[test]
fn no_seed_is_promoted_before_the_minimum_epochs() {
    let mut settings = easy();
    settings.minimum_epochs.germinated = 3;
    let mut bench = Bench::new(8, 2, settings, &[("residual", 2)]);
    bench.apply(&[germinate(0, 0)]);
    for epochs in 1..3 {
        let refusal = bench.refusal(&[command(0, Action::StartTraining)]).to_string();
        assert!(refusal.contains(&format!("{epochs} epochs in GERMINATED are below the minimum of 3")), "{refusal}");
        bench.epoch();
    }
    bench.apply(&[command(0, Action::StartTraining)]);
    assert_eq!(bench.state(0), Lifecycle::Training);
}

#[test]
fn alpha_rises_only_while_grafting_holds_in_a_pause_and_goes_on_where_it_stopped() {
    let settings = Settings { ramp_steps: 4, ..easy() };
    let mut bench = Bench::new(8, 2, settings, &[("residual", 2)]);
    bench.bring(0, Lifecycle::Training);
    bench.epoch();
    assert_eq!(bench.alpha(0), 0.0);
    bench.apply(&[command(0, Action::StartGrafting)]);
    assert_eq!(bench.alpha(0), 0.0);
    bench.epoch();
    assert_eq!(bench.alpha(0), 0.25);
    bench.apply(&[command(0, Action::Pause)]);
    let held = bench.alpha(0);
    for _ in 0..3 {
        bench.epoch();
        assert_eq!(bench.alpha(0), held);
    }
    let refusal = bench.refusal(&[command(0, Action::Stabilise)]).to_string();
    assert!(refusal.contains("the ramp is not complete: alpha is 0.5 and must be 1"), "{refusal}");
    bench.apply(&[command(0, Action::Resume)]);
    assert_eq!(bench.alpha(0), held);
    bench.epoch();
    assert_eq!(bench.alpha(0), 0.75);
    bench.epoch();
    assert_eq!(bench.alpha(0), 1.0);
    bench.apply(&[command(0, Action::Stabilise)]);
    bench.epoch();
    assert_eq!(bench.alpha(0), 1.0);
}

#[test]
fn a_pause_ends_when_the_seed_leaves_grafting_by_whichever_way() {
    type Leave = fn(&mut Bench);
    let ways: [(Leave, Lifecycle); 3] = [
        (|bench| drop(bench.apply(&[command(0, Action::Stabilise)])), Lifecycle::Stabilization),
        (|bench| drop(bench.apply(&[command(0, Action::RollBack)])), Lifecycle::RolledBack),
        (|bench| drop(bench.layer.roll_back(0, "a test", STREAM).unwrap()), Lifecycle::RolledBack),
    ];
    for (leave, state) in ways {
        let mut bench = Bench::in_state(Lifecycle::Grafting);
        bench.epoch();
        bench.apply(&[command(0, Action::Pause)]);
        let paused = |bench: &Bench| bench.layer.report().seeds[0].paused;
        assert!(paused(&bench));
        bench.layer = Layer::from_bytes(&bench.layer.to_bytes(STREAM).unwrap(), device_kind()).unwrap();
        assert!(paused(&bench), "a checkpoint keeps a pause");
        leave(&mut bench);
        assert_eq!((bench.state(0), paused(&bench)), (state, false));
        let flags: Vec<u8> = read(&bench.layer.array("flags").unwrap().buffer);
        assert_eq!(flags[0] & 8, 0, "the device's copy too");
    }
}

#[test]
fn the_embargo_holds_a_culled_seed_and_after_the_reset_nothing_of_it_is_left() {
    let mut bench = Bench::new(8, 2, Settings { embargo_epochs: 3, ..easy() }, &[("residual", 1)]);
    bench.bring(0, Lifecycle::Culled);
    for left in [2, 1] {
        let refusal = bench.refusal(&[command(0, Action::Reset)]).to_string();
        assert!(refusal.contains(&format!("the embargo lasts {left} more epochs")), "{refusal}");
        bench.epoch();
    }
    assert_eq!(bench.refusal(&[germinate(1, 0)]).status(), Status::CapacityExceeded);
    bench.apply(&[command(0, Action::Reset)]);
    let seed = &bench.layer.report().seeds[0];
    assert_eq!((seed.state, seed.blueprint, seed.slot, seed.alpha), (Lifecycle::Dormant, -1, -1, 0.0));
    assert_eq!((seed.epochs, seed.embargo, seed.error_count, seed.ready), (0, 0, 0, false));
    bench.apply(&[germinate(1, 0)]);
    assert_eq!(bench.layer.report().seeds[1].slot, 0);
}

#[test]
fn cancelled_and_rolled_back_seeds_stay_until_they_are_reset() {
    for state in [Lifecycle::Cancelled, Lifecycle::RolledBack] {
        let mut bench = Bench::new(8, 2, easy(), &[("residual", 2)]);
        bench.bring(0, state);
        for _ in 0..5 {
            bench.epoch();
        }
        assert_eq!(bench.state(0), state);
        bench.apply(&[command(0, Action::Reset)]);
        assert_eq!(bench.state(0), Lifecycle::Dormant);
    }
}

#[test]
fn a_full_bank_is_named_with_its_capacity_and_its_blueprint() {
    let mut bench = Bench::new(12, 3, easy(), &[("attention", 3), ("residual", 2)]);
    bench.submit(&[germinate(0, 1)]);
    let refusal = bench.refusal(&[germinate(1, 1), germinate(2, 1)]);
    assert_eq!(refusal.status(), Status::CapacityExceeded);
    assert!(refusal.message().contains("all 2 slots of bank 1 (blueprint 'residual') are taken"), "{refusal}");
    bench.submit(&[germinate(1, 1)]);
    bench.submit(&[germinate(2, 0)]);
    assert_eq!(bench.epoch().applied.len(), 3);
}

#[test]
fn active_seeds_and_training_places_are_limited_by_the_settings() {
    let mut settings = Settings { max_active_seeds: 2, ..easy() };
    settings.training.places = 1;
    let mut bench = Bench::new(12, 3, settings, &[("residual", 3)]);
    let refusal = bench.refusal(&[germinate(0, 0), germinate(1, 0), germinate(2, 0)]);
    assert_eq!(refusal.status(), Status::CapacityExceeded);
    assert!(refusal.message().contains("2 seeds are active and 2 may be (max_active_seeds)"), "{refusal}");
    bench.apply(&[germinate(0, 0), germinate(1, 0)]);
    bench.submit(&[command(0, Action::StartTraining)]);
    let refusal = bench.refusal(&[command(1, Action::StartTraining)]).to_string();
    assert!(refusal.contains("1 seeds are training and there are 1 places"), "{refusal}");
}

#[test]
fn seeds_hold_no_more_bytes_than_the_settings_allow_and_give_them_back_when_they_are_reset() {
    let held = |bench: &Bench| bench.layer.report().totals.seed_bytes;
    let mut roomy = Bench::new(12, 3, easy(), &[("attention", 3), ("bottleneck", 3)]);
    roomy.apply(&[germinate(0, 0)]);
    let small = held(&roomy);
    roomy.apply(&[germinate(1, 1)]);
    let large = held(&roomy) - small;
    for (index, bytes) in [(0, small), (1, large)] {
        let bank = roomy.layer.bank(index).unwrap();
        let arrays = [&bank.parameters, &bank.parameters, &bank.first_moment, &bank.second_moment];
        let others = [&bank.steps, &bank.mode, &bank.non_finite];
        let of_a_slot: usize = arrays.iter().chain(&others).map(|array| array.bytes() / bank.capacity).sum();
        assert_eq!(bytes, of_a_slot as u64, "a gradient as large as the parameters, and all that a bank shares");
    }

    let most = large + 2 * small - 1;
    let settings = Settings { max_seed_bytes: Some(most), ..easy() };
    let mut bench = Bench::new(12, 3, settings, &[("attention", 3), ("bottleneck", 3)]);
    let refusal = bench.refusal(&[germinate(0, 0), germinate(1, 0), germinate(2, 1)]);
    assert_eq!(refusal.status(), Status::CapacityExceeded);
    let expected = format!("holds {large} bytes, and of {most} bytes {} are left (max_seed_bytes)", large - 1);
    assert!(refusal.message().contains(&expected), "{refusal}");
    assert_eq!(held(&bench), 0, "all or nothing");

    bench.apply(&[germinate(2, 1)]);
    bench.submit(&[germinate(0, 0)]);
    let refusal = bench.refusal(&[germinate(1, 0)]).to_string();
    assert!(refusal.contains(&format!("{} are left", small - 1)), "what is queued counts: {refusal}");
    bench.epoch();
    bench.apply(&[command(2, Action::Cancel)]);
    assert_eq!(held(&bench), large + small, "a seed keeps its slot until it is reset");
    bench.submit(&[command(2, Action::Reset), germinate(1, 0)]);
    assert_eq!(bench.epoch().applied.len(), 2);
    assert_eq!(held(&bench), 2 * small);
}

#[test]
fn a_second_germination_in_a_slot_starts_without_the_first_ones_parameters_moments_and_steps() {
    let mut bench = Bench::new(8, 2, easy(), &[("bottleneck", 1)]);
    bench.apply(&[germinate(0, 0)]);
    let bank = bench.layer.bank(0).unwrap();
    let first: Vec<f32> = read(&bank.parameters);
    assert!(first.iter().any(|value| *value != 0.0));
    write(&bank.first_moment, &vec![7.0f32; bank.size]);
    write(&bank.second_moment, &vec![7.0f32; bank.size]);
    write(&bank.steps, &[7u32]);
    bench.apply(&[command(0, Action::Cancel)]);
    bench.apply(&[command(0, Action::Reset)]);
    bench.apply(&[germinate(0, 0)]);
    let second: Vec<f32> = read(&bank.parameters);
    assert!(second.iter().any(|value| *value != 0.0) && second != first, "each germination has its own parameters");
    assert_eq!(read::<f32>(&bank.first_moment), vec![0.0; bank.size]);
    assert_eq!(read::<f32>(&bank.second_moment), vec![0.0; bank.size]);
    assert_eq!(read::<u32>(&bank.steps), [0]);

    let mut again = Bench::new(8, 2, easy(), &[("bottleneck", 1)]);
    again.apply(&[germinate(0, 0)]);
    assert_eq!(read::<f32>(&again.layer.bank(0).unwrap().parameters), first, "and the same in every run");
}

#[test]
fn an_emergency_rollback_is_effective_before_the_next_forward_and_only_from_states_2_to_6() {
    for state in Lifecycle::ALL {
        let mut bench = Bench::in_state(state);
        let applied = bench.forward() != bench.x.read();
        assert_eq!(applied, state.applies_blueprint());
        match bench.layer.roll_back(0, "test", STREAM) {
            Ok(record) => {
                assert!((2..=6).contains(&(state as i8)), "{state}");
                assert_eq!((record.from, record.to), (state, Lifecycle::RolledBack));
                assert_eq!(bench.forward(), bench.x.read());
                assert_eq!(read::<u8>(&bench.layer.bank(0).unwrap().mode), [0, 0]);
            }
            Err(error) => {
                assert!(!(2..=6).contains(&(state as i8)), "{state}: {error}");
                assert_eq!(error.status(), Status::TransitionRefused);
                assert_eq!(bench.state(0), state);
            }
        }
    }
}

#[test]
fn damage_to_the_device_state_is_found_at_the_boundary_reported_and_repaired() {
    let mut bench = Bench::new(8, 4, easy(), &[("residual", 2)]);
    bench.bring(1, Lifecycle::Grafting);
    let before: Vec<i8> = read(&bench.layer.array("lifecycle").unwrap().buffer);
    assert_eq!(before, [0, 3, 0, 0]);
    write(&bench.layer.array("alpha").unwrap().buffer, &[0.25f32]);
    let summary = bench.layer.end_epoch(STREAM).unwrap();
    assert!(summary.repaired.len() == 1 && summary.repaired[0].contains("alpha"), "{summary:?}");
    assert_eq!(read::<f32>(&bench.layer.array("alpha").unwrap().buffer)[0], 0.0);
    assert_eq!(bench.epoch().repaired, [] as [String; 0]);
}

#[test]
fn evidence_that_was_not_given_opens_no_gate() {
    let mut bench = Bench::in_state(Lifecycle::Evaluating);
    bench.epoch();
    let refusal = bench.refusal(&[Command { evidence: Evidence::default(), ..command(0, Action::FineTune) }]);
    assert!(refusal.message().contains("lacks a finite validation_delta"), "{refusal}");
}

#[test]
fn a_seed_that_did_harm_is_culled_when_it_is_to_be_fine_tuned_and_the_summary_says_what_for() {
    let mut bench = Bench::in_state(Lifecycle::Evaluating);
    bench.epoch();
    let fine_tune = |validation_delta| Command {
        evidence: Evidence { validation_delta, ..good() },
        reason: "the evaluation is over".to_owned(),
        ..command(0, Action::FineTune)
    };
    let refusal = bench.refusal(&[fine_tune(-0.04)]).to_string();
    assert!(refusal.contains("the validation delta -0.04 is not above 0"), "no harm yet: {refusal}");
    let refusal = bench.refusal(&[fine_tune(-0.06), command(0, Action::Fossilise)]).to_string();
    assert!(refusal.contains("seed 0 cannot fossilise from CULLED"), "all or nothing: {refusal}");
    assert_eq!(bench.epoch().applied, []);

    let summary = bench.apply(&[fine_tune(-0.06), germinate(1, 0)]);
    let [record, other] = &summary.applied[..] else { panic!("{summary:?}") };
    assert_eq!((record.action, record.from, record.to), (Action::FineTune, Lifecycle::Evaluating, Lifecycle::Culled));
    let why = "the validation delta -0.06 is below -0.05 (gates.cull_validation_delta)";
    assert_eq!((record.culled_for.as_deref(), record.reason.as_str()), (Some(why), "the evaluation is over"));
    assert_eq!((other.to, &other.culled_for), (Lifecycle::Germinated, &None));
    let seed = &bench.layer.report().seeds[0];
    assert_eq!((seed.state, seed.embargo), (Lifecycle::Culled, easy().embargo_epochs));
    assert_eq!(bench.forward(), bench.x.read(), "a culled seed is identity");
}

#[test]
fn an_accepted_fine_tuning_becomes_a_cull_if_too_many_errors_came_before_the_epochs_end() {
    let mut settings = easy();
    settings.gates.cull_errors = 0;
    let mut bench = Bench::new(8, 2, settings, &[("residual", 2)]);
    bench.bring(0, Lifecycle::Evaluating);
    bench.epoch();
    bench.submit(&[command(0, Action::FineTune)]);
    bench.set_residual(f32::NAN);
    let summary = bench.epoch();
    assert_eq!(summary.applied[0].culled_for.as_deref(), Some("1 errors are above 0 (gates.cull_errors)"));
    assert_eq!((bench.state(0), summary.refused), (Lifecycle::Culled, Vec::new()));
}

#[test]
fn the_device_arrays_are_what_the_report_says() {
    let mut bench = Bench::new(12, 3, easy(), &[("residual", 3)]);
    bench.bring(2, Lifecycle::Grafting);
    let report = bench.layer.report();
    let column = |name: &str| bench.layer.array(name).unwrap().buffer;
    assert_eq!(read::<i8>(&column("lifecycle")), report.seeds.iter().map(|s| s.state as i8).collect::<Vec<_>>());
    assert_eq!(read::<i32>(&column("blueprint")), report.seeds.iter().map(|s| s.blueprint).collect::<Vec<_>>());
    assert_eq!(read::<i32>(&column("slot")), report.seeds.iter().map(|s| s.slot).collect::<Vec<_>>());
    assert_eq!(read::<f32>(&column("alpha")), report.seeds.iter().map(|s| s.alpha).collect::<Vec<_>>());
    assert_eq!(read::<i16>(&column("epochs_in_state")), report.seeds.iter().map(|s| s.epochs).collect::<Vec<_>>());
    assert_eq!(bench.layer.array("colour").err().unwrap().status(), Status::InvalidArgument);
}

#[test]
fn an_epoch_of_a_hundred_thousand_seeds_ends_in_reasonable_time() {
    let seeds = 100_000;
    let mut bench = Bench::new(4 * seeds as usize, seeds, Settings { max_active_seeds: seeds, ..easy() }, &[]);
    bench.layer.add_blueprint(crate::bench::logarithm(4), seeds).unwrap();
    let all: Vec<_> = (0..seeds).map(|seed| germinate(seed, 0)).collect();
    let begin = std::time::Instant::now();
    bench.layer.submit(&all).unwrap();
    assert_eq!(bench.layer.end_epoch(STREAM).unwrap().applied.len(), seeds as usize);
    bench.layer.end_epoch(STREAM).unwrap();
    // Far above what it takes, and far below one device call for each seed and array.
    assert!(begin.elapsed().as_secs_f64() < 20.0, "{:?}", begin.elapsed());
    println!("100 000 germinations and two epochs' ends took {:?}", begin.elapsed());
    let slots: Vec<i32> = read(&bench.layer.array("slot").unwrap().buffer);
    assert_eq!(slots, (0..seeds as i32).collect::<Vec<_>>());
}
