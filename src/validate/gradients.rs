//! Finite differences: what a program computes as a gradient must be the slope of the forward program, in f64.
//!
//! The slope is taken along a random direction, with two step sizes. First everything moves at once, each part (x, alpha, a
//! parameter) so far that all of them weigh the same: a part that is wrong makes the whole wrong. If that does not agree,
//! each part moves alone, to name the one that is wrong. Where the two step sizes disagree there is a kink or a step, and
//! another point is tried.

use super::Numbers;
use crate::compile::reference::{Inputs, Outputs, run};
use crate::compile::{Destination, Expression, Pass, Program, Unary};
use crate::graph::Blueprint;
use crate::{Result, fail};

const ROWS: usize = 2;
const STEP: f64 = 1e-4;
/// Points to try before giving up on one that is smooth.
const POINTS: u16 = 6;
const LOSS_SCALE: f64 = 0.125;
const RANDOM: u64 = 77;

/// Where a slope is taken; or what moves from there, or the gradient.
struct Point {
    x: Vec<f64>,
    parameters: Vec<f64>,
    alpha: f64,
}

impl Point {
    fn part(&self, part: Part<'_>) -> &[f64] {
        match part {
            Part::X => &self.x,
            Part::Alpha => std::slice::from_ref(&self.alpha),
            Part::Parameter(parameter) => {
                &self.parameters[parameter.offset..parameter.offset + parameter.shape.elements()]
            }
        }
    }

    fn part_mut(&mut self, part: Part<'_>) -> &mut [f64] {
        match part {
            Part::X => &mut self.x,
            Part::Alpha => std::slice::from_mut(&mut self.alpha),
            Part::Parameter(parameter) => {
                &mut self.parameters[parameter.offset..parameter.offset + parameter.shape.elements()]
            }
        }
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// What moves.
#[derive(Clone, Copy)]
enum Part<'a> {
    X,
    Alpha,
    Parameter(&'a crate::graph::Parameter),
}

/// Holds a backward or training program of a blueprint against its forward program.
///
/// # Errors
///
/// `ValidationFailed`, naming the gradient that is wrong.
pub(super) fn check(blueprint: &Blueprint, pass: Pass, forward: &Program, program: &Program) -> Result<()> {
    let (forward, program) = (unrounded(forward), unrounded(program));
    let computes = |part: &Part<'_>| {
        let leaves = |target: Destination| program.outputs.iter().any(|output| output.target == target);
        match part {
            Part::X => leaves(Destination::Row),
            Part::Alpha => leaves(Destination::AlphaGradient),
            Part::Parameter(parameter) => leaves(Destination::ParameterGradient(parameter.offset)),
        }
    };
    let parameters = blueprint.parameters.iter().map(Part::Parameter);
    let parts: Vec<Part<'_>> = [Part::X, Part::Alpha].into_iter().chain(parameters).filter(computes).collect();
    let check = Check { blueprint, pass, forward: &forward };
    // All parts are looked at in the same points, so the program runs once in each.
    let mut places = vec![check.place(0, &program)?];
    if let Verdict::Right = check.at(&places[0], &check.everything(&parts, &places[0]))? {
        return Ok(());
    }
    for part in parts {
        let mut wrong = None;
        for point in 0..POINTS {
            if places.len() <= usize::from(point) {
                places.push(check.place(point, &program)?);
            }
            let place = &places[usize::from(point)];
            match check.at(place, &check.direction(&[part], place))? {
                Verdict::Right => {
                    wrong = None;
                    break;
                }
                Verdict::Kink => {}
                Verdict::Wrong { found, slope } => wrong = Some((found, slope)),
            }
        }
        if let Some((found, slope)) = wrong {
            let name = match part {
                Part::X => String::from("x"),
                Part::Alpha => String::from("alpha"),
                Part::Parameter(parameter) => format!("the parameter `{}`", parameter.name),
            };
            fail!(
                ValidationFailed,
                "the gradient of {name} is wrong: along a random direction it is {found}, but finite differences give {slope}",
            );
        }
    }
    Ok(())
}

enum Verdict {
    Right,
    Kink,
    Wrong { found: f64, slope: f64 },
}

struct Check<'a> {
    blueprint: &'a Blueprint,
    pass: Pass,
    forward: &'a Program,
}

/// A point, and what the program says there.
struct Place {
    number: u16,
    point: Point,
    weights: Vec<f64>,
    gradient: Point,
    fell_back: bool,
}

impl Check<'_> {
    fn place(&self, number: u16, program: &Program) -> Result<Place> {
        let mut numbers = Numbers::new(100 + number);
        let elements = ROWS * self.blueprint.chunk;
        let (x, weights) = (numbers.take(elements), numbers.take(elements));
        // Training sees f(x) itself.
        let alpha = if self.pass == Pass::Train { 1.0 } else { 0.625 };
        let point = Point { x, parameters: numbers.slot(self.blueprint), alpha };
        let outputs = self.run(program, &point, &weights)?;
        let fell_back = outputs.fallback_rows > 0;
        let gradient = Point { x: outputs.rows, parameters: outputs.parameter_gradient, alpha: outputs.alpha_gradient };
        Ok(Place { number, point, weights, gradient, fell_back })
    }

    /// Holds the gradient against the slope in a direction.
    fn at(&self, place: &Place, direction: &Point) -> Result<Verdict> {
        let Place { point, weights, gradient, fell_back, .. } = place;
        let found = dot(&gradient.x, &direction.x)
            + dot(&gradient.parameters, &direction.parameters)
            + gradient.alpha * direction.alpha;
        let (wide, narrow) = (self.slope(point, direction, weights, 2.0)?, self.slope(point, direction, weights, 1.0)?);
        if *fell_back || !(wide.slope.is_finite() && narrow.slope.is_finite() && found.is_finite()) {
            return Ok(Verdict::Kink);
        }
        // Both have an error of the square of the step, which cancels here.
        let slope = narrow.slope + (narrow.slope - wide.slope) / 3.0;
        let size = slope.abs().max(found.abs()).max(1e-3 * narrow.value);
        let noise = 1e-12 * narrow.value / STEP;
        if (found - slope).abs() <= 1e-5 * size + noise {
            return Ok(Verdict::Right);
        }
        let smooth = (wide.slope - narrow.slope).abs() <= 1e-4 * size + noise;
        Ok(if smooth { Verdict::Wrong { found, slope } } else { Verdict::Kink })
    }

    /// The difference quotient along a direction, by steps of so many times [`STEP`]; and how large the values are.
    fn slope(&self, point: &Point, direction: &Point, weights: &[f64], times: f64) -> Result<Slope> {
        let mut sides = [0.0; 2];
        let mut size: f64 = 0.0;
        for (side, sign) in sides.iter_mut().zip([1.0, -1.0]) {
            let step = sign * times * STEP;
            let move_by = |from: &[f64], by: &[f64]| -> Vec<f64> {
                from.iter().zip(by).map(|(from, by)| from + step * by).collect()
            };
            let moved = Point {
                x: move_by(&point.x, &direction.x),
                parameters: move_by(&point.parameters, &direction.parameters),
                alpha: point.alpha + step * direction.alpha,
            };
            let terms = self.terms(&moved, weights)?;
            size = size.max(terms.iter().map(|term| term.abs()).sum());
            *side = terms.iter().sum();
        }
        Ok(Slope { slope: (sides[0] - sides[1]) / (2.0 * times * STEP), value: size })
    }

    /// What the scalar is a sum of: the output times its gradient, or, in training, what is left of the target.
    fn terms(&self, point: &Point, weights: &[f64]) -> Result<Vec<f64>> {
        let outputs = self.run(self.forward, point, weights)?.rows;
        let term = |(y, weight): (&f64, &f64)| match self.pass {
            Pass::Train => (y - weight).powi(2) * LOSS_SCALE,
            _ => y * weight,
        };
        Ok(outputs.iter().zip(weights).map(term).collect())
    }

    /// Some parts move, the others stay.
    fn direction(&self, parts: &[Part<'_>], place: &Place) -> Point {
        let mut numbers = Numbers::new(200 + place.number);
        let (x, parameters) = (ROWS * self.blueprint.chunk, self.blueprint.parameter_count());
        let mut direction = Point { x: vec![0.0; x], parameters: vec![0.0; parameters], alpha: 0.0 };
        for &part in parts {
            match part {
                Part::Alpha => direction.alpha = 1.0,
                part => direction.part_mut(part).iter_mut().for_each(|element| *element = numbers.next()),
            }
        }
        direction
    }

    /// All parts move, none much further than the one that changes least.
    fn everything(&self, parts: &[Part<'_>], place: &Place) -> Point {
        let mut direction = self.direction(parts, place);
        let change = |part: &Part<'_>| dot(place.gradient.part(*part), direction.part(*part)).abs();
        let changes: Vec<f64> = parts.iter().map(change).collect();
        let largest = changes.iter().copied().fold(0.0, f64::max);
        // Less than a thousandth would drown in what finite differences leave.
        let wanted = changes.iter().copied().filter(|change| *change > 1e-3 * largest).fold(largest, f64::min);
        for (part, change) in parts.iter().zip(changes).filter(|(_, change)| *change > wanted) {
            direction.part_mut(*part).iter_mut().for_each(|element| *element *= wanted / change);
        }
        direction
    }

    /// Weights are the gradient of the output, or the target of training.
    fn run(&self, program: &Program, point: &Point, weights: &[f64]) -> Result<Outputs> {
        run(
            program,
            &Inputs {
                rows: ROWS,
                x: &point.x,
                output_gradient: weights,
                target: weights,
                parameters: &point.parameters,
                alpha: point.alpha,
                loss_scale: LOSS_SCALE,
                random: Some(RANDOM),
                ..Inputs::default()
            },
        )
    }
}

struct Slope {
    slope: f64,
    value: f64,
}

/// The program without its roundings to half precision: a staircase whose gradient is meant to be that of the ramp.
fn unrounded(program: &Program) -> Program {
    fn strip(expression: &mut Expression) {
        while let Expression::Unary(Unary::RoundF16 | Unary::RoundBF16, of) = expression {
            *expression = std::mem::replace(&mut **of, Expression::Constant(0.0));
        }
        expression.parts_mut().for_each(strip);
    }
    let mut program = program.clone();
    let steps = [&mut program.prologue, &mut program.body, &mut program.accumulate, &mut program.epilogue];
    steps.into_iter().flatten().for_each(|step| strip(&mut step.expression));
    program
}
