//! Steps that only one branch of a conditional needs are skipped where nobody takes it, if that pays; and the same comes out.

use super::numbers::Numbers;
use kasmina::compile::reference::{self, Inputs};
use kasmina::compile::{KernelClass, Pass, Program, Step, kernel_class};
use kasmina::graph::{Blueprint, DataType};
use serde_json::json;

const CHUNK: usize = 32;
const ROWS: usize = 70;

/// Another matrix in each branch, or a cheap arm in the second; the condition is of each row, or of a parameter.
fn conditional(per_row: bool, heavy: bool) -> Blueprint {
    let compared = if per_row { "first" } else { "w" };
    let branch = |matrix: &str| {
        json!({"nodes": [{"name": "h", "op": "linear", "inputs": ["x", matrix]},
                         {"name": "g", "op": "tanh", "inputs": ["h"]}], "output": "g"})
    };
    let cheap = json!({"nodes": [{"name": "g", "op": "relu", "inputs": ["x"]}], "output": "g"});
    let nodes = json!([
        {"name": "first", "op": "slice", "inputs": ["x"], "attributes": {"axis": 0, "start": 0, "stop": 1}},
        {"name": "zero", "op": "constant", "attributes": {"value": 0}},
        {"name": "positive", "op": "greater", "inputs": [compared, "zero"]},
        {"name": "chosen", "op": "conditional", "inputs": ["positive"],
         "then": branch("a"), "else": if heavy { branch("b") } else { cheap }},
        {"name": "y", "op": "mul", "inputs": ["chosen", "w"]},
    ]);
    let mut parameters = vec![json!({"name": "w", "shape": []}), json!({"name": "a", "shape": [CHUNK, CHUNK]})];
    if heavy {
        parameters.push(json!({"name": "b", "shape": [CHUNK, CHUNK]}));
    }
    let document = json!({"ir_version": 1, "name": "branches", "chunk": CHUNK, "parameters": parameters,
                          "nodes": nodes, "output": "y"});
    Blueprint::from_json(document.to_string().as_bytes()).unwrap()
}

fn class(blueprint: &Blueprint, pass: Pass) -> KernelClass {
    kernel_class(pass, DataType::F64, false, &[blueprint]).unwrap()
}

fn steps(program: &Program) -> impl Iterator<Item = &Step> {
    program.prologue.iter().chain(&program.body)
}

fn skipped(program: &Program) -> Vec<usize> {
    let conditional = steps(program).filter(|step| step.condition.is_some());
    conditional.map(|step| step.shape.elements() * step.reduced.elements()).collect()
}

/// The program with all steps run.
fn unconditional(program: &Program) -> Program {
    let mut program = program.clone();
    program.prologue.iter_mut().chain(&mut program.body).for_each(|step| step.condition = None);
    program
}

#[test]
fn the_matrix_of_a_branch_is_skipped_in_every_pass_and_what_is_cheap_is_not() {
    for pass in [Pass::Forward, Pass::Backward, Pass::Train] {
        let program = &class(&conditional(false, true), pass).programs[0];
        assert!(skipped(program).iter().filter(|work| **work >= CHUNK * CHUNK).count() >= 2, "{pass:?}\n{program}");
    }
    let uniform = &class(&conditional(false, false), Pass::Forward).programs[0];
    assert_eq!(skipped(uniform), [CHUNK * CHUNK], "{uniform}");
    // 1024 products are not worth making the rows of a tile wait for each other.
    let per_row = &class(&conditional(true, false), Pass::Forward).programs[0];
    assert!(skipped(per_row).is_empty(), "{per_row}");
}

#[test]
fn what_is_skipped_changes_no_bit() {
    let mut numbers = Numbers::new(7);
    for (per_row, heavy) in [(false, true), (false, false), (true, true)] {
        let blueprint = conditional(per_row, heavy);
        let (x, gradient) = (numbers.take(ROWS * CHUNK), numbers.take(ROWS * CHUNK));
        for sign in [1.0, -1.0] {
            let mut parameters = numbers.take(blueprint.parameter_count());
            parameters[0] = sign;
            let inputs = Inputs {
                rows: ROWS,
                x: &x,
                output_gradient: &gradient,
                target: &gradient,
                parameters: &parameters,
                alpha: 0.75,
                loss_scale: 0.5,
                ..Inputs::default()
            };
            for pass in [Pass::Forward, Pass::Backward, Pass::Train] {
                let program = &class(&blueprint, pass).programs[0];
                let found = reference::run(program, &inputs).unwrap();
                // The reference fills what is skipped with NaN, which would show.
                assert_eq!(found, reference::run(&unconditional(program), &inputs).unwrap(), "{pass:?}\n{program}");
                assert_eq!(found.fallback_rows, 0);
            }
        }
    }
}
