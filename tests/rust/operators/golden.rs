//! Every operator against PyTorch's own results, forward and backward: through the reference interpreter in f64.
//! `tests/data/make_operators.py` wrote the results.

use kasmina::compile::{Pass, kernel_class, reference};
use kasmina::graph::{Blueprint, DataType};
use serde::Deserialize;

/// What PyTorch computed.
#[derive(Deserialize)]
pub struct Golden {
    /// Rows of every case.
    pub rows: usize,
    /// One case for each operator and way to use it.
    pub cases: Vec<Case>,
}

/// A blueprint with inputs and results.
#[derive(Deserialize)]
pub struct Case {
    blueprint: serde_json::Value,
    /// `[rows, chunk]`
    pub x: Vec<f64>,
    /// The gradient of f(x).
    pub dy: Vec<f64>,
    /// One slot.
    pub parameters: Vec<f64>,
    /// What PyTorch computed in f64.
    pub f64: Results,
    /// What PyTorch computed in f32.
    pub f32: Results,
}

/// f(x) and gradients.
#[derive(Deserialize)]
pub struct Results {
    /// f(x): `[rows, chunk]`
    pub y: Vec<f64>,
    /// The gradient of x.
    pub dx: Vec<f64>,
    /// The gradient of the slot, summed over rows.
    pub dp: Vec<f64>,
}

impl Case {
    /// The blueprint, through the public door.
    pub fn blueprint(&self) -> Blueprint {
        Blueprint::from_json(self.blueprint.to_string().as_bytes()).unwrap()
    }
}

/// All cases.
pub fn golden() -> Golden {
    serde_json::from_str(include_str!("../../data/operators.json")).unwrap()
}

/// Fails if an element is further from PyTorch's than the tolerance, relative to 1 + its size.
#[track_caller]
pub fn near(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (position, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / (1.0 + expected.abs());
        assert!(error <= tolerance, "{what}: element {position} is {found}; PyTorch has {expected}");
    }
}

#[test]
fn every_operator_has_a_case() {
    let cases = golden().cases;
    for operator in kasmina::ops::all().iter().map(|operator| operator.name()).filter(|&name| name != "row_sum") {
        let named = format!("\"op\":\"{operator}\"");
        assert!(cases.iter().any(|case| case.blueprint.to_string().contains(&named)), "no case for `{operator}`");
    }
}

#[test]
fn every_operator_computes_what_pytorch_computes_in_f64() {
    let Golden { rows, cases } = golden();
    for case in cases {
        let blueprint = case.blueprint();
        let inputs = reference::Inputs {
            rows,
            x: &case.x,
            output_gradient: &case.dy,
            parameters: &case.parameters,
            alpha: 1.0,
            ..reference::Inputs::default()
        };
        let run = |pass| {
            let class = kernel_class(pass, DataType::F64, false, &[&blueprint]).unwrap();
            reference::run(&class.programs[0], &inputs).unwrap()
        };
        let (forward, backward) = (run(Pass::Forward), run(Pass::Backward));
        assert_eq!((forward.fallback_rows, backward.fallback_rows), (0, 0), "{}", blueprint.name);
        near(&forward.rows, &case.f64.y, 1e-12, &format!("{}, f(x)", blueprint.name));
        near(&backward.rows, &case.f64.dx, 1e-12, &format!("{}, the gradient of x", blueprint.name));
        near(&backward.parameter_gradient, &case.f64.dp, 1e-12, &format!("{}, the parameters", blueprint.name));
    }
}
