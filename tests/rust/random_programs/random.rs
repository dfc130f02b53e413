//! Random programs. Those for f64 use every function; the others only bounded ones, so that rounding stays rounding.

use kasmina::compile::{
    Binary, Condition, Destination, Expression, Operand, Output, Pass, Program, Reducer, Source, Step, Unary, Value,
    ValueId,
};
use kasmina::graph::{DataType, RowInput, Scalar, Shape};

/// Random numbers that are the same each time (splitmix64).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A whole number of a range, its end excluded.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    pub fn between(&mut self, first: usize, last: usize) -> usize {
        first + self.below(last - first + 1)
    }

    /// True once in so many times.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A number in [-1, 1].
    pub fn number(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

/// The parts of a program under construction.
struct Writer<'a> {
    random: &'a mut Random,
    program: Program,
    /// Any function, or only bounded ones.
    wild: bool,
    /// Values that nothing more may read.
    hidden: Vec<ValueId>,
}

/// Which values a step may read.
#[derive(Clone, Copy, PartialEq)]
enum Reads {
    Uniform,
    All,
}

/// A random program whose parameters lie within so many elements, and which adds to their gradient if it may.
pub fn program(random: &mut Random, pass: Pass, chunk: usize, size: usize, wild: bool) -> Program {
    let fallback = if pass == Pass::Backward { RowInput::OutputGradient } else { RowInput::X };
    let program = Program {
        chunk,
        values: vec![],
        prologue: vec![],
        body: vec![],
        accumulate: vec![],
        epilogue: vec![],
        outputs: vec![],
        guards: vec![],
        fallback,
    };
    let mut writer = Writer { random, program, wild, hidden: vec![] };
    writer.inputs(pass, size);
    for _ in 0..writer.random.below(4) {
        let step = writer.step(Reads::Uniform, false);
        writer.program.prologue.push(step);
    }
    for _ in 0..writer.random.between(1, 6) {
        let steps = match writer.random.below(8) {
            0 => vec![writer.product()],
            1 => vec![writer.choice()],
            2 => writer.parts(),
            3 => writer.integers(),
            4 => writer.branch(),
            _ => vec![writer.step(Reads::All, true)],
        };
        writer.program.body.extend(steps);
    }
    if pass != Pass::Train {
        let output = if writer.random.once_in(8) {
            ValueId(0) // The input itself.
        } else {
            let shape = Shape::new([chunk]);
            let step = writer.step_of(Reads::All, true, shape, Shape::default());
            writer.program.body.push(step);
            writer.last()
        };
        writer.program.outputs.push(Output { value: output, target: Destination::Row });
        if !writer.random.once_in(4) {
            writer.program.guards.push(output);
        }
    }
    if writer.random.once_in(2) {
        let rows = writer.values(|value| value.per_row);
        let guard = writer.random.pick(&rows);
        writer.program.guards.push(guard);
    }
    if pass != Pass::Forward {
        writer.sums(pass, size);
    }
    writer.program
}

impl Writer<'_> {
    fn value(&mut self, elements: usize, per_row: bool, source: Source) -> ValueId {
        self.program.values.push(Value { elements, data_type: DataType::F32, per_row, source });
        self.last()
    }

    fn last(&self) -> ValueId {
        ValueId(self.program.values.len() as u32 - 1)
    }

    fn values(&self, wanted: impl Fn(&Value) -> bool) -> Vec<ValueId> {
        let ids = (0..).map(ValueId).zip(&self.program.values);
        ids.filter(|(id, value)| value.data_type == DataType::F32 && !self.hidden.contains(id) && wanted(value))
            .map(|(id, _)| id)
            .collect()
    }

    fn inputs(&mut self, pass: Pass, size: usize) {
        let chunk = self.program.chunk;
        self.value(chunk, true, Source::Row(RowInput::X));
        match pass {
            Pass::Forward => {}
            Pass::Backward => {
                self.value(chunk, true, Source::Row(RowInput::OutputGradient));
            }
            Pass::Train => {
                self.value(chunk, true, Source::Row(RowInput::Target));
            }
        }
        self.value(1, false, Source::Scalar(Scalar::Alpha));
        self.value(1, false, Source::Scalar(Scalar::Dropout));
        if self.random.once_in(3) {
            let stream = self.random.below(3) as u16;
            self.value(chunk, true, Source::Random(stream));
        }
        if pass == Pass::Train {
            self.value(1, false, Source::Scalar(Scalar::LossScale));
        }
        if size > 0 {
            for _ in 0..self.random.between(1, 3) {
                let elements = self.random.between(1, size);
                let first = self.random.below(size - elements + 1);
                self.value(elements, false, Source::Parameter(first));
            }
        }
    }

    fn shape(&mut self, most: usize, rank: usize) -> Shape {
        let mut left = most;
        let mut sizes = vec![];
        for _ in 0..self.random.below(rank + 1) {
            let size = self.random.between(1, left.min(12));
            left /= size;
            sizes.push(size);
        }
        Shape::new(sizes)
    }

    fn step(&mut self, reads: Reads, per_row: bool) -> Step {
        let (chunk, any) = (self.program.chunk, self.random.once_in(2));
        let shape = if any { self.shape(48, 4) } else { Shape::new([chunk]) };
        let reduced = if self.random.once_in(2) { self.shape(24, 3) } else { Shape::default() };
        self.step_of(reads, per_row, shape, reduced)
    }

    /// A step of this shape that writes a new value.
    fn step_of(&mut self, reads: Reads, per_row: bool, shape: Shape, reduced: Shape) -> Step {
        let candidates = self.values(|value| reads == Reads::All || !value.per_row);
        let operands: Vec<Operand> = (0..self.random.between(1, 4))
            .map(|_| {
                let value = self.random.pick(&candidates);
                self.operand(value, &shape, &reduced)
            })
            .collect();
        let expression = self.expression(operands.len(), 3);
        let expression = if self.wild { expression } else { unary(Unary::Tanh, expression) };
        let reducer = self.random.pick(&[Reducer::Sum, Reducer::Max, Reducer::Min]);
        let result = self.value(shape.elements(), per_row, Source::Step);
        Step { result, offset: 0, shape, reduced, reducer, operands, expression, condition: None }
    }

    /// Reads a value somehow: repeated, permuted, cut.
    fn operand(&mut self, value: ValueId, shape: &Shape, reduced: &Shape) -> Operand {
        let mut left = self.program.values[value.index()].elements - 1;
        let extents: Vec<usize> = shape.0.iter().chain(&reduced.0).copied().collect();
        let mut strides = vec![0; extents.len()];
        let first = self.random.below(extents.len().max(1));
        for turn in 0..extents.len() {
            let axis = (first + turn) % extents.len();
            let most = if extents[axis] > 1 { left / (extents[axis] - 1) } else { 3 };
            strides[axis] = match self.random.below(5) {
                0 => 0,
                1 | 2 => most.min(1),
                _ => self.random.below(most + 1),
            };
            left -= strides[axis] * (extents[axis] - 1);
        }
        Operand { value, offset: self.random.below(left + 1), strides }
    }

    fn expression(&mut self, operands: usize, depth: usize) -> Expression {
        if depth == 0 || self.random.once_in(4) {
            return match self.random.below(5) {
                0 => Expression::Constant(self.random.pick(&[0.0, -0.0, 1.0, -2.5, 0.125, 3.0])),
                _ => Expression::Operand(self.random.below(operands)),
            };
        }
        let of = |writer: &mut Self| writer.expression(operands, depth - 1);
        match self.random.below(if self.wild { 19 } else { 13 }) {
            0 => unary(Unary::Neg, of(self)),
            1 => unary(Unary::Abs, of(self)),
            2 => unary(Unary::Tanh, of(self)),
            3 => unary(Unary::Sigmoid, of(self)),
            4 => unary(Unary::Erf, of(self)),
            5 => binary(Binary::Add, of(self), of(self)),
            6 => binary(Binary::Sub, of(self), of(self)),
            7 => binary(Binary::Mul, of(self), of(self)),
            8 => binary(Binary::Max, of(self), of(self)),
            9 => binary(Binary::Min, of(self), of(self)),
            10 => unary(Unary::Sin, of(self)),
            11 => unary(Unary::Cos, of(self)),
            12 => binary(Binary::Pow, unary(Unary::Sigmoid, of(self)), unary(Unary::Sigmoid, of(self))),
            13 => unary(Unary::Exp, of(self)),
            14 => unary(Unary::Log, of(self)),
            15 => unary(Unary::Sqrt, of(self)),
            // The sign of a zero may be either; nothing here may hang on it.
            16 => unary(Unary::Rsqrt, unary(Unary::Abs, of(self))),
            17 => binary(Binary::Div, of(self), unary(Unary::Abs, of(self))),
            _ => {
                let pair = [of(self), of(self)];
                let [a, b] = pair.map(Box::new);
                let condition = binary(Binary::Greater, Expression::Operand(0), Expression::Constant(0.25));
                Expression::Select(Box::new(condition), a, b)
            }
        }
    }

    /// A contraction of parameters with a row value.
    fn product(&mut self) -> Step {
        let (parameters, rows) = (self.values(|value| !value.per_row), self.values(|value| value.per_row));
        let (weight, row) = (self.random.pick(&parameters), self.random.pick(&rows));
        let elements = |value: ValueId| self.program.values[value.index()].elements;
        let depth = elements(row).min(elements(weight));
        let outputs = elements(weight) / depth;
        let transposed = self.random.once_in(2);
        let strides = if transposed { vec![1, outputs] } else { vec![depth, 1] };
        let operands =
            [Operand { value: weight, offset: 0, strides }, Operand { value: row, offset: 0, strides: vec![0, 1] }];
        let flipped = usize::from(self.random.once_in(2));
        let product = binary(Binary::Mul, Expression::Operand(flipped), Expression::Operand(1 - flipped));
        let shape = Shape::new([outputs]);
        let result = self.value(outputs, true, Source::Step);
        Step {
            result,
            offset: 0,
            condition: None,
            shape,
            reduced: Shape::new([depth]),
            reducer: Reducer::Sum,
            operands: operands.into(),
            expression: product,
        }
    }

    /// Two or three steps that write parts of one value.
    fn parts(&mut self) -> Vec<Step> {
        let mut steps = vec![];
        for _ in 0..self.random.between(2, 3) {
            let shape = self.shape(24, 3);
            steps.push(self.step_of(Reads::All, true, shape, Shape::default()));
            // The parts have no values of their own.
            self.program.values.pop();
        }
        let result = self.value(steps.iter().map(|step| step.shape.elements()).sum(), true, Source::Step);
        let mut offset = 0;
        let part = |step: Step| {
            let part = Step { result, offset, ..step };
            offset += part.shape.elements();
            part
        };
        steps.into_iter().map(part).collect()
    }

    /// Integers from a row, something done with them, and numbers again. Rows are exact, so that the reference rounds
    /// to the same integers.
    fn integers(&mut self) -> Vec<Step> {
        let of = self.random.pick(&[DataType::I32, DataType::I64]);
        let shape = Shape::new([self.program.chunk]);
        let step = |writer: &mut Self, from: ValueId, data_type, reduced: Shape, expression| {
            let operands = vec![writer.operand(from, &shape, &reduced), writer.operand(from, &shape, &reduced)];
            let result = writer.value(shape.elements(), true, Source::Step);
            writer.program.values[result.index()].data_type = data_type;
            let reducer = writer.random.pick(&[Reducer::Sum, Reducer::Max, Reducer::Min]);
            let (offset, condition) = (0, None);
            Step { result, offset, shape: shape.clone(), reduced, reducer, operands, expression, condition }
        };
        let [a, b] = [0, 1].map(Expression::Operand);
        // Large enough that 32 bits overflow, and so much larger than the rows that all digits are whole.
        let large = binary(Binary::Mul, a.clone(), Expression::Constant(f64::from(1 << 24)));
        let first = step(self, ValueId(0), of, Shape::default(), Expression::cast(of, large));
        let functions = [Binary::Add, Binary::Sub, Binary::Mul, Binary::Max, Binary::Min];
        let function = self.random.pick(&functions);
        let reduced = if self.random.once_in(2) { Shape::new([3]) } else { Shape::default() };
        let second = step(self, first.result, of, reduced, binary(function, a.clone(), unary(Unary::Neg, b.clone())));
        let other = if of == DataType::I32 { DataType::I64 } else { DataType::I32 };
        let third =
            step(self, second.result, other, Shape::default(), Expression::cast(other, unary(Unary::Abs, a.clone())));
        let number = Expression::cast(DataType::F32, a.clone());
        let scaled = binary(Binary::Mul, number, Expression::Constant(2f64.powi(-64)));
        let compared = binary(self.random.pick(&[Binary::Greater, Binary::GreaterEqual, Binary::Equal]), a, b);
        let chosen = Expression::select(compared, scaled.clone(), Expression::Constant(0.5));
        let fourth = step(self, third.result, DataType::F32, Shape::default(), chosen);
        vec![first, second, third, fourth]
    }

    /// A step that only some rows want, and a choice that reads it.
    fn branch(&mut self) -> Vec<Step> {
        let condition = self.comparison(Shape::default());
        let wanted = Condition { value: condition.result, holds: self.random.once_in(2) };
        let mut step = self.step(Reads::All, true);
        step.condition = Some(wanted);
        let shape = step.shape.clone();
        let none = vec![0; shape.rank()];
        let operands = vec![
            Operand { value: condition.result, offset: 0, strides: none },
            Operand { value: step.result, offset: 0, strides: shape.strides() },
        ];
        let mut arms = [Expression::Operand(1), Expression::Constant(0.25)];
        if !wanted.holds {
            arms.reverse();
        }
        let [a, b] = arms;
        // What may be left undone is for this choice alone.
        self.hidden.push(step.result);
        let result = self.value(shape.elements(), true, Source::Step);
        let choice = Step {
            result,
            offset: 0,
            shape,
            reduced: Shape::default(),
            reducer: Reducer::Sum,
            operands,
            expression: Expression::select(Expression::Operand(0), a, b),
            condition: None,
        };
        vec![condition, step, choice]
    }

    /// A truth value, or something chosen by one.
    fn choice(&mut self) -> Step {
        let truths: Vec<ValueId> = (0..)
            .map(ValueId)
            .zip(&self.program.values)
            .filter(|(id, value)| value.data_type == DataType::Bool && !self.hidden.contains(id))
            .map(|(id, _)| id)
            .collect();
        let shape = Shape::new([self.program.chunk]);
        if truths.is_empty() || self.random.once_in(3) {
            return self.comparison(shape);
        }
        let candidates = self.values(|_| true);
        let chosen = [self.random.pick(&truths), self.random.pick(&candidates), self.random.pick(&candidates)];
        let operands = chosen.map(|value| self.operand(value, &shape, &Shape::default())).into();
        let [condition, a, b] = [0, 1, 2].map(|operand| Box::new(Expression::Operand(operand)));
        let result = self.value(shape.elements(), true, Source::Step);
        Step {
            result,
            offset: 0,
            condition: None,
            shape,
            reduced: Shape::default(),
            reducer: Reducer::Sum,
            operands,
            expression: Expression::Select(condition, a, b),
        }
    }

    /// Truth values. Compared are inputs, which are exact: the reference must not round to the other side.
    fn comparison(&mut self, shape: Shape) -> Step {
        let operands = vec![self.operand(ValueId(0), &shape, &Shape::default())];
        let function = self.random.pick(&[Binary::Greater, Binary::GreaterEqual, Binary::Equal]);
        let constant = Expression::Constant(self.random.pick(&[0.0, 0.25, -0.5]));
        let compared = binary(function, Expression::Operand(0), constant.clone());
        let expression = match self.random.below(6) {
            0 => unary(Unary::Not, compared),
            1 => binary(Binary::And, compared, Expression::cast(DataType::Bool, Expression::Operand(0))),
            2 => binary(Binary::Or, compared, binary(Binary::Equal, Expression::Operand(0), Expression::Constant(0.0))),
            _ => compared,
        };
        let result = self.value(shape.elements(), true, Source::Step);
        self.program.values[result.index()].data_type = DataType::Bool;
        let (reduced, reducer) = (Shape::default(), Reducer::Sum);
        Step { result, offset: 0, shape, reduced, reducer, operands, expression, condition: None }
    }

    /// Accumulated values, what is made of them, and where they go.
    fn sums(&mut self, pass: Pass, size: usize) {
        let mut sums = vec![];
        for number in 0..self.random.between(1, 3) {
            let step = if number == 0 {
                // The loss or the gradient of alpha.
                self.step_of(Reads::All, false, Shape::default(), Shape::default())
            } else if self.random.once_in(3) {
                self.outer_product()
            } else {
                let shape = self.shape(size.max(1), 3);
                let reduced = if self.random.once_in(2) { self.shape(12, 2) } else { Shape::default() };
                self.step_of(Reads::All, false, shape, reduced)
            };
            // What is accumulated must not be read by another accumulate step.
            sums.push(step.clone());
            self.hidden.push(step.result);
            self.program.accumulate.push(step);
        }
        let mut results: Vec<ValueId> = sums.iter().map(|step| step.result).collect();
        for _ in 0..self.random.below(3) {
            let of = self.random.pick(&results);
            let factors = self.values(|value| !value.per_row && !matches!(value.source, Source::Step));
            let factor = self.random.pick(&factors);
            let (shape, reduced) = (self.shape(size.max(1), 2), self.shape(6, 1));
            let operands = vec![self.operand(of, &shape, &reduced), self.operand(factor, &shape, &reduced)];
            let expression = binary(Binary::Mul, Expression::Operand(0), Expression::Operand(1));
            let result = self.value(shape.elements(), false, Source::Step);
            self.program.epilogue.push(Step {
                result,
                offset: 0,
                shape,
                reduced,
                reducer: Reducer::Sum,
                operands,
                expression,
                condition: None,
            });
            results.push(result);
        }
        let mut free = 0;
        let elements = |writer: &Self, value: ValueId| writer.program.values[value.index()].elements;
        let (mut alpha, mut loss) = (pass == Pass::Backward, pass == Pass::Train);
        for value in results {
            let elements = elements(self, value);
            let target = if elements == 1 && std::mem::take(&mut alpha) {
                Destination::AlphaGradient
            } else if elements == 1 && std::mem::take(&mut loss) {
                Destination::Loss
            } else if free + elements <= size {
                free += elements;
                Destination::ParameterGradient(free - elements)
            } else {
                continue;
            };
            self.program.outputs.push(Output { value, target });
        }
    }

    /// Two row values, every element of one times every element of the other.
    fn outer_product(&mut self) -> Step {
        let rows = self.values(|value| value.per_row);
        let pair = [self.random.pick(&rows), self.random.pick(&rows)];
        let [a, b] = pair.map(|value| self.program.values[value.index()].elements);
        let operands = vec![
            Operand { value: pair[0], offset: 0, strides: vec![1, 0] },
            Operand { value: pair[1], offset: 0, strides: vec![0, 1] },
        ];
        let result = self.value(a * b, false, Source::Step);
        let expression = binary(Binary::Mul, Expression::Operand(0), Expression::Operand(1));
        let (shape, reduced) = (Shape::new([a, b]), Shape::default());
        Step { result, offset: 0, shape, reduced, reducer: Reducer::Sum, operands, expression, condition: None }
    }
}

fn unary(function: Unary, of: Expression) -> Expression {
    Expression::Unary(function, Box::new(of))
}

fn binary(function: Binary, a: Expression, b: Expression) -> Expression {
    Expression::Binary(function, Box::new(a), Box::new(b))
}
