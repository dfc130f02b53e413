//! What the layer sees of its chunks, in every state.

use crate::bench::{Bench, STREAM, Tensor, read};
use kasmina::device::telemetry::{COLUMNS, GRADIENT_SQUARES};
use kasmina::graph::DataType;
use kasmina::layer::{Backward, Lifecycle};

#[test]
fn every_seed_is_observed_in_every_state_and_anew_in_each_epoch() {
    for state in Lifecycle::ALL {
        let mut bench = Bench::in_state(state);
        let mut x = bench.x.read();
        x[9] = 0.0;
        bench.x = Tensor::new(5, 8, &x);
        for forwards in [2, 1] {
            (1..forwards).for_each(|_| drop(bench.forward_observed(None)));
            bench.epoch();
            for seed in 0..2 {
                let elements: Vec<f64> =
                    (0..40).filter(|index| index % 8 / 4 == seed).map(|index| f64::from(x[index])).collect();
                let mean = elements.iter().sum::<f64>() / 20.0;
                let variance = elements.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / 20.0;
                let metrics = bench.layer.report().seeds[seed].metrics;
                assert_eq!(metrics.count, 20 * forwards, "{state}, seed {seed}");
                assert!((metrics.mean - mean).abs() < 1e-6, "{state}, seed {seed}");
                assert!((metrics.variance - variance).abs() < 1e-5, "{state}, seed {seed}");
                assert!((metrics.dead_ratio - if seed == 0 { 0.05 } else { 0.0 }).abs() < 1e-9, "{state}");
                let smallest = elements.iter().copied().fold(f64::INFINITY, f64::min);
                assert_eq!(metrics.minimum, smallest);
            }
        }
    }
}

#[test]
fn the_gradient_norm_comes_from_backward() {
    let mut bench = Bench::in_state(Lifecycle::Dormant);
    let input_gradient = Tensor::new(5, 8, &[0.0; 40]);
    let backward = Backward {
        x: bench.x.rows(),
        output_gradient: bench.output_gradient.rows(),
        input_gradient: input_gradient.rows(),
        rows: 5,
        data_type: DataType::F32,
        alpha: None,
        banks: None,
        bank_gradients: &[bench.bank_gradients().remove(0)].map(|buffer| buffer.address()),
        alpha_gradient: None,
        telemetry: None,
        random: None,
        deterministic: true,
    };
    bench.layer.backward(&backward, STREAM).unwrap();
    let dy = bench.output_gradient.read();
    let squares: f64 = (0..40).filter(|index| index % 8 < 4).map(|index| f64::from(dy[index]).powi(2)).sum();
    let array: Vec<f64> = read(&bench.layer.array("telemetry").unwrap().buffer);
    assert!((array[GRADIENT_SQUARES] - squares).abs() < 1e-4);
    bench.layer.end_epoch(STREAM).unwrap();
    assert!((bench.layer.report().seeds[0].metrics.gradient_norm - squares.sqrt()).abs() < 1e-4);
    let array: Vec<f64> = read(&bench.layer.array("telemetry").unwrap().buffer);
    assert_eq!((array.len(), array[GRADIENT_SQUARES]), (2 * COLUMNS, 0.0));

    bench.observe_gradient().unwrap();
    let array: Vec<f64> = read(&bench.layer.array("telemetry").unwrap().buffer);
    assert!((array[GRADIENT_SQUARES] - squares).abs() < 1e-4, "observing alone sees the same");
    assert_eq!(bench.output_gradient.read(), dy);
}

#[test]
fn elements_that_are_no_numbers_are_counted_and_spoil_nothing() {
    let mut bench = Bench::in_state(Lifecycle::Dormant);
    let mut x = vec![1.0; 40];
    (x[0], x[9], x[4]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    bench.x = Tensor::new(5, 8, &x);
    bench.epoch();
    let report = bench.layer.report();
    let metrics = report.seeds[0].metrics;
    assert_eq!((metrics.non_finite, metrics.count, metrics.mean, metrics.maximum), (2, 20, 1.0, 1.0));
    assert_eq!(report.totals.non_finite, 3);
}

#[test]
fn the_report_is_json_without_numbers_that_json_lacks() {
    let mut bench = Bench::in_state(Lifecycle::Grafting);
    bench.layer.end_epoch(STREAM).unwrap();
    let report = bench.layer.report();
    let json: serde_json::Value = serde_json::from_str(&report.to_json().unwrap()).unwrap();
    assert_eq!(json["layer_id"], "layer");
    assert_eq!(json["epoch"], bench.layer.epoch());
    assert_eq!((&json["seeds"][0]["state"], &json["seeds"][1]["state"]), (&"GRAFTING".into(), &"DORMANT".into()));
    assert!(json["seeds"][0]["metrics"]["mean"].is_null() && json["seeds"][0]["metrics"]["loss"].is_null());
    assert_eq!((&json["totals"]["seeds"], &json["totals"]["applied"]), (&2.into(), &1.into()));
    assert!(json["timestamp"].as_f64().unwrap() > 1.7e9);
    let kernels = json["kernels"].as_array().unwrap();
    let forward = kernels.iter().find(|kernel| kernel["pass"] == "forward" && kernel["runs"] == true).unwrap();
    assert_eq!((&forward["state"], &forward["schedule"]), (&"ready".into(), &"best".into()));
    assert_eq!((&forward["data_type"], &forward["blueprints"]), (&"f32".into(), &serde_json::json!([0])));
    assert!(forward["reason"].is_null());
}
