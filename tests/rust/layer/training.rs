//! Isolated training and the optimiser: who learns, and who keeps every bit.

use crate::bench::{Bench, STREAM, command, easy, noise, read, write};
use kasmina::Status;
use kasmina::layer::{Action, AdamwStep, Lifecycle, Settings, TrainingSettings};

fn step(blueprint: u32, gradient: kasmina::device::Address) -> AdamwStep {
    AdamwStep {
        blueprint,
        parameters: None,
        gradient,
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.1,
    }
}

/// Parameters, both moments and the steps of a slot.
type Slot = (Vec<f32>, Vec<f32>, Vec<f32>, u32);

/// Everything an optimiser step could change in bank 0, slot by slot.
fn slots(bench: &Bench) -> Vec<Slot> {
    let bank = bench.layer.bank(0).unwrap();
    let [parameters, first, second] = [&bank.parameters, &bank.first_moment, &bank.second_moment].map(read::<f32>);
    let steps: Vec<u32> = read(&bank.steps);
    let of = |array: &[f32], slot: usize| array[slot * bank.size..(slot + 1) * bank.size].to_vec();
    (0..bank.capacity).map(|slot| (of(&parameters, slot), of(&first, slot), of(&second, slot), steps[slot])).collect()
}

#[test]
fn an_optimiser_step_moves_slots_in_states_3_and_6_and_no_bit_of_any_other() {
    for state in Lifecycle::ALL {
        let mut bench = Bench::in_state(state);
        if bench.layer.report().seeds[0].slot == 1 {
            bench.epoch();
        }
        let bank = bench.layer.bank(0).unwrap();
        // Momentum and weight decay would move a slot without any gradient.
        write(&bank.first_moment, &vec![0.5f32; bank.size * bank.capacity]);
        write(&bank.second_moment, &vec![0.5f32; bank.size * bank.capacity]);
        let gradient = bench.bank_gradients().remove(0);
        write(&gradient, &noise(bank.size * bank.capacity, 4));
        let before = slots(&bench);
        bench.layer.adamw(&step(0, gradient.address()), STREAM).unwrap();
        let after = slots(&bench);
        let own = bench.layer.report().seeds[0].slot;
        for slot in 0..bank.capacity {
            let moves = slot as i32 == own && (state == Lifecycle::Grafting || state == Lifecycle::FineTuning);
            assert_eq!(after[slot] != before[slot], moves, "slot {slot} in {state}");
            assert_eq!(after[slot].3, before[slot].3 + u32::from(moves));
        }
    }
}

#[test]
fn training_lowers_the_loss_and_ends_with_success_at_the_threshold() {
    let training = TrainingSettings { learning_rate: 0.05, loss_threshold: 1e-3, ..TrainingSettings::default() };
    let mut bench = Bench::new(8, 2, Settings { training, ..easy() }, &[("residual", 2)]);
    bench.bring(0, Lifecycle::Germinated);
    bench.epoch();
    bench.set_residual(0.5);
    bench.apply(&[command(0, Action::StartTraining)]);
    assert_eq!(read::<u8>(&bench.layer.bank(0).unwrap().mode), [2, 0]);
    bench.train();
    bench.epoch();
    let first = bench.layer.report().seeds[0].metrics.loss;
    // f(x) - x = 0.5 in the first step, less in the second.
    assert!((0.1..0.25).contains(&first), "{first}");
    let refusal = bench.refusal(&[command(0, Action::StartGrafting)]).to_string();
    assert!(refusal.contains(&format!("the reconstruction loss {first} is above 0.001")), "{refusal}");
    for _ in 0..20 {
        (0..10).for_each(|_| bench.train());
        bench.epoch();
    }
    assert!(bench.layer.report().seeds[0].metrics.loss <= 1e-3);
    // It has succeeded: nothing moves it any more.
    assert_eq!(read::<u8>(&bench.layer.bank(0).unwrap().mode), [0, 0]);
    let before = slots(&bench);
    bench.train();
    assert_eq!(slots(&bench), before);
    bench.apply(&[command(0, Action::StartGrafting)]);
}

#[test]
fn training_ends_with_failure_at_the_epoch_limit() {
    let training = TrainingSettings { loss_threshold: 0.0, epoch_limit: 2, ..TrainingSettings::default() };
    let mut bench = Bench::new(8, 2, Settings { training, ..easy() }, &[("residual", 2)]);
    bench.bring(0, Lifecycle::Training);
    bench.set_residual(0.5);
    let mode = |bench: &Bench| read::<u8>(&bench.layer.bank(0).unwrap().mode)[0];
    assert_eq!(mode(&bench), 2);
    bench.epoch();
    assert_eq!(mode(&bench), 2);
    bench.epoch();
    assert_eq!(mode(&bench), 0);
    bench.epoch();
    let refusal = bench.refusal(&[command(0, Action::StartGrafting)]).to_string();
    assert!(refusal.contains("is above 0"), "{refusal}");
}

#[test]
fn only_seeds_in_training_are_trained() {
    let mut bench = Bench::new(16, 4, easy(), &[("bottleneck", 4)]);
    bench.bring(0, Lifecycle::Fossilized);
    bench.bring(1, Lifecycle::Grafting);
    let before = slots(&bench);
    bench.train();
    assert_eq!(slots(&bench), before);
    let mut settings = easy();
    settings.training.loss_threshold = 1e-9;
    let mut bench = Bench::new(16, 4, settings, &[("bottleneck", 4)]);
    bench.bring(2, Lifecycle::Training);
    let bank = bench.layer.bank(0).unwrap();
    write(&bank.parameters, &noise(bank.size * 4, 5));
    let before = slots(&bench);
    bench.train();
    let slot = bench.layer.report().seeds[2].slot as usize;
    for (index, (before, after)) in before.iter().zip(&slots(&bench)).enumerate() {
        assert_eq!(before != after, index == slot, "slot {index}");
    }
}

#[test]
fn the_loss_of_an_epoch_is_the_mean_over_its_steps_and_begins_anew() {
    let mut settings = easy();
    settings.training.learning_rate = 0.0;
    settings.training.weight_decay = 0.0;
    settings.training.loss_threshold = 0.0;
    let mut bench = Bench::new(8, 2, settings, &[("residual", 2)]);
    bench.bring(0, Lifecycle::Training);
    bench.set_residual(0.5);
    for steps in [1, 3] {
        (1..steps).for_each(|_| bench.train());
        bench.epoch();
        let loss = bench.layer.report().seeds[0].metrics.loss;
        assert!((loss - 0.25).abs() < 1e-6, "{loss} after {steps} steps");
    }
    assert!(bench.layer.report().seeds[1].metrics.loss.is_nan());
    bench.layer.end_epoch(STREAM).unwrap();
    assert!(bench.layer.report().seeds[0].metrics.loss.is_nan(), "no step, no loss");
    let refusal = bench.refusal(&[command(0, Action::StartGrafting)]).to_string();
    assert!(refusal.contains("no step of isolated training"), "{refusal}");
}

#[test]
fn a_gradient_that_is_no_number_moves_nothing_and_is_recorded() {
    let mut bench = Bench::in_state(Lifecycle::FineTuning);
    let bank = bench.layer.bank(0).unwrap();
    let gradient = bench.bank_gradients().remove(0);
    write(&gradient, &vec![f32::NAN; bank.size * bank.capacity]);
    let before = slots(&bench);
    bench.layer.adamw(&step(0, gradient.address()), STREAM).unwrap();
    assert_eq!(slots(&bench), before);
    bench.epoch();
    let seed = &bench.layer.report().seeds[0];
    assert!(seed.non_finite_seen && seed.error_count == 1, "{seed:?}");
    bench.epoch();
    assert_eq!(bench.layer.report().seeds[0].error_count, 1, "an epoch without errors adds none");
}

#[test]
fn rates_that_mean_nothing_are_refused() {
    let bench = Bench::in_state(Lifecycle::Grafting);
    let gradient = bench.bank_gradients().remove(0);
    let good = step(0, gradient.address());
    for bad in [
        AdamwStep { blueprint: 1, ..good },
        AdamwStep { gradient: kasmina::device::Address::NULL, ..good },
        AdamwStep { learning_rate: f64::NAN, ..good },
        AdamwStep { beta1: 1.0, ..good },
        AdamwStep { epsilon: -1.0, ..good },
    ] {
        assert_eq!(bench.layer.adamw(&bad, STREAM).unwrap_err().status(), Status::InvalidArgument);
    }
}
