//! Forward and backward: what seeds do to the host's tensors in each state, and what they never do.

use crate::bench::{Bench, STREAM, Tensor, command, easy, logarithm, noise, read, write};
use kasmina::Status;
use kasmina::device::{Address, Rows};
use kasmina::graph::DataType;
use kasmina::layer::{Action, Backward, Forward, Lifecycle, Settings};

fn bits(elements: &[f32]) -> Vec<u32> {
    elements.iter().map(|element| element.to_bits()).collect()
}

#[test]
fn the_output_has_the_blueprint_in_states_3_to_7_and_the_inputs_bits_in_all_others() {
    for state in Lifecycle::ALL {
        let bench = Bench::in_state(state);
        let alpha = bench.alpha(0);
        assert_eq!(alpha > 0.0, (3..=7).contains(&(state as i8)) || state == Lifecycle::RolledBack && alpha > 0.0);
        let (x, y) = (bench.x.read(), bench.forward());
        for (index, (x, y)) in x.iter().zip(&y).enumerate() {
            if index % 8 < 4 && (3..=7).contains(&(state as i8)) {
                assert!((y - (x + alpha * 0.5)).abs() < 1e-6, "{state}: {x} became {y} with alpha {alpha}");
            } else {
                assert_eq!(y.to_bits(), x.to_bits(), "{state}: channel {} of {x} became {y}", index % 8);
            }
        }
    }
}

#[test]
fn an_alpha_above_zero_changes_the_output_by_as_much_as_it_says() {
    let bench = Bench::in_state(Lifecycle::Grafting);
    let x = bench.x.read();
    for alpha in [0.0f32, 0.25, 1.0] {
        let given = Tensor::new(1, 2, &[alpha, alpha]);
        let y = Tensor::new(5, 8, &[f32::NAN; 40]);
        let forward = Forward {
            x: bench.x.rows(),
            y: y.rows(),
            rows: 5,
            data_type: DataType::F32,
            alpha: Some(given.rows().address),
            banks: None,
            telemetry: None,
            random: None,
            deterministic: true,
        };
        bench.layer.forward(&forward, STREAM).unwrap();
        assert!((y.read()[0] - (x[0] + alpha * 0.5)).abs() < 1e-6);
    }
}

#[test]
fn observing_alone_sees_what_a_forward_pass_sees_and_is_refused_in_states_3_to_7() {
    for state in Lifecycle::ALL {
        let mut bench = Bench::in_state(state);
        let before = bits(&bench.x.read());
        let telemetry = |bench: &Bench| read::<u64>(&bench.layer.array("telemetry").unwrap().buffer);
        bench.layer.end_epoch(STREAM).unwrap();
        let unseen = telemetry(&bench);
        let observed = bench.observe(None);
        assert_eq!(bits(&bench.x.read()), before, "{state}");
        if (3..=7).contains(&(state as i8)) {
            let error = observed.unwrap_err();
            assert_eq!(error.status(), Status::InvalidArgument, "{state}");
            let words = format!("seed 0 applies blueprint 0 ({})", bench.state(0));
            assert!(error.message().contains(&words), "{error}");
            let of_gradient = bench.observe_gradient().unwrap_err();
            assert!(
                of_gradient.message().contains(&format!("input_gradient is missing, but {words}")),
                "{of_gradient}"
            );
            assert_eq!(telemetry(&bench), unseen, "{state}");
            continue;
        }
        observed.unwrap();
        let seen = telemetry(&bench);
        assert_ne!(seen, unseen, "{state}");
        bench.layer.end_epoch(STREAM).unwrap();
        bench.forward_observed(None);
        assert_eq!(seen, telemetry(&bench), "{state}");
        bench.observe(Some(Address::NULL)).unwrap();
        assert_eq!(seen, telemetry(&bench), "{state}");
    }
}

#[test]
fn observing_writes_no_row_even_if_the_devices_state_arrays_are_damaged() {
    let mut bench = Bench::new(11, 2, easy(), &[("residual", 2)]);
    bench.bring(0, Lifecycle::Training);
    bench.set_residual(0.5);
    let before = bits(&bench.x.read());
    bench.observe(None).unwrap();
    let [lifecycle, alpha] = ["lifecycle", "alpha"].map(|name| bench.layer.array(name).unwrap().buffer);
    write(&lifecycle, &[Lifecycle::Grafting as i8; 2]);
    write(&alpha, &[1.0f32; 2]);
    assert_ne!(bits(&bench.forward()), before, "the damage would be seen");
    // The CPU says that it makes no sense; a GPU cannot.
    let _ = bench.observe(None);
    assert_eq!(bits(&bench.x.read()), before);
}

#[test]
fn parameters_get_a_gradient_in_states_3_and_6_only() {
    for state in Lifecycle::ALL {
        let bench = Bench::in_state(state);
        let (input_gradient, bank_gradients) = bench.backward();
        let trains = bank_gradients[0].iter().any(|element| *element != 0.0);
        assert_eq!(trains, state == Lifecycle::Grafting || state == Lifecycle::FineTuning, "{state}");
        // x + 0.5 has the gradient of the identity, in every state.
        for (ours, given) in input_gradient.iter().zip(&bench.output_gradient.read()) {
            assert!((ours - given).abs() < 1e-6, "{state}");
        }
        if !state.applies_blueprint() {
            assert_eq!(bits(&input_gradient), bits(&bench.output_gradient.read()), "{state}");
        }
    }
}

#[test]
fn a_training_seed_leaves_output_and_input_gradient_bit_identical_to_a_layer_without_it() {
    let dormant = Bench::new(12, 3, easy(), &[("bottleneck", 3)]);
    let mut training = Bench::new(12, 3, Settings::default(), &[("bottleneck", 3)]);
    training.bring(1, Lifecycle::Germinated);
    training.epoch();
    training.apply(&[command(1, Action::StartTraining)]);
    for _ in 0..10 {
        training.train();
    }
    assert_eq!(bits(&training.forward()), bits(&dormant.forward()));
    assert_eq!(bits(&training.backward().0), bits(&dormant.backward().0));
    assert!(training.backward().1[0].iter().all(|element| *element == 0.0));
}

#[test]
fn channels_that_belong_to_no_seed_pass_unchanged() {
    let mut bench = Bench::new(11, 2, easy(), &[("residual", 2)]);
    bench.bring(0, Lifecycle::Fossilized);
    bench.bring(1, Lifecycle::Grafting);
    bench.set_residual(0.5);
    let (x, y) = (bench.x.read(), bench.forward());
    let (input_gradient, output_gradient) = (bench.backward().0, bench.output_gradient.read());
    for index in 0..x.len() {
        if index % 11 == 10 {
            assert_eq!((y[index], input_gradient[index]), (x[index], output_gradient[index]));
        } else {
            assert_ne!(y[index], x[index]);
        }
    }
}

#[test]
fn parameters_and_gradients_may_lie_in_the_callers_memory() {
    let bench = Bench::in_state(Lifecycle::FineTuning);
    let bank = bench.layer.bank(0).unwrap();
    let parameters = Tensor::new(2, 5, &[2.0, 2.0, 2.0, 2.0, 1.0].repeat(2));
    let banks = [parameters.rows().address];
    let gradients = bench.bank_gradients();
    write(&gradients[0], &vec![100.0f32; bank.capacity * bank.size]);
    let addresses = [gradients[0].address()];
    let alpha_gradient = Tensor::new(1, 2, &[10.0, 20.0]);
    let (y, input_gradient) = (Tensor::new(5, 8, &[0.0; 40]), Tensor::new(5, 8, &[0.0; 40]));
    let telemetry = Some(Address::NULL);
    let (x, rows, data_type, alpha, deterministic) = (bench.x.rows(), 5, DataType::F32, None, true);
    let banks = Some(&banks[..]);
    let forward = Forward { x, y: y.rows(), rows, data_type, alpha, banks, telemetry, random: None, deterministic };
    bench.layer.forward(&forward, STREAM).unwrap();
    assert!((y.read()[0] - (bench.x.read()[0] + 2.0)).abs() < 1e-6);
    let backward = Backward {
        x,
        output_gradient: bench.output_gradient.rows(),
        input_gradient: input_gradient.rows(),
        rows,
        data_type,
        alpha,
        banks,
        bank_gradients: &addresses,
        alpha_gradient: Some(alpha_gradient.rows().address),
        telemetry,
        random: None,
        deterministic,
    };
    bench.layer.backward(&backward, STREAM).unwrap();
    // dw = sum of dy over the rows, dalpha = sum of dy * 2; both are added to what was there.
    let dy = bench.output_gradient.read();
    let column = |channel: usize| (0..5).map(|row| dy[row * 8 + channel]).sum::<f32>();
    let slot = bench.layer.report().seeds[0].slot as usize;
    let gradient: Vec<f32> = read(&gradients[0]);
    for channel in 0..4 {
        assert!((gradient[slot * bank.size + channel] - (100.0 + column(channel))).abs() < 1e-4);
    }
    let expected = 10.0 + 2.0 * (0..4).map(column).sum::<f32>();
    assert!((alpha_gradient.read()[0] - expected).abs() < 1e-4);
    assert_eq!(alpha_gradient.read()[1], 20.0);
}

#[test]
fn seeds_of_several_blueprints_run_side_by_side() {
    let mut bench = Bench::new(16, 4, easy(), &[("residual", 2), ("mlp", 2)]);
    bench.bring(0, Lifecycle::Fossilized);
    let mlp = kasmina::layer::Command { blueprint: 1, ..command(2, Action::Germinate) };
    bench.apply(&[mlp]);
    for action in [Action::StartTraining, Action::StartGrafting] {
        bench.epoch();
        bench.apply(&[command(2, action)]);
    }
    bench.epoch();
    bench.epoch();
    bench.set_residual(0.5);
    let bank = bench.layer.bank(1).unwrap();
    write(&bank.parameters, &vec![1.0f32; bank.size * bank.capacity]);
    let (x, y) = (bench.x.read(), bench.forward());
    for index in 0..x.len() {
        let expected = match index % 16 / 4 {
            0 => x[index] + 0.5,
            2 => x[index].max(0.0),
            _ => x[index],
        };
        assert!((y[index] - expected).abs() < 1e-6, "channel {}: {} became {}", index % 16, x[index], y[index]);
    }
}

#[test]
fn a_blueprint_that_gives_no_number_never_reaches_the_host_is_recorded_and_blocks_promotion() {
    let mut bench = Bench::new(8, 2, Settings { fallback_blocks_promotion: false, ..easy() }, &[]);
    bench.layer.add_blueprint(logarithm(4), 1).unwrap();
    let mut strict = Bench::new(8, 2, easy(), &[]);
    strict.layer.add_blueprint(logarithm(4), 1).unwrap();
    for bench in [&mut bench, &mut strict] {
        // Positive numbers first, of which the logarithm is a number.
        let positive: Vec<f32> = noise(40, 3).iter().map(|x| x.abs() + 0.5).collect();
        bench.x = Tensor::new(5, 8, &positive);
        bench.bring(0, Lifecycle::Grafting);
        assert!(bench.forward().iter().zip(&positive).take(4).all(|(y, x)| y != x));
        let mut broken = positive.clone();
        broken[8 + 2] = -1.0;
        bench.x = Tensor::new(5, 8, &broken);
        let y = bench.forward();
        assert_eq!(y[8..16], broken[8..16], "the row falls back");
        assert!((16..20).all(|index| y[index] != broken[index]), "the others do not");
        assert!(bench.backward().1[0].iter().all(|element| element.is_finite()));
        bench.epoch();
        bench.epoch();
        let seed = &bench.layer.report().seeds[0];
        assert!(seed.fallback_used && seed.error_count == 2 && seed.metrics.fallback_rows == 1, "{seed:?}");
    }
    bench.apply(&[command(0, Action::Stabilise)]);
    let refusal = strict.refusal(&[command(0, Action::Stabilise)]).to_string();
    assert!(refusal.contains("rows fell back to identity"), "{refusal}");
}

#[test]
fn no_rows_are_no_work_and_no_error() {
    let bench = Bench::in_state(Lifecycle::Grafting);
    let none = Rows::default();
    let (data_type, alpha, banks, telemetry) = (DataType::F32, None, None, None);
    let forward =
        Forward { x: none, y: none, rows: 0, data_type, alpha, banks, telemetry, random: None, deterministic: false };
    bench.layer.forward(&forward, STREAM).unwrap();
}

#[test]
fn tensors_that_do_not_fit_are_refused_by_name() {
    let bench = Bench::in_state(Lifecycle::Grafting);
    let y = Tensor::new(5, 8, &[0.0; 40]);
    let good = Forward {
        x: bench.x.rows(),
        y: y.rows(),
        rows: 5,
        data_type: DataType::F32,
        alpha: None,
        banks: None,
        telemetry: None,
        random: None,
        deterministic: false,
    };
    let narrow = Rows { stride: 7, ..y.rows() };
    let null = Rows { address: Address::NULL, ..y.rows() };
    for (forward, status, word) in [
        (Forward { data_type: DataType::F64, ..good }, Status::TypeMismatch, "f64"),
        (Forward { data_type: DataType::I32, ..good }, Status::TypeMismatch, "i32"),
        (Forward { y: narrow, ..good }, Status::ShapeMismatch, "the rows of y overlap: rows 7 apart"),
        (Forward { x: null, ..good }, Status::InvalidArgument, "x is null"),
        (Forward { banks: Some(&[]), ..good }, Status::InvalidArgument, "banks has 0 addresses"),
        (Forward { banks: Some(&[Address::NULL]), ..good }, Status::InvalidArgument, "null for blueprint 0"),
        (Forward { rows: usize::MAX / 4, ..good }, Status::ShapeMismatch, "x is too large"),
    ] {
        let error = bench.layer.forward(&forward, STREAM).unwrap_err();
        assert_eq!(error.status(), status, "{error}");
        assert!(error.message().contains(word), "{error}");
    }
}
