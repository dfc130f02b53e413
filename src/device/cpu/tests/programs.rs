//! Programs by hand.

use crate::compile::{Binary::*, *};
use crate::graph::{DataType, RowInput, Scalar, Shape};

/// A program under construction.
pub struct Maker(pub Program);

pub fn operand(position: usize) -> Expression {
    Expression::Operand(position)
}

pub fn constant(number: f64) -> Expression {
    Expression::Constant(number)
}

pub fn unary(function: Unary, a: Expression) -> Expression {
    Expression::Unary(function, Box::new(a))
}

pub fn binary(function: Binary, a: Expression, b: Expression) -> Expression {
    Expression::Binary(function, Box::new(a), Box::new(b))
}

/// A value with an offset and strides.
pub type View = (ValueId, usize, Vec<usize>);

#[derive(Clone, Copy)]
pub enum Part {
    Prologue,
    Body,
    Accumulate,
    Epilogue,
}

impl Maker {
    pub fn new(chunk: usize, fallback: RowInput) -> Maker {
        Maker(Program {
            chunk,
            values: vec![],
            prologue: vec![],
            body: vec![],
            accumulate: vec![],
            epilogue: vec![],
            outputs: vec![],
            guards: vec![],
            fallback,
        })
    }

    fn value(&mut self, elements: usize, per_row: bool, source: Source) -> ValueId {
        self.0.values.push(Value { elements, data_type: DataType::F32, per_row, source });
        ValueId(self.0.values.len() as u32 - 1)
    }

    pub fn row(&mut self, input: RowInput) -> ValueId {
        self.value(self.0.chunk, true, Source::Row(input))
    }

    pub fn parameter(&mut self, first: usize, elements: usize) -> ValueId {
        self.value(elements, false, Source::Parameter(first))
    }

    pub fn scalar(&mut self, scalar: Scalar) -> ValueId {
        self.value(1, false, Source::Scalar(scalar))
    }

    /// A step with any shape and views.
    pub fn step(
        &mut self,
        part: Part,
        shape: &[usize],
        reduced: &[usize],
        reducer: Reducer,
        views: &[View],
        expression: Expression,
    ) -> ValueId {
        let (shape, reduced) = (Shape::new(shape), Shape::new(reduced));
        let result = self.value(shape.elements(), matches!(part, Part::Body), Source::Step);
        let operands = views.iter().map(|(value, offset, strides)| Operand {
            value: *value,
            offset: *offset,
            strides: strides.clone(),
        });
        let step = Step {
            result,
            offset: 0,
            shape,
            reduced,
            reducer,
            operands: operands.collect(),
            expression,
            condition: None,
        };
        match part {
            Part::Prologue => self.0.prologue.push(step),
            Part::Body => self.0.body.push(step),
            Part::Accumulate => self.0.accumulate.push(step),
            Part::Epilogue => self.0.epilogue.push(step),
        }
        result
    }

    /// A map over one axis; a stride of 0 is a scalar.
    pub fn map(
        &mut self,
        part: Part,
        elements: usize,
        operands: &[(ValueId, usize)],
        expression: Expression,
    ) -> ValueId {
        let views: Vec<View> = operands.iter().map(|(value, stride)| (*value, 0, vec![*stride])).collect();
        self.step(part, &[elements], &[], Reducer::Sum, &views, expression)
    }

    /// matrix `[outputs, inputs]` times vector.
    pub fn matrix(&mut self, weights: ValueId, vector: ValueId, outputs: usize, inputs: usize) -> ValueId {
        let views = [(weights, 0, vec![inputs, 1]), (vector, 0, vec![0, 1])];
        self.step(Part::Body, &[outputs], &[inputs], Reducer::Sum, &views, binary(Mul, operand(0), operand(1)))
    }

    /// The transposed matrix times vector.
    pub fn transposed(&mut self, weights: ValueId, vector: ValueId, outputs: usize, inputs: usize) -> ValueId {
        let views = [(vector, 0, vec![0, 1]), (weights, 0, vec![1, outputs])];
        self.step(Part::Body, &[outputs], &[inputs], Reducer::Sum, &views, binary(Mul, operand(0), operand(1)))
    }

    pub fn output(&mut self, value: ValueId, target: Destination) {
        self.0.outputs.push(Output { value, target });
    }

    pub fn guard(&mut self, value: ValueId) {
        self.0.guards.push(value);
    }
}

/// (1 - alpha) * x + alpha * f, written.
fn blend(maker: &mut Maker, x: ValueId, f: ValueId) {
    let alpha = maker.scalar(Scalar::Alpha);
    let (chunk, difference) = (maker.0.chunk, binary(Sub, operand(1), operand(0)));
    let blended = binary(Add, operand(0), binary(Mul, operand(2), difference));
    let y = maker.map(Part::Body, chunk, &[(x, 1), (f, 1), (alpha, 0)], blended);
    maker.guard(f);
    maker.output(y, Destination::Row);
}

fn gelu(a: Expression) -> Expression {
    let inside = binary(Mul, a.clone(), constant(std::f64::consts::FRAC_1_SQRT_2));
    let half = binary(Mul, constant(0.5), a);
    binary(Mul, half, binary(Add, constant(1.0), unary(Unary::Erf, inside)))
}

/// x + B gelu(A x + a) + b, blended.
pub fn bottleneck(chunk: usize, inner: usize) -> Program {
    let mut maker = Maker::new(chunk, RowInput::X);
    let x = maker.row(RowInput::X);
    let down = maker.parameter(0, inner * chunk);
    let down_bias = maker.parameter(inner * chunk, inner);
    let up = maker.parameter(inner * (chunk + 1), inner * chunk);
    let up_bias = maker.parameter(inner * (2 * chunk + 1), chunk);
    let hidden = maker.matrix(down, x, inner, chunk);
    let hidden =
        maker.map(Part::Body, inner, &[(hidden, 1), (down_bias, 1)], gelu(binary(Add, operand(0), operand(1))));
    let back = maker.matrix(up, hidden, chunk, inner);
    let sum = binary(Add, binary(Add, operand(0), operand(1)), operand(2));
    let f = maker.map(Part::Body, chunk, &[(x, 1), (back, 1), (up_bias, 1)], sum);
    blend(&mut maker, x, f);
    maker.0
}

/// x * softmax(w): a prologue of three steps.
pub fn attention(chunk: usize) -> Program {
    let mut maker = Maker::new(chunk, RowInput::X);
    let x = maker.row(RowInput::X);
    let w = maker.parameter(0, chunk);
    let all = |value: ValueId| (value, 0, vec![1]);
    let largest = maker.step(Part::Prologue, &[], &[chunk], Reducer::Max, &[all(w)], operand(0));
    let shifted = unary(Unary::Exp, binary(Sub, operand(0), operand(1)));
    let powers = maker.map(Part::Prologue, chunk, &[(w, 1), (largest, 0)], shifted);
    let total = maker.step(Part::Prologue, &[], &[chunk], Reducer::Sum, &[all(powers)], operand(0));
    let p = maker.map(Part::Prologue, chunk, &[(powers, 1), (total, 0)], binary(Div, operand(0), operand(1)));
    let f = maker.map(Part::Body, chunk, &[(x, 1), (p, 1)], binary(Mul, operand(0), operand(1)));
    blend(&mut maker, x, f);
    maker.0
}

/// Centres and scales a row, keeps what is above its mean and otherwise takes tanh; sums, a maximum, a choice.
pub fn normalised(chunk: usize) -> Program {
    let mut maker = Maker::new(chunk, RowInput::X);
    let x = maker.row(RowInput::X);
    let gain = maker.parameter(0, chunk);
    let all = |value: ValueId, stride: usize| (value, 0, vec![stride]);
    let sum = maker.step(Part::Body, &[], &[chunk], Reducer::Sum, &[all(x, 1)], operand(0));
    let mean = binary(Mul, operand(1), constant(1.0 / chunk as f64));
    let difference = binary(Sub, operand(0), mean.clone());
    let square = binary(Mul, difference.clone(), difference.clone());
    let squares = maker.step(Part::Body, &[], &[chunk], Reducer::Sum, &[all(x, 1), all(sum, 0)], square);
    let largest = maker.step(Part::Body, &[], &[chunk], Reducer::Max, &[all(x, 1)], unary(Unary::Abs, operand(0)));
    let variance = binary(Add, binary(Mul, operand(2), constant(1.0 / chunk as f64)), constant(1e-5));
    let normal = binary(Mul, difference, unary(Unary::Rsqrt, variance));
    let scaled = binary(Mul, normal, operand(3));
    let other = unary(Unary::Tanh, binary(Div, operand(0), binary(Add, operand(4), constant(0.5))));
    let above = binary(Greater, operand(0), mean);
    let chosen = Expression::Select(Box::new(above), Box::new(scaled), Box::new(other));
    let views = [(x, 1), (sum, 0), (squares, 0), (gain, 1), (largest, 0)];
    let f = maker.map(Part::Body, chunk, &views, chosen);
    blend(&mut maker, x, f);
    maker.0
}

/// The backward pass of W x: dx, dW, the sum of dy scaled in the epilogue, and the gradient of alpha.
pub fn linear_backward(chunk: usize) -> Program {
    let mut maker = Maker::new(chunk, RowInput::OutputGradient);
    let x = maker.row(RowInput::X);
    let dy = maker.row(RowInput::OutputGradient);
    let weights = maker.parameter(0, chunk * chunk);
    let gain = maker.parameter(chunk * chunk, chunk);
    let f = maker.matrix(weights, x, chunk, chunk);
    let dx = maker.transposed(weights, dy, chunk, chunk);
    let outer = [(dy, 0, vec![1, 0]), (x, 0, vec![0, 1])];
    let product = || binary(Mul, operand(0), operand(1));
    let dw = maker.step(Part::Accumulate, &[chunk, chunk], &[], Reducer::Sum, &outer, product());
    let sums = maker.map(Part::Accumulate, chunk, &[(dy, 1)], operand(0));
    let difference = binary(Mul, operand(0), binary(Sub, operand(1), operand(2)));
    let views = [dy, f, x].map(|value| (value, 0, vec![1]));
    let dalpha = maker.step(Part::Accumulate, &[], &[chunk], Reducer::Sum, &views, difference);
    let scaled = maker.map(Part::Epilogue, chunk, &[(sums, 1), (gain, 1)], product());
    maker.guard(dx);
    maker.output(dx, Destination::Row);
    maker.output(dw, Destination::ParameterGradient(0));
    maker.output(scaled, Destination::ParameterGradient(chunk * chunk));
    maker.output(dalpha, Destination::AlphaGradient);
    maker.0
}

/// dx alone, as of a frozen seed.
pub fn linear_frozen(chunk: usize) -> Program {
    let mut program = linear_backward(chunk);
    program.outputs.retain(|output| matches!(output.target, Destination::Row | Destination::AlphaGradient));
    program.accumulate.remove(0);
    program.accumulate.remove(0);
    program.epilogue.clear();
    program
}

/// The squared error of w * x against the target, and its gradient.
pub fn reconstruction(chunk: usize) -> Program {
    let mut maker = Maker::new(chunk, RowInput::X);
    let x = maker.row(RowInput::X);
    let target = maker.row(RowInput::Target);
    let w = maker.parameter(0, chunk);
    let scale = maker.scalar(Scalar::LossScale);
    let f = maker.map(Part::Body, chunk, &[(x, 1), (w, 1)], binary(Mul, operand(0), operand(1)));
    let error = maker.map(Part::Body, chunk, &[(f, 1), (target, 1)], binary(Sub, operand(0), operand(1)));
    let square = binary(Mul, binary(Mul, operand(0), operand(0)), operand(1));
    let views = [(error, 0, vec![1]), (scale, 0, vec![0])];
    let loss = maker.step(Part::Accumulate, &[], &[chunk], Reducer::Sum, &views, square);
    let slope = binary(Mul, binary(Mul, operand(0), operand(1)), binary(Mul, constant(2.0), operand(2)));
    let dw = maker.map(Part::Accumulate, chunk, &[(error, 1), (x, 1), (scale, 0)], slope);
    maker.guard(f);
    maker.output(loss, Destination::Loss);
    maker.output(dw, Destination::ParameterGradient(0));
    maker.0
}
