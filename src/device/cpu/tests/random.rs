//! Programs at random: any shapes, strides and offsets, all sections.

use super::programs::*;
use super::scene::*;
use crate::compile::{Binary, Destination, Expression, Pass, Program, Reducer, Unary, ValueId};
use crate::graph::{DataType, RowInput, Scalar};

struct Random {
    numbers: Numbers,
    maker: Maker,
    uniform: Vec<ValueId>,
    rows: Vec<ValueId>,
}

impl Random {
    fn elements(&self, value: ValueId) -> usize {
        self.maker.0.values[value.index()].elements
    }

    fn extents(&mut self, most: usize, product: usize) -> Vec<usize> {
        let mut extents = Vec::new();
        for _ in 0..self.numbers.below(most + 1) {
            let room = product / extents.iter().product::<usize>().max(1);
            let most = if self.numbers.below(3) == 0 { 24 } else { 6 };
            extents.push(1 + self.numbers.below(room.clamp(1, most)));
        }
        extents
    }

    /// A view of a value that stays inside: dense where it fits, else with strides at random.
    fn view(&mut self, value: ValueId, extents: &[usize]) -> View {
        let elements = self.elements(value);
        let mut left = elements - 1;
        let mut strides = vec![0; extents.len()];
        let mut dense = 1;
        let keep_dense = self.numbers.below(2) == 0;
        for axis in (0..extents.len()).rev() {
            let most = left / (extents[axis] - 1).max(1);
            strides[axis] = match self.numbers.below(4) {
                0 => 0,
                _ if keep_dense && dense <= most => dense,
                1 | 2 => most.min(1),
                _ => self.numbers.below(most + 1),
            };
            if strides[axis] > 0 {
                dense = strides[axis] * extents[axis];
            }
            left -= strides[axis] * (extents[axis] - 1);
        }
        (value, self.numbers.below(left + 1), strides)
    }

    /// Tame: what comes out stays near [-1, 1].
    fn expression(&mut self, operands: usize, depth: usize) -> Expression {
        if depth == 0 || self.numbers.below(4) == 0 {
            return match self.numbers.below(6) {
                0 => constant(self.numbers.number()),
                _ => operand(self.numbers.below(operands)),
            };
        }
        let mut part = || self.expression(operands, depth - 1);
        let (a, b, c) = (part(), part(), part());
        match self.numbers.below(9) {
            0 => unary(Unary::Tanh, a),
            1 => unary(Unary::Sigmoid, a),
            2 => unary(Unary::Erf, unary(Unary::Abs, a)),
            3 => binary(Binary::Mul, constant(0.5), binary(Binary::Add, a, b)),
            4 => binary(Binary::Mul, a, b),
            5 => binary(Binary::Max, a, unary(Unary::Neg, b)),
            6 => binary(Binary::Div, a, binary(Binary::Add, constant(2.0), unary(Unary::Abs, b))),
            7 => unary(Unary::Exp, binary(Binary::Sub, unary(Unary::Tanh, a), constant(1.0))),
            _ => Expression::Select(Box::new(binary(Binary::Greater, a, b.clone())), Box::new(b), Box::new(c)),
        }
    }

    fn step(&mut self, part: Part, shape: &[usize], known: &[ValueId]) -> ValueId {
        let reduced = self.extents(2, 60);
        let all = [shape, &reduced].concat();
        let count = 1 + self.numbers.below(3);
        let product = count >= 2 && self.numbers.below(2) == 0;
        let views: Vec<View> = (0..count)
            .map(|_| {
                let value = known[self.numbers.below(known.len())];
                self.view(value, &all)
            })
            .collect();
        let expression = if product { binary(Binary::Mul, operand(0), operand(1)) } else { self.expression(count, 3) };
        let reducer = if self.numbers.below(4) == 0 { Reducer::Max } else { Reducer::Sum };
        // Sums are brought back to size by a further step, so that errors do not grow from step to step.
        let result = self.maker.step(part, shape, &reduced, reducer, &views, expression);
        if matches!(part, Part::Accumulate) {
            return result;
        }
        let (elements, terms) = (self.elements(result), reduced.iter().product::<usize>() as f64);
        self.maker.map(part, elements, &[(result, 1)], binary(Binary::Div, operand(0), constant(terms)))
    }

    fn program(seed: u64) -> Program {
        let mut numbers = Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let chunk = 1 + numbers.below(40);
        let mut random =
            Random { numbers, maker: Maker::new(chunk, RowInput::OutputGradient), uniform: vec![], rows: vec![] };
        let parameters = 1 + random.numbers.below(200);
        random.uniform = vec![random.maker.parameter(0, parameters), random.maker.scalar(Scalar::Alpha)];
        random.rows = vec![random.maker.row(RowInput::X), random.maker.row(RowInput::OutputGradient)];
        for _ in 0..random.numbers.below(3) {
            let shape = random.extents(2, 60);
            let made = random.step(Part::Prologue, &shape, &random.uniform.clone());
            random.uniform.push(made);
        }
        for _ in 0..1 + random.numbers.below(5) {
            let shape = random.extents(3, 120);
            let known = [&random.uniform[..], &random.rows, &random.rows].concat();
            let made = random.step(Part::Body, &shape, &known);
            random.rows.push(made);
        }
        let known = [&random.uniform[..], &random.rows, &random.rows].concat();
        let output = random.step(Part::Body, &[chunk], &known);
        random.maker.guard(output);
        random.maker.output(output, Destination::Row);
        let mut sums = Vec::new();
        for _ in 0..1 + random.numbers.below(3) {
            let shape = random.extents(3, 150);
            let known = [&random.uniform[..1], &random.rows, &random.rows].concat();
            sums.push(random.step(Part::Accumulate, &shape, &known));
        }
        let mut first = 0;
        for sum in sums {
            let elements = random.elements(sum);
            let halved = binary(Binary::Mul, operand(0), constant(0.5));
            let halved = random.maker.map(Part::Epilogue, elements, &[(sum, 1)], halved);
            random.maker.output(halved, Destination::ParameterGradient(first));
            first += elements;
        }
        random.maker.0
    }
}

#[test]
fn programs_at_random_agree_with_plain_loops() {
    for seed in 0..400 {
        let program = Random::program(seed);
        let rows = [1, 5, 8, 20, 32, 70][seed as usize % 6];
        let mut scene = Scene::new(Pass::Backward, DataType::F64, vec![program], 2, rows);
        if seed % 5 == 0 {
            scene.output_gradient[0] = f64::NAN;
        }
        println!("program {seed}");
        check(&scene);
    }
}
