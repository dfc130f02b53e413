//! Tests of the CUDA generator: hand-built programs that cover every kind of step, printed and compiled by NVRTC.

use super::*;
use crate::Status;
use crate::compile::{
    Binary, Destination, Expression, Operand, Output, Program, Reducer, Schedule, Source, Step, Unary, Value, ValueId,
};
use crate::graph::{RowInput, Scalar, Shape};

/// Whether tests that need NVRTC are left out, which only `KASMINA_TEST_WITHOUT_NVRTC=1` may say.
pub(crate) fn without_nvrtc() -> bool {
    std::env::var("KASMINA_TEST_WITHOUT_NVRTC").is_ok_and(|value| value == "1")
}

/// Builds programs step by step.
struct Draft(Program);

impl Draft {
    fn new(chunk: usize, fallback: RowInput) -> Draft {
        Draft(Program {
            chunk,
            values: Vec::new(),
            prologue: Vec::new(),
            body: Vec::new(),
            accumulate: Vec::new(),
            epilogue: Vec::new(),
            outputs: Vec::new(),
            guards: Vec::new(),
            fallback,
        })
    }

    fn value(&mut self, elements: usize, per_row: bool, source: Source) -> ValueId {
        self.0.values.push(Value { elements, data_type: DataType::F32, per_row, source });
        ValueId(self.0.values.len() as u32 - 1)
    }

    fn row(&mut self, input: RowInput) -> ValueId {
        self.value(self.0.chunk, true, Source::Row(input))
    }

    fn parameter(&mut self, offset: usize, elements: usize) -> ValueId {
        self.value(elements, false, Source::Parameter(offset))
    }

    fn step(
        &mut self,
        per_row: bool,
        shape: &[usize],
        reduced: &[usize],
        reducer: Reducer,
        operands: &[(ValueId, &[usize])],
        expression: Expression,
    ) -> Step {
        let result = self.value(shape.iter().product(), per_row, Source::Step);
        let operands = operands.iter().map(|&(value, strides)| Operand { value, offset: 0, strides: strides.to_vec() });
        Step {
            result,
            offset: 0,
            condition: None,
            shape: Shape::new(shape),
            reduced: Shape::new(reduced),
            reducer,
            operands: operands.collect(),
            expression,
        }
    }

    /// A step of the body.
    fn body(
        &mut self,
        shape: &[usize],
        reduced: &[usize],
        operands: &[(ValueId, &[usize])],
        what: Expression,
    ) -> ValueId {
        let step = self.step(true, shape, reduced, Reducer::Sum, operands, what);
        self.0.body.push(step);
        self.0.body[self.0.body.len() - 1].result
    }

    fn accumulate(
        &mut self,
        shape: &[usize],
        reduced: &[usize],
        operands: &[(ValueId, &[usize])],
        what: Expression,
    ) -> ValueId {
        let step = self.step(false, shape, reduced, Reducer::Sum, operands, what);
        self.0.accumulate.push(step);
        self.0.accumulate[self.0.accumulate.len() - 1].result
    }

    fn output(&mut self, value: ValueId, target: Destination) {
        self.0.outputs.push(Output { value, target });
    }
}

fn operand(position: usize) -> Box<Expression> {
    Box::new(Expression::Operand(position))
}

fn binary(operation: Binary, a: Box<Expression>, b: Box<Expression>) -> Box<Expression> {
    Box::new(Expression::Binary(operation, a, b))
}

fn product() -> Expression {
    *binary(Binary::Mul, operand(0), operand(1))
}

fn unary(function: Unary, a: Box<Expression>) -> Box<Expression> {
    Box::new(Expression::Unary(function, a))
}

/// A bottleneck with softmax weights, a normalisation and a select: every kind of step of a forward pass.
pub(crate) fn forward_program(chunk: usize, inner: usize) -> Program {
    let mut draft = Draft::new(chunk, RowInput::X);
    let x = draft.row(RowInput::X);
    let weights = draft.parameter(0, chunk * inner);
    let back = draft.parameter(chunk * inner, inner * chunk);
    let bias = draft.parameter(2 * chunk * inner, chunk);
    let alpha = draft.value(1, false, Source::Scalar(Scalar::Alpha));
    // Prologue: softmax of the bias.
    let largest = draft.step(false, &[], &[chunk], Reducer::Max, &[(bias, &[1])], Expression::Operand(0));
    let difference = binary(Binary::Sub, operand(0), operand(1));
    let shifted = draft.step(
        false,
        &[chunk],
        &[],
        Reducer::Sum,
        &[(bias, &[1]), (largest.result, &[0])],
        *unary(Unary::Exp, difference),
    );
    let total = draft.step(false, &[], &[chunk], Reducer::Sum, &[(shifted.result, &[1])], Expression::Operand(0));
    let quotient = *binary(Binary::Div, operand(0), operand(1));
    let softmax =
        draft.step(false, &[chunk], &[], Reducer::Sum, &[(shifted.result, &[1]), (total.result, &[0])], quotient);
    let softmax_value = softmax.result;
    draft.0.prologue = vec![largest, shifted, total, softmax];
    // Body: mean, centred, contraction, activation with a select, contraction back, softmax gate, blend.
    let mean = draft.body(
        &[1],
        &[chunk],
        &[(x, &[0, 1])],
        *binary(Binary::Mul, operand(0), Box::new(Expression::Constant(1.0 / chunk as f64))),
    );
    let centred = draft.body(&[chunk], &[], &[(x, &[1]), (mean, &[0])], *binary(Binary::Sub, operand(0), operand(1)));
    let hidden = draft.body(&[inner], &[chunk], &[(centred, &[0, 1]), (weights, &[1, inner])], product());
    let positive = binary(Binary::Greater, operand(0), Box::new(Expression::Constant(0.0)));
    let leaky = Expression::Select(positive, operand(0), unary(Unary::Tanh, operand(0)));
    let active = draft.body(&[inner], &[], &[(hidden, &[1])], leaky);
    let output = draft.body(&[chunk], &[inner], &[(active, &[0, 1]), (back, &[1, chunk])], product());
    let gated = draft.body(&[chunk], &[], &[(output, &[1]), (softmax_value, &[1])], product());
    let blended = Expression::Binary(
        Binary::Add,
        operand(0),
        binary(Binary::Mul, operand(2), binary(Binary::Sub, operand(1), operand(0))),
    );
    let y = draft.body(&[chunk], &[], &[(x, &[1]), (gated, &[1]), (alpha, &[0])], blended);
    draft.0.guards.push(gated);
    draft.output(y, Destination::Row);
    draft.0
}

/// Gradients of `x + alpha * (x w) w2` with respect to everything, or to x and alpha only.
pub(crate) fn backward_program(chunk: usize, inner: usize, frozen: bool) -> Program {
    let mut draft = Draft::new(chunk, RowInput::OutputGradient);
    let x = draft.row(RowInput::X);
    let gradient = draft.row(RowInput::OutputGradient);
    let weights = draft.parameter(0, chunk * inner);
    let back = draft.parameter(chunk * inner, inner * chunk);
    let alpha = draft.value(1, false, Source::Scalar(Scalar::Alpha));
    let hidden = draft.body(&[inner], &[chunk], &[(x, &[0, 1]), (weights, &[1, inner])], product());
    let inner_gradient = draft.body(&[inner], &[chunk], &[(gradient, &[0, 1]), (back, &[chunk, 1])], product());
    let through = draft.body(&[chunk], &[inner], &[(inner_gradient, &[0, 1]), (weights, &[inner, 1])], product());
    let sum = Expression::Binary(Binary::Add, operand(0), binary(Binary::Mul, operand(1), operand(2)));
    let dx = draft.body(&[chunk], &[], &[(gradient, &[1]), (through, &[1]), (alpha, &[0])], sum);
    draft.0.guards.push(dx);
    draft.output(dx, Destination::Row);
    let dalpha = draft.accumulate(&[], &[inner], &[(hidden, &[1]), (inner_gradient, &[1])], product());
    draft.output(dalpha, Destination::AlphaGradient);
    if !frozen {
        let first = draft.accumulate(&[chunk, inner], &[], &[(x, &[1, 0]), (inner_gradient, &[0, 1])], product());
        let second = draft.accumulate(&[inner, chunk], &[], &[(hidden, &[1, 0]), (gradient, &[0, 1])], product());
        for (value, offset) in [(first, 0), (second, chunk * inner)] {
            let elements = chunk * inner;
            let scaled = draft.step(false, &[elements], &[], Reducer::Sum, &[(value, &[1]), (alpha, &[0])], product());
            draft.output(scaled.result, Destination::ParameterGradient(offset));
            draft.0.epilogue.push(scaled);
        }
        let bias = draft.accumulate(&[chunk], &[], &[(gradient, &[1])], Expression::Operand(0));
        draft.output(bias, Destination::ParameterGradient(2 * chunk * inner));
    }
    draft.0
}

/// Loss and gradient of `x w - target`, elementwise.
pub(crate) fn train_program(chunk: usize) -> Program {
    let mut draft = Draft::new(chunk, RowInput::X);
    let x = draft.row(RowInput::X);
    let target = draft.row(RowInput::Target);
    let weight = draft.parameter(0, chunk);
    let scale = draft.value(1, false, Source::Scalar(Scalar::LossScale));
    let error = binary(Binary::Sub, binary(Binary::Mul, operand(0), operand(1)), operand(2));
    let difference = draft.body(&[chunk], &[], &[(x, &[1]), (weight, &[1]), (target, &[1])], *error);
    draft.0.guards.push(difference);
    let squared = binary(Binary::Mul, binary(Binary::Mul, operand(0), operand(0)), operand(1));
    let loss = draft.accumulate(&[], &[chunk], &[(difference, &[1]), (scale, &[0])], *squared);
    draft.output(loss, Destination::Loss);
    let slope = binary(Binary::Mul, Box::new(Expression::Constant(2.0)), binary(Binary::Mul, operand(0), operand(1)));
    let slope = Expression::Binary(Binary::Mul, slope, operand(2));
    let gradient = draft.accumulate(&[chunk], &[], &[(difference, &[1]), (x, &[1]), (scale, &[0])], slope);
    draft.output(gradient, Destination::ParameterGradient(0));
    draft.0
}

/// A class of `count` programs of differing inner widths.
pub(crate) fn class(pass: Pass, data_type: DataType, chunk: usize, count: usize) -> KernelClass {
    let programs = |frozen: bool| -> Vec<Program> {
        (0..count)
            .map(|number| match pass {
                Pass::Forward => forward_program(chunk, 1 + 5 * number),
                Pass::Backward => backward_program(chunk, 1 + 5 * number, frozen),
                Pass::Train => train_program(chunk),
            })
            .collect()
    };
    let frozen = if pass == Pass::Backward { programs(true) } else { Vec::new() };
    KernelClass { pass, schedule: Schedule::Best, data_type, tf32: false, chunk, programs: programs(false), frozen }
}

const PASSES: [Pass; 3] = [Pass::Forward, Pass::Backward, Pass::Train];
const TYPES: [DataType; 4] = [DataType::F32, DataType::F16, DataType::BF16, DataType::F64];

#[test]
fn every_pass_type_width_and_number_of_programs_compiles() {
    if without_nvrtc() {
        return;
    }
    for pass in PASSES {
        for (position, data_type) in TYPES.into_iter().enumerate() {
            // Every width with every pass, every number of programs with every type; tests/rust/cuda_compiles.rs takes
            // every library blueprint through both architectures.
            for (chunk, count) in
                [(1, 4), (7, 1), (64, 0), (64, 4), (1000, 1)].into_iter().skip(position % 2).step_by(2)
            {
                let architecture = Architecture::Cuda(if (position + chunk + count) % 2 == 0 { 80 } else { 90 });
                let bytes = compile(&class(pass, data_type, chunk, count), architecture).unwrap_or_else(|error| {
                    panic!("{pass:?} {data_type:?} {chunk} {count}: {error}\n{:?}", error.attachments().first())
                });
                let image = Image::from_bytes(&bytes).unwrap();
                assert!(image.machine_code.windows(ENTRY.len()).any(|window| window == ENTRY.as_bytes()));
            }
        }
    }
}

#[test]
fn equal_classes_print_the_same_source() {
    for pass in PASSES {
        let class = class(pass, DataType::BF16, 64, 4);
        let again: KernelClass = serde_json::from_str(&serde_json::to_string(&class).unwrap()).unwrap();
        let [one, two] = [class, again].map(|class| generate(&class, Architecture::Cuda(90)).unwrap());
        assert_eq!(one.source, two.source);
        assert_eq!(one.shape, two.shape);
    }
}

#[test]
fn a_larger_program_gets_a_smaller_tile_and_then_an_error_that_names_the_bytes() {
    let shape =
        |chunk| generate(&class(Pass::Forward, DataType::F32, chunk, 1), Architecture::Cuda(80)).map(|one| one.shape);
    assert_eq!(shape(65).unwrap().rows, 32);
    let wide = shape(3000).unwrap();
    assert!(wide.rows < 32 && wide.shared_bytes <= 163 << 10, "{wide:?}");
    let error = shape(100_000).unwrap_err();
    assert_eq!(error.status(), Status::KernelTooLarge);
    assert!(error.message().contains("166912"), "{error}");
}

#[test]
fn more_programs_than_a_launch_can_pass_are_refused() {
    let class = class(Pass::Train, DataType::F32, 4, MAXIMUM_PROGRAMS + 1);
    assert_eq!(generate(&class, Architecture::Cuda(80)).unwrap_err().status(), Status::Unsupported);
}

#[test]
fn a_program_that_reads_past_a_value_is_refused() {
    let mut class = class(Pass::Forward, DataType::F32, 8, 1);
    class.programs[0].body[0].operands[0].offset = 1;
    let error = generate(&class, Architecture::Cuda(80)).unwrap_err();
    assert_eq!(error.status(), Status::CompileFailed);
    assert!(error.message().contains("reads past the end"), "{error}");
}

#[test]
fn blocks_add_in_turn_unless_gradients_are_added_between_tiles() {
    let in_turn = |name: &str, pass: Pass, data_type: DataType, chunk: usize, capability: u32| {
        let blueprint = crate::graph::library(name, chunk, &crate::graph::Attributes::new()).unwrap();
        let class = crate::compile::kernel_class(pass, data_type, true, &[&blueprint]).unwrap();
        generate(&class, Architecture::Cuda(capability)).unwrap().shape.in_turn
    };
    for pass in [Pass::Forward, Pass::Backward, Pass::Train] {
        for name in ["bottleneck", "conv", "attention"] {
            assert!(in_turn(name, pass, DataType::BF16, 64, 90), "{name}, {pass:?}");
            assert!(!in_turn(name, pass, DataType::BF16, 64, 80), "{name}, {pass:?}: no clusters");
        }
    }
    let [forward, backward] =
        [Pass::Forward, Pass::Backward].map(|pass| in_turn("normalized_mlp", pass, DataType::BF16, 128, 90));
    assert!(forward && !backward);
}

#[test]
fn an_image_that_is_damaged_is_refused() {
    let shape = LaunchShape {
        rows: 32,
        threads: 256,
        shared_bytes: 4096,
        waves: 2,
        busy_weight: 150,
        pieces: 2,
        in_turn: true,
    };
    let bytes = Image { shape, machine_code: b"\x7fELF and more".to_vec() }.to_bytes().unwrap();
    assert_eq!(Image::from_bytes(&bytes).unwrap().shape, shape);
    for damaged in [&bytes[..bytes.len() - 1], &bytes[1..], b"".as_slice()] {
        assert_eq!(Image::from_bytes(damaged).unwrap_err().status(), Status::FileCorrupted);
    }
}

#[test]
fn programs_of_the_library_run_in_fragments_where_their_chunks_are_wide_enough() {
    let source = |name: &str, pass: Pass, data_type: DataType, chunk: usize, capability: u32| {
        let blueprint = crate::graph::library(name, chunk, &crate::graph::Attributes::new()).unwrap();
        let class = crate::compile::kernel_class(pass, data_type, true, &[&blueprint]).unwrap();
        generate(&class, Architecture::Cuda(capability)).unwrap().source
    };
    let in_fragments =
        |source: String| source.contains("watch_tile<") && !source.contains("load_tile<EVERYTHING>(shared");
    for name in ["residual", "attention", "mlp", "conv", "bottleneck", "low_rank", "squeeze_excite"] {
        for data_type in [DataType::F32, DataType::F16, DataType::BF16] {
            let forward = source(name, Pass::Forward, data_type, 64, 90);
            assert!(in_fragments(forward), "{name} in {}", data_type.name());
            let [backward, train] = [Pass::Backward, Pass::Train].map(|pass| source(name, pass, data_type, 64, 90));
            assert!(!backward.contains("load_tile<GRADIENT>(shared"), "{name} in {}", data_type.name());
            assert!(!train.contains("load_tile<NOTHING>(shared"), "{name} in {}", data_type.name());
        }
    }
    // Nor does one that does not fit leave its frozen twin scratch memory, which takes more room than blocks of its size have.
    let backward = source("conv", Pass::Backward, DataType::BF16, 128, 90);
    assert!(backward.contains("load_tile<GRADIENT>(shared") && !backward.contains("in scratch memory"));
    // Not in f64, not in chunks that no tensor core divides, not on cards without the instructions.
    for (data_type, chunk, capability) in [(DataType::F64, 64, 90), (DataType::F32, 60, 90), (DataType::F16, 64, 75)] {
        assert!(!in_fragments(source("residual", Pass::Forward, data_type, chunk, capability)));
    }
}

#[test]
fn programs_whose_weights_do_not_fit_in_fragments_run_in_shared_memory() {
    for (name, chunk, capability) in [("normalized_mlp", 128, 90), ("normalized_mlp", 64, 80), ("bottleneck", 256, 90)]
    {
        let blueprint = crate::graph::library(name, chunk, &crate::graph::Attributes::new()).unwrap();
        let class = crate::compile::kernel_class(Pass::Forward, DataType::F32, true, &[&blueprint]).unwrap();
        let generated = generate(&class, Architecture::Cuda(capability)).unwrap();
        assert!(generated.source.contains("load_tile<EVERYTHING>(shared"), "{name} for chunks of {chunk}");
    }
}
