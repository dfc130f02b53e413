//! Simplification on random blueprints: the same bits, never more work, and nothing left to do the second time.

use super::numbered;
use kasmina::compile::reference::{Inputs, run};
use kasmina::compile::{Program, Step, lower, passes, simplify};
use kasmina::graph::RowInput;

/// Functions that are evaluated for a row and once, and elements that steps write.
fn work(program: &Program) -> (usize, usize) {
    let steps = [&program.prologue, &program.body, &program.accumulate, &program.epilogue];
    let functions = |step: &Step| step.shape.elements() * step.reduced.elements().max(1) * step.expression.functions();
    let all = || steps.into_iter().flatten();
    (all().map(functions).sum(), all().map(|step| step.shape.elements()).sum())
}

#[test]
fn simplified_programs_compute_the_same_bits_with_no_more_work() {
    for number in 0..150 {
        let blueprint = numbered(number);
        let offsets: Vec<usize> = blueprint.parameters.iter().map(|parameter| parameter.offset).collect();
        let graphs = [
            (passes::forward(&blueprint).unwrap(), RowInput::X),
            (passes::backward(&blueprint, true, true).unwrap(), RowInput::OutputGradient),
            (passes::backward(&blueprint, false, false).unwrap(), RowInput::OutputGradient),
            (passes::train(&blueprint).unwrap(), RowInput::X),
        ];
        let numbers: Vec<f64> = (0..2 * blueprint.chunk).map(|at| 2.0 * (at as f64 * 0.7).sin()).collect();
        let inputs = Inputs {
            rows: 2,
            x: &numbers,
            output_gradient: &numbers,
            target: &numbers,
            parameters: &blueprint.initialize(number),
            alpha: 0.375,
            loss_scale: 0.125,
            random: Some(number),
            ..Inputs::default()
        };
        for (graph, fallback) in graphs {
            let plain = lower(&graph, blueprint.chunk, &offsets, fallback).unwrap();
            let simple = simplify(plain.clone()).unwrap();
            let bits = |program: &Program| {
                let outputs = run(program, &inputs).unwrap();
                let ends = [outputs.alpha_gradient, outputs.loss];
                let numbers = outputs.rows.iter().chain(&outputs.parameter_gradient).chain(&ends);
                numbers.map(|number| number.to_bits()).collect::<Vec<u64>>()
            };
            assert_eq!(bits(&plain), bits(&simple), "blueprint {number}:\n{plain}\n{simple}");
            let (before, after) = (work(&plain), work(&simple));
            assert!(
                after.0 <= before.0 && after.1 <= before.1,
                "blueprint {number}: {before:?} to {after:?}\n{simple}"
            );
            assert_eq!(
                simplify(simple.clone()).unwrap(),
                simple,
                "blueprint {number}: a second time changes something"
            );
        }
    }
}
