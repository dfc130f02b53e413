//! Lowers graphs to programs: every operator puts down the steps that compute it.
//!
//! Reshapes, permutations and broadcasts are *views*: they cost no step unless a reader needs the elements to lie
//! dense. What the steps come to as a program, phase by phase, is the business of [`super::schedule`].

use super::schedule::Draft;
use super::{Destination, Expression, Operand, Output, Program, Reducer, Source, Step, Value, ValueId};
use crate::graph::{self, Attributes, Builder, DataType, Graph, RowInput, Scalar, Shape, Target};
use crate::{Error, Result, fail};

/// A value as its reader sees it: where its elements lie, for an index over `shape`.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// What is read.
    pub value: ValueId,
    /// The first element.
    pub offset: usize,
    /// Elements to move per index, one for each axis of `shape`; 0 repeats.
    pub strides: Vec<usize>,
    /// The shape the graph gave the value.
    pub shape: Shape,
}

impl View {
    /// All elements of a value, in order.
    pub fn dense(value: ValueId, shape: Shape) -> Self {
        Self { value, offset: 0, strides: shape.strides(), shape }
    }

    /// Repeated to a larger shape, as NumPy broadcasts.
    pub fn broadcast(&self, shape: &Shape) -> Self {
        let added = shape.rank() - self.shape.rank();
        let stride = |axis: usize| match axis.checked_sub(added) {
            Some(own) if self.shape.0[own] == shape.0[axis] => self.strides[own],
            _ => 0,
        };
        Self { strides: (0..shape.rank()).map(stride).collect(), shape: shape.clone(), ..*self }
    }

    /// With its axes in another order: axis `i` of the result is axis `axes[i]`.
    pub fn permute(&self, axes: &[usize]) -> Self {
        let shape: Vec<_> = axes.iter().map(|&axis| self.shape.0[axis]).collect();
        Self { strides: axes.iter().map(|&axis| self.strides[axis]).collect(), shape: Shape(shape), ..*self }
    }

    /// In another shape of as many elements, if no element has to move for that.
    pub fn reshape(&self, shape: &Shape) -> Option<Self> {
        // Axes of size 1 say nothing; of the others, those that one stride walks through are one run.
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for (&size, &stride) in self.shape.0.iter().zip(&self.strides).filter(|&(&size, _)| size != 1) {
            match runs.last_mut() {
                Some(run) if run.1 == size * stride => *run = (run.0 * size, stride),
                _ => runs.push((size, stride)),
            }
        }
        // From the innermost axis on, every new axis must lie inside one run.
        let mut strides = vec![0; shape.rank()];
        let mut run = runs.pop().unwrap_or((1, 0));
        for (axis, &size) in shape.0.iter().enumerate().rev().filter(|&(_, &size)| size != 1) {
            if run.0 == 1 {
                run = runs.pop()?;
            }
            if !run.0.is_multiple_of(size) {
                return None;
            }
            strides[axis] = run.1;
            run = (run.0 / size, run.1 * size);
        }
        Some(Self { strides, shape: shape.clone(), ..*self })
    }

    /// The operand that reads it, for a step without reduced axes.
    pub fn operand(&self) -> Operand {
        Operand { value: self.value, offset: self.offset, strides: self.strides.clone() }
    }
}

/// A call as an operator's lowering sees it.
#[derive(Debug)]
pub struct Lowered<'a> {
    /// The inputs.
    pub inputs: &'a [View],
    /// The shape of the result.
    pub shape: &'a Shape,
    /// The attributes.
    pub attributes: &'a Attributes,
}

/// A program under construction.
#[derive(Debug)]
pub struct Lowering {
    draft: Draft,
    failure: Option<Error>,
}

impl Lowering {
    /// A step: for every index of `shape`, the expression combined over every index of `reduced`.
    ///
    /// The operands have a stride for each axis of the shape and then for each reduced axis.
    pub fn step(
        &mut self,
        shape: Shape,
        reduced: Shape,
        reducer: Reducer,
        operands: Vec<Operand>,
        expression: Expression,
    ) -> View {
        let values = &self.draft.values;
        let per_row = operands.iter().any(|operand| values[operand.value.index()].per_row);
        let data_type = expression.data_type(&|at| values[operands[at].value.index()].data_type);
        let result = self.draft.push(Value { elements: shape.elements(), data_type, per_row, source: Source::Step });
        let condition = None;
        self.draft.steps.push(Step {
            result,
            offset: 0,
            shape: shape.clone(),
            reduced,
            reducer,
            operands,
            expression,
            condition,
        });
        View::dense(result, shape)
    }

    /// A map: the expression at every index of `shape`, to which the inputs are broadcast.
    pub fn map(&mut self, shape: &Shape, inputs: &[&View], expression: Expression) -> View {
        let operands = inputs.iter().map(|input| input.broadcast(shape).operand()).collect();
        self.step(shape.clone(), Shape::default(), Reducer::Sum, operands, expression)
    }

    /// The parts one after the other along an axis; they have one type, and one shape but for that axis.
    pub fn concatenate(&mut self, parts: &[&View], axis: usize) -> View {
        // The axis lies outermost in memory, so that every part is dense.
        let rank = parts[0].shape.rank();
        let order: Vec<_> = std::iter::once(axis).chain((0..rank).filter(|&other| other != axis)).collect();
        let parts: Vec<_> = parts.iter().map(|part| part.permute(&order)).collect();
        let values = &self.draft.values;
        let of_part = |part: &View| &values[part.value.index()];
        let result = Value {
            elements: parts.iter().map(|part| part.shape.elements()).sum(),
            data_type: of_part(&parts[0]).data_type,
            per_row: parts.iter().any(|part| of_part(part).per_row),
            source: Source::Step,
        };
        let result = self.draft.push(result);
        let mut shape = parts[0].shape.clone();
        shape.0[0] = parts.iter().map(|part| part.shape.0[0]).sum();
        let mut offset = 0;
        for part in parts {
            self.draft.steps.push(Step {
                result,
                offset,
                shape: part.shape.clone(),
                reduced: Shape::default(),
                reducer: Reducer::Sum,
                operands: vec![part.operand()],
                expression: Expression::Operand(0),
                condition: None,
            });
            offset += part.shape.elements();
        }
        let back: Vec<_> =
            (0..rank).map(|axis| order.iter().position(|&other| other == axis).unwrap_or(axis)).collect();
        View::dense(result, shape).permute(&back)
    }

    /// The numbers 0, 1, and so on, shape `[count]`; uniform.
    pub fn index(&mut self, count: usize) -> View {
        let value = Value { elements: count, data_type: DataType::F32, per_row: false, source: Source::Index };
        View::dense(self.given(value), Shape::new([count]))
    }

    /// Random numbers in [0, 1) from a stream of the blueprint, another for each row: see [`super::random`].
    pub fn random(&mut self, stream: u16, shape: &Shape) -> View {
        let source = Source::Random(stream);
        let value = Value { elements: shape.elements(), data_type: DataType::F32, per_row: true, source };
        View::dense(self.given(value), shape.clone())
    }

    /// A number of the seed, shape `[]`.
    pub fn scalar(&mut self, scalar: Scalar) -> View {
        let value = Value { elements: 1, data_type: DataType::F32, per_row: false, source: Source::Scalar(scalar) };
        View::dense(self.given(value), Shape::default())
    }

    /// A value that no step computes; the same one for all that ask for it, so that what they compute from it is shared.
    fn given(&mut self, value: Value) -> ValueId {
        match self.draft.values.iter().position(|known| *known == value) {
            Some(position) => ValueId(position as u32),
            None => self.draft.push(value),
        }
    }

    /// A number that is part of the program, shape `[]`.
    pub fn constant(&mut self, value: f64) -> View {
        self.map(&Shape::default(), &[], Expression::Constant(value))
    }

    /// The elements combined over some axes, which stay in the shape with size 1.
    pub fn reduce(&mut self, reducer: Reducer, input: &View, axes: &[usize]) -> View {
        let kept: Vec<_> = (0..input.shape.rank()).filter(|axis| !axes.contains(axis)).collect();
        let order: Vec<_> = kept.iter().chain(axes).copied().collect();
        let operand = input.permute(&order).operand();
        let sizes = |axes: &[usize]| Shape(axes.iter().map(|&axis| input.shape.0[axis]).collect());
        let result = self.step(sizes(&kept), sizes(axes), reducer, vec![operand], Expression::Operand(0));
        let mut shape = input.shape.clone();
        axes.iter().for_each(|&axis| shape.0[axis] = 1);
        View::dense(result.value, shape)
    }

    /// What a few operators compute together, for operators that are made of others.
    ///
    /// A gradient that builds the same nodes shares the steps.
    pub fn expand(
        &mut self,
        inputs: &[View],
        build: impl FnOnce(&mut Builder, &[graph::ValueId]) -> graph::ValueId,
    ) -> View {
        let mut builder = Builder::new();
        let values: Vec<_> = inputs
            .iter()
            .enumerate()
            .map(|(position, input)| {
                let data_type = self.draft.values[input.value.index()].data_type;
                builder.stand_in(position, input.shape.clone(), data_type)
            })
            .collect();
        let result = build(&mut builder, &values);
        let views = builder.finish().and_then(|graph| {
            self.nodes(&graph, |_, node| match node.source {
                graph::Source::Parameter(position) => Ok(inputs[position].clone()),
                _ => fail!(Panic, "`{}` has no value here: a defect of an operator", node.name),
            })
        });
        match views {
            Ok(views) => views[result.index()].clone(),
            Err(failure) => {
                self.failure.get_or_insert(failure);
                // The program will never be given out, so any value will do.
                inputs[0].clone()
            }
        }
    }

    /// The sum over all rows: uniform. A uniform value is added once for each row.
    pub fn accumulate(&mut self, input: &View) -> View {
        let result = self.copy(input);
        self.draft.values[result.value.index()].per_row = false;
        self.draft.accumulated.insert(result.value);
        result
    }

    /// The same elements in another shape; copied only if no view can show them so.
    pub fn reshape(&mut self, input: &View, shape: &Shape) -> View {
        match input.reshape(shape) {
            Some(view) => view,
            None => View::dense(self.copy(input).value, shape.clone()),
        }
    }

    /// The same elements as a whole value, in order; copied only if they are not one already.
    pub fn materialize(&mut self, input: &View) -> View {
        let elements = self.draft.values[input.value.index()].elements;
        let dense = View::dense(input.value, Shape::new([elements]));
        let in_order = elements == 1 || input.reshape(&dense.shape).as_ref() == Some(&dense);
        let is_whole = input.shape.elements() == elements && in_order;
        if is_whole { input.clone() } else { self.copy(input) }
    }

    fn copy(&mut self, input: &View) -> View {
        self.map(&input.shape, &[input], Expression::Operand(0))
    }

    /// A per-row copy of a uniform value; a per-row one as a whole value.
    fn materialize_per_row(&mut self, input: &View) -> View {
        if self.draft.values[input.value.index()].per_row {
            return self.materialize(input);
        }
        let copy = self.copy(input);
        self.draft.values[copy.value.index()].per_row = true;
        copy
    }
}

/// Lowers the graph of a pass to a program: steps in phases, nothing computed that no output needs.
///
/// `offsets` says where each parameter begins in a slot; `fallback` is the input whose row stands in for the output
/// of a row that falls back. The program is right but plain: [`super::simplify`] makes it fast.
///
/// # Errors
///
/// `InvalidBlueprint` for an output that is not a whole chunk, or a per-row value that depends on a sum over rows.
pub fn lower(graph: &Graph, chunk: usize, offsets: &[usize], fallback: RowInput) -> Result<Program> {
    let mut lowering = Lowering { draft: Draft::new(chunk, fallback), failure: None };
    let views = lowering.nodes(graph, |lowering, node| match node.source {
        graph::Source::Row(input) => Ok(lowering.input(node, Source::Row(input))),
        graph::Source::Scalar(scalar) => Ok(lowering.input(node, Source::Scalar(scalar))),
        graph::Source::Parameter(position) => match offsets.get(position) {
            Some(offset) => Ok(lowering.input(node, Source::Parameter(*offset))),
            None => fail!(InvalidBlueprint, "`{}` is parameter {position} of {}", node.name, offsets.len()),
        },
        graph::Source::Operator { .. } => fail!(Panic, "`{}` is not an input: a defect of the lowering", node.name),
    })?;
    for output in &graph.outputs {
        let view = &views[output.value.index()];
        let elements = view.shape.elements();
        let (value, target) = match output.target {
            Target::Row if elements == chunk => (lowering.materialize_per_row(view), Destination::Row),
            Target::Row => fail!(InvalidBlueprint, "the output has {elements} elements; a chunk has {chunk}"),
            Target::ParameterGradient(position) => match offsets.get(position) {
                Some(offset) => (lowering.materialize_sum(view), Destination::ParameterGradient(*offset)),
                None => {
                    fail!(InvalidBlueprint, "an output is the gradient of parameter {position} of {}", offsets.len())
                }
            },
            Target::AlphaGradient => (lowering.materialize_sum(view), Destination::AlphaGradient),
            Target::Loss => (lowering.materialize_sum(view), Destination::Loss),
        };
        lowering.draft.outputs.push(Output { value: value.value, target });
    }
    for guard in &graph.guards {
        let guard = lowering.materialize_per_row(&views[guard.index()]);
        lowering.draft.guards.push(guard.value);
    }
    match lowering.failure {
        None => lowering.draft.schedule(),
        Some(failure) => Err(failure),
    }
}

impl Lowering {
    /// Lowers all nodes of a graph, of which `input` gives the inputs.
    fn nodes(&mut self, graph: &Graph, input: impl Fn(&mut Self, &graph::Node) -> Result<View>) -> Result<Vec<View>> {
        let mut views: Vec<View> = Vec::with_capacity(graph.nodes.len());
        for node in &graph.nodes {
            let view = match &node.source {
                graph::Source::Operator { operator, inputs, attributes } => {
                    let inputs: Vec<_> = inputs.iter().map(|input| views[input.index()].clone()).collect();
                    operator.lower(self, &Lowered { inputs: &inputs, shape: &node.shape, attributes })
                }
                _ => input(self, node)?,
            };
            views.push(view);
        }
        Ok(views)
    }

    fn input(&mut self, node: &graph::Node, source: Source) -> View {
        let elements = node.shape.elements();
        let value = Value { elements, data_type: node.data_type, per_row: node.per_row, source };
        View::dense(self.draft.push(value), node.shape.clone())
    }

    /// A whole uniform value that is a sum over rows. One that comes from no such sum is the same for each row, so its
    /// sum over rows is taken here.
    fn materialize_sum(&mut self, input: &View) -> View {
        if self.draft.depends_on_rows(input.value) { self.materialize(input) } else { self.accumulate(input) }
    }
}
