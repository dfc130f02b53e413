//! What a launch must do, in plain f64: the meaning of [`Launch`](crate::device::Launch), around the reference interpreter
//! of programs.

use super::scene::{Outcome, Scene};
use crate::compile::{Destination, Pass, Program, reference};
use crate::device::telemetry::*;

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

/// Adds what telemetry sees of the input's chunk of one row.
pub fn observe(chunk: &[f64], telemetry: &mut [f64; COLUMNS]) {
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
    let alpha = f64::from(scene.alpha[seed]);
    for row in 0..scene.rows {
        let place = row * scene.hidden + seed * chunk;
        let of = |tensor: &'_ Vec<f64>| tensor.get(place..place + chunk).map(<[f64]>::to_vec).unwrap_or_default();
        let inputs = [of(&scene.x), of(&scene.output_gradient), of(&scene.target)];
        let given = reference::Inputs {
            rows: 1,
            x: &inputs[0],
            output_gradient: &inputs[1],
            target: &inputs[2],
            parameters: &scene.parameters[branch][slot..slot + size],
            alpha: if alpha.is_nan() { 0.0 } else { alpha.clamp(0.0, 1.0) },
            loss_scale: scene.loss_scale,
            ..reference::Inputs::default()
        };
        let found = reference::run(program, &given).unwrap();
        if found.fallback_rows > 0 {
            // The identity that stands in the output already is that of the fallback input.
            if scene.class.pass != Pass::Backward {
                outcome.telemetry[seed][FALLBACK_ROWS] += 1.0;
            }
            continue;
        }
        if scene.class.pass != Pass::Train {
            outcome.output[place..place + chunk].copy_from_slice(&found.rows);
        }
        let gradient = &mut outcome.gradients[branch][slot..slot + size];
        gradient.iter_mut().zip(&found.parameter_gradient).for_each(|(sum, part)| *sum += part);
        outcome.alpha_gradient[seed] += found.alpha_gradient;
        outcome.loss[seed][0] += found.loss;
    }
    if program.outputs.iter().any(|output| output.target == Destination::Loss) {
        outcome.loss[seed][1] += 1.0;
    }
}
