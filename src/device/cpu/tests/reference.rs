//! What a launch must do, in the plainest f64 loops: the meaning of [`Program`] and [`Launch`](crate::device::Launch).

use super::scene::{Outcome, Scene};
use crate::compile::{Binary, Destination, Expression, Operand, Pass, Program, Reducer, Source, Step, Unary, Value};
use crate::device::telemetry::*;
use crate::graph::{RowInput, Scalar};

/// The values of a program while it runs.
pub type Values = Vec<Vec<f64>>;

fn evaluate(expression: &Expression, operands: &[f64]) -> f64 {
    let truth = |holds: bool| if holds { 1.0 } else { 0.0 };
    match expression {
        Expression::Operand(position) => operands[*position],
        Expression::Constant(number) => *number,
        Expression::Unary(function, a) => {
            let a = evaluate(a, operands);
            match function {
                Unary::Neg => -a,
                Unary::Abs => a.abs(),
                Unary::Exp => a.exp(),
                Unary::Log => a.ln(),
                Unary::Sqrt => a.sqrt(),
                Unary::Rsqrt => 1.0 / a.sqrt(),
                Unary::Tanh => a.tanh(),
                Unary::Sigmoid => 1.0 / (1.0 + (-a).exp()),
                Unary::Erf => libm::erf(a),
            }
        }
        Expression::Binary(function, a, b) => {
            let (a, b) = (evaluate(a, operands), evaluate(b, operands));
            match function {
                Binary::Add => a + b,
                Binary::Sub => a - b,
                Binary::Mul => a * b,
                Binary::Div => a / b,
                Binary::Max if a.is_nan() || b.is_nan() => f64::NAN,
                Binary::Max => a.max(b),
                Binary::Greater => truth(a > b),
                Binary::Equal => truth(a == b),
            }
        }
        Expression::Select(condition, yes, no) => {
            let chosen = if evaluate(condition, operands) != 0.0 { yes } else { no };
            evaluate(chosen, operands)
        }
    }
}

/// Every index over these extents, the last varying fastest.
fn indices(extents: &[usize]) -> Vec<Vec<usize>> {
    extents.iter().fold(vec![vec![]], |indices, extent| {
        indices.iter().flat_map(|index| (0..*extent).map(move |next| [&index[..], &[next]].concat())).collect()
    })
}

fn read(operand: &Operand, index: &[usize], values: &Values) -> f64 {
    let moved: usize = index.iter().zip(&operand.strides).map(|(index, stride)| index * stride).sum();
    values[operand.value.index()][operand.offset + moved]
}

/// What a step computes.
fn step(step: &Step, values: &Values) -> Vec<f64> {
    let at = |index: &[usize]| {
        let operands: Vec<f64> = step.operands.iter().map(|operand| read(operand, index, values)).collect();
        evaluate(&step.expression, &operands)
    };
    let result = |index: &Vec<usize>| {
        let terms = indices(&step.reduced.0).into_iter().map(|reduced| at(&[&index[..], &reduced[..]].concat()));
        match step.reducer {
            _ if step.reduced.rank() == 0 => at(index),
            Reducer::Sum => terms.sum(),
            Reducer::Max => {
                terms.fold(f64::NEG_INFINITY, |a, b| if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) })
            }
        }
    };
    indices(&step.shape.0).iter().map(result).collect()
}

fn start(program: &Program, scene: &Scene, seed: usize, parameters: &[f64]) -> Values {
    let value = |value: &Value| match value.source {
        Source::Parameter(first) => parameters[first..first + value.elements].to_vec(),
        Source::Scalar(Scalar::Alpha) => {
            vec![f64::from(if scene.alpha[seed].is_nan() { 0.0 } else { scene.alpha[seed].clamp(0.0, 1.0) })]
        }
        Source::Scalar(Scalar::LossScale) => vec![scene.loss_scale],
        Source::Step | Source::Row(_) => vec![0.0; value.elements],
    };
    let mut values: Values = program.values.iter().map(value).collect();
    for prologue in &program.prologue {
        values[prologue.result.index()] = step(prologue, &values);
    }
    values
}

/// The program a seed runs and its branch.
fn choose(scene: &Scene, seed: usize) -> Option<(&Program, usize)> {
    let state = scene.lifecycle[seed];
    let applies = (3..=7).contains(&state);
    let branch = *scene.branch.get(usize::try_from(scene.blueprint[seed]).ok()?)?;
    let branch = usize::try_from(branch).ok()?;
    let programs = match scene.class.pass {
        Pass::Forward if applies => &scene.class.programs,
        Pass::Backward if state == 3 || state == 6 => &scene.class.programs,
        Pass::Backward if applies => &scene.class.frozen,
        Pass::Train if state == 2 => &scene.class.programs,
        _ => return None,
    };
    Some((&programs[branch], branch))
}

/// What a launch of a scene must give.
pub fn run(scene: &Scene) -> Outcome {
    let mut outcome = Outcome::before(scene);
    let (chunk, hidden) = (scene.class.chunk, scene.hidden);
    let identity = if scene.class.pass == Pass::Backward { &scene.output_gradient } else { &scene.x };
    if scene.class.pass != Pass::Train {
        outcome.output = identity.clone();
    }
    for seed in 0..scene.seeds() {
        let telemetry = &mut outcome.telemetry[seed];
        for row in 0..scene.rows {
            let chunk = row * hidden + seed * chunk..row * hidden + (seed + 1) * chunk;
            match scene.class.pass {
                Pass::Forward => observe(&scene.x[chunk], telemetry),
                Pass::Backward => {
                    let finite = scene.output_gradient[chunk].iter().filter(|value| value.is_finite());
                    telemetry[GRADIENT_SQUARES] += finite.map(|value| value * value).sum::<f64>();
                }
                Pass::Train => {}
            }
        }
        if let Some((program, branch)) = choose(scene, seed)
            && scene.rows > 0
        {
            run_seed(scene, seed, program, branch, &mut outcome);
        }
    }
    outcome
}

fn observe(chunk: &[f64], telemetry: &mut [f64; COLUMNS]) {
    telemetry[COUNT] += chunk.len() as f64;
    for value in chunk {
        if value.is_finite() {
            telemetry[SUM] += value;
            telemetry[SQUARES] += value * value;
            telemetry[MIN] = telemetry[MIN].min(*value);
            telemetry[MAX] = telemetry[MAX].max(*value);
        } else {
            telemetry[NON_FINITE] += 1.0;
        }
        telemetry[DEAD] += if value.abs() < DEAD_BELOW { 1.0 } else { 0.0 };
    }
    for pair in chunk.windows(2).filter(|pair| pair.iter().all(|value| value.is_finite())) {
        telemetry[NEIGHBOURS] += pair[0] * pair[1];
    }
}

fn run_seed(scene: &Scene, seed: usize, program: &Program, branch: usize, outcome: &mut Outcome) {
    let (chunk, size) = (scene.class.chunk, scene.sizes[branch]);
    let slot = scene.slot[seed] as usize * size;
    let mut values = start(program, scene, seed, &scene.parameters[branch][slot..slot + size]);
    for row in 0..scene.rows {
        let place = row * scene.hidden + seed * chunk;
        for (value, numbers) in program.values.iter().zip(&mut values) {
            if let Source::Row(input) = value.source {
                let tensor = match input {
                    RowInput::X => &scene.x,
                    RowInput::OutputGradient => &scene.output_gradient,
                    RowInput::Target => &scene.target,
                };
                *numbers = tensor[place..place + chunk].to_vec();
            }
        }
        for body in &program.body {
            values[body.result.index()] = step(body, &values);
        }
        let finite = |guard: &crate::compile::ValueId| values[guard.index()].iter().all(|value| value.is_finite());
        if !program.guards.iter().all(finite) {
            // The identity that stands in the output already is that of the fallback input.
            if scene.class.pass != Pass::Backward {
                outcome.telemetry[seed][FALLBACK_ROWS] += 1.0;
            }
            continue;
        }
        for output in program.outputs.iter().filter(|output| output.target == Destination::Row) {
            outcome.output[place..place + chunk].copy_from_slice(&values[output.value.index()]);
        }
        for accumulate in &program.accumulate {
            let terms = step(accumulate, &values);
            values[accumulate.result.index()].iter_mut().zip(terms).for_each(|(sum, term)| *sum += term);
        }
    }
    for epilogue in &program.epilogue {
        values[epilogue.result.index()] = step(epilogue, &values);
    }
    for output in &program.outputs {
        let values = &values[output.value.index()];
        match output.target {
            Destination::Row => {}
            Destination::ParameterGradient(first) => {
                let gradient = &mut outcome.gradients[branch][slot + first..];
                gradient.iter_mut().zip(values).for_each(|(gradient, value)| *gradient += value);
            }
            Destination::AlphaGradient => outcome.alpha_gradient[seed] += values[0],
            Destination::Loss => {
                outcome.loss[seed][0] += values[0];
                outcome.loss[seed][1] += 1.0;
            }
        }
    }
}
