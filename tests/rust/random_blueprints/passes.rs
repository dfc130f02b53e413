//! Simplification on random blueprints, as a whole and pass by pass: the same bits, never more work, and nothing left to do
//! the second time.

use super::numbered;
use kasmina::compile::Simplification::{self, Branch, Drop, Fold, Fuse, Share, Tidy};
use kasmina::compile::reference::{Inputs, run};
use kasmina::compile::{Program, Step, lower, passes, simplify};
use kasmina::graph::{Blueprint, RowInput};

/// Functions that are evaluated for a row and once, and elements that steps write.
fn work(program: &Program) -> (usize, usize) {
    let steps = [&program.prologue, &program.body, &program.accumulate, &program.epilogue];
    let functions = |step: &Step| step.shape.elements() * step.reduced.elements().max(1) * step.expression.functions();
    let all = || steps.into_iter().flatten();
    (all().map(functions).sum(), all().map(|step| step.shape.elements()).sum())
}

/// The programs of a blueprint as they are lowered.
fn programs(blueprint: &Blueprint) -> [Program; 4] {
    let offsets: Vec<usize> = blueprint.parameters.iter().map(|parameter| parameter.offset).collect();
    let graphs = [
        (passes::forward(blueprint), RowInput::X),
        (passes::backward(blueprint, true, true), RowInput::OutputGradient),
        (passes::backward(blueprint, false, false), RowInput::OutputGradient),
        (passes::train(blueprint), RowInput::X),
    ];
    graphs.map(|(graph, fallback)| lower(&graph.unwrap(), blueprint.chunk, &offsets, fallback).unwrap())
}

/// The bits of all that a program of a blueprint leaves behind.
fn bits(blueprint: &Blueprint, number: u64, program: &Program) -> Vec<u64> {
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
    let outputs = run(program, &inputs).unwrap();
    let ends = [outputs.alpha_gradient, outputs.loss];
    let numbers = outputs.rows.iter().chain(&outputs.parameter_gradient).chain(&ends);
    numbers.map(|number| number.to_bits()).collect()
}

/// What must hold of a program and the one that takes its place.
fn same_with_no_more_work(blueprint: &Blueprint, number: u64, plain: &Program, simple: &Program) {
    let same = bits(blueprint, number, plain) == bits(blueprint, number, simple);
    assert!(same, "blueprint {number} computes something else:\n{plain}\n{simple}");
    let (before, after) = (work(plain), work(simple));
    assert!(after.0 <= before.0 && after.1 <= before.1, "blueprint {number}: {before:?} to {after:?}\n{simple}");
}

#[test]
fn simplified_programs_compute_the_same_bits_with_no_more_work() {
    for number in 0..150 {
        let blueprint = numbered(number);
        for plain in programs(&blueprint) {
            let simple = simplify(plain.clone()).unwrap();
            same_with_no_more_work(&blueprint, number, &plain, &simple);
            let again = simplify(simple.clone()).unwrap();
            assert_eq!(again, simple, "blueprint {number}: a second time changes something");
        }
    }
}

/// Tries a pass alone: on programs as they are lowered, and on what the passes before it in a round leave of them.
fn holds(pass: Simplification) {
    let mut changes = 0;
    for number in 0..60 {
        let blueprint = numbered(number);
        for plain in programs(&blueprint) {
            let mut before = plain;
            for earlier in [Drop, Tidy, Share, Fuse, Fold] {
                before = earlier.apply(before).unwrap();
                let after = pass.apply(before.clone()).unwrap();
                same_with_no_more_work(&blueprint, number, &before, &after);
                let again = pass.apply(after.clone()).unwrap();
                assert_eq!(again, after, "blueprint {number}: a second time changes something");
                changes += usize::from(after != before);
            }
        }
    }
    assert!(changes > 0 || pass == Drop, "{pass:?} never did anything");
}

#[test]
fn constant_folding_keeps_the_bits_and_adds_no_work() {
    holds(Fold);
}

#[test]
fn one_form_for_equal_steps_keeps_the_bits_and_adds_no_work() {
    holds(Tidy);
}

#[test]
fn sharing_common_steps_keeps_the_bits_and_adds_no_work() {
    holds(Share);
}

#[test]
fn fusion_keeps_the_bits_and_adds_no_work() {
    holds(Fuse);
}

#[test]
fn explicit_branches_keep_the_bits_and_add_no_work() {
    holds(Branch);
}

#[test]
fn dropping_dead_steps_keeps_the_bits_and_drops_them_all() {
    holds(Drop);
    // What an output no longer needs goes, and only that.
    for number in 0..60 {
        let blueprint = numbered(number);
        for mut plain in programs(&blueprint) {
            let whole = bits(&blueprint, number, &plain);
            let Some(last) = plain.outputs.pop() else { continue };
            let less = Drop.apply(plain.clone()).unwrap();
            same_with_no_more_work(&blueprint, number, &plain, &less);
            let read = |value| {
                let steps = [&less.prologue, &less.body, &less.accumulate, &less.epilogue];
                let by_steps = steps.into_iter().flatten().flat_map(Step::reads).any(|read| read == value);
                by_steps || less.outputs.iter().any(|output| output.value == value) || less.guards.contains(&value)
            };
            let steps = [&less.prologue, &less.body, &less.accumulate, &less.epilogue];
            for step in steps.into_iter().flatten() {
                assert!(read(step.result), "blueprint {number}: nothing needs {:?}\n{less}", step.result);
            }
            plain.outputs.push(last);
            assert_eq!(bits(&blueprint, number, &Drop.apply(plain).unwrap()), whole, "blueprint {number}");
        }
    }
}
