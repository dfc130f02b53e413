//! One step as an instruction: which loop goes inside, and whether it is a contraction.

use super::expression::flatten;
use super::{Access, Action, Axis, Exact, Instruction, Space, width};
use crate::compile::{Binary, Expression, Reducer, Schedule, Step, ValueId};
use crate::graph::DataType;
use crate::{Result, fail};

/// The part of a program a step stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Section {
    /// Prologue or epilogue.
    Uniform,
    Body,
    Accumulate,
}

/// The instruction of a step whose result and operands begin at these places. In the generic schedule nothing is a
/// contraction.
pub fn schedule(step: &Step, how: Schedule, section: Section, result: Access, operands: Vec<Access>) -> Instruction {
    let strides = step.shape.strides();
    let axis = |position: usize, extent: usize, result: usize| Axis {
        extent,
        result,
        operands: step.operands.iter().map(|operand| operand.strides[position]).collect(),
    };
    let kept = step.shape.0.iter().enumerate().map(|(position, extent)| axis(position, *extent, strides[position]));
    let reduced = step.reduced.0.iter().enumerate();
    let reduced = reduced.map(|(position, extent)| axis(step.shape.rank() + position, *extent, 0));
    let loops = Loops { kept: merge(kept.collect()), reduced: merge(reduced.collect()) };
    let product = match &step.expression {
        _ if how == Schedule::Generic => None,
        Expression::Binary(Binary::Mul, a, b) if step.reducer == Reducer::Sum || step.reduced.rank() == 0 => {
            match (&**a, &**b) {
                (Expression::Operand(a), Expression::Operand(b)) if a != b => Some([*a, *b]),
                _ => None,
            }
        }
        _ => None,
    };
    if let Some(factors) = product {
        let contraction = match section {
            Section::Uniform => None,
            Section::Body => contract(&loops, &operands, factors),
            Section::Accumulate => outer_product(&loops, &operands, factors),
        };
        if let Some((outer, reduced, order, action)) = contraction {
            let operands = order.map(|position| operands[position]).to_vec();
            return Instruction { result: result.offset, operands, outer, reduced, action, condition: None };
        }
    }
    let combines = !loops.reduced.is_empty() && section != Section::Accumulate;
    let (outer, reduced, inner) = loops.innermost(step.operands.len());
    let reducer = combines.then_some(step.reducer);
    let action = Action::Evaluate { inner, reducer, expression: flatten(&step.expression) };
    Instruction { result: result.offset, operands, outer, reduced, action, condition: None }
}

/// Whether integers have a part in a step.
pub fn is_exact(step: &Step, data_type: &impl Fn(ValueId) -> DataType) -> bool {
    fn casts(expression: &Expression) -> bool {
        matches!(expression, Expression::Cast(to, _) if to.is_integer()) || expression.parts().any(casts)
    }
    step.reads().chain([step.result]).any(|value| data_type(value).is_integer()) || casts(&step.expression)
}

/// The instruction of a step with integers. Their elements lie further apart, so the strides are longer.
pub fn exact(
    step: &Step,
    section: Section,
    result: Access,
    operands: Vec<Access>,
    data_type: &impl Fn(ValueId) -> DataType,
) -> Result<Instruction> {
    if section == Section::Accumulate {
        fail!(CompileFailed, "integers have a part in a sum over rows; make that a step of its own");
    }
    let types: Vec<_> = step.operands.iter().map(|operand| data_type(operand.value)).collect();
    let own = data_type(step.result);
    let axis = |position: usize, extent: usize, result: usize| Axis {
        extent,
        result: result * width(own),
        operands: step.operands.iter().zip(&types).map(|(one, of)| one.strides[position] * width(*of)).collect(),
    };
    let strides = step.shape.strides();
    let kept = step.shape.0.iter().enumerate().map(|(position, extent)| axis(position, *extent, strides[position]));
    let rank = step.shape.rank();
    let reduced = step.reduced.0.iter().enumerate().map(|(position, extent)| axis(rank + position, *extent, 0));
    let reducer = (step.reduced.rank() > 0).then_some(step.reducer);
    let outer = kept.chain(reduced).collect();
    let exact = Exact { expression: step.expression.clone(), operands: types, result: own, reducer };
    Ok(Instruction {
        result: result.offset,
        operands,
        outer,
        reduced: step.reduced.rank(),
        action: Action::Exact(exact),
        condition: None,
    })
}

/// The loops of a step, those of one element left out and those that run on into each other made one.
struct Loops {
    kept: Vec<Axis>,
    reduced: Vec<Axis>,
}

fn merge(axes: Vec<Axis>) -> Vec<Axis> {
    let mut merged: Vec<Axis> = Vec::new();
    for axis in axes.into_iter().filter(|axis| axis.extent != 1) {
        if let Some(before) = merged.last_mut() {
            let runs_on = |outer: usize, inner: usize| outer == inner * axis.extent;
            let operands = before.operands.iter().zip(&axis.operands).all(|(outer, inner)| runs_on(*outer, *inner));
            if runs_on(before.result, axis.result) && operands {
                *before = Axis { extent: before.extent * axis.extent, ..axis };
                continue;
            }
        }
        merged.push(axis);
    }
    merged
}

/// The position of the longest axis that fits.
fn longest(axes: &[Axis], fits: impl Fn(&Axis) -> bool) -> Option<usize> {
    (0..axes.len()).filter(|position| fits(&axes[*position])).max_by_key(|position| axes[*position].extent)
}

impl Loops {
    /// The loop inside an evaluated step: the last one of the result or the last reduced one, whichever is longer. The
    /// others stay outside.
    fn innermost(mut self, operands: usize) -> (Vec<Axis>, usize, Axis) {
        let extent = |axes: &[Axis]| axes.last().map_or(0, |axis| axis.extent);
        let inner = if extent(&self.reduced) > extent(&self.kept) { self.reduced.pop() } else { self.kept.pop() };
        let inner = inner.unwrap_or_else(|| Axis { extent: 1, result: 1, operands: vec![0; operands] });
        let reduced = self.reduced.len();
        self.kept.append(&mut self.reduced);
        (self.kept, reduced, inner)
    }
}

type Contraction = (Vec<Axis>, usize, [usize; 2], Action);

/// The two factors of an axis, in the order the action wants them.
fn ordered(axis: &Axis, order: [usize; 2]) -> Axis {
    Axis { operands: order.map(|position| axis.operands[position]).to_vec(), ..axis.clone() }
}

/// A product of a uniform and a per-row value, summed.
fn contract(loops: &Loops, operands: &[Access], [a, b]: [usize; 2]) -> Option<Contraction> {
    let order = match (operands[a].space == Space::Row, operands[b].space == Space::Row) {
        (false, true) => [a, b],
        (true, false) => [b, a],
        _ => return None,
    };
    let outputs = longest(&loops.kept, |axis| axis.operands[order[1]] == 0)?;
    let depth = longest(&loops.reduced, |_| true)?;
    let mut outer: Vec<Axis> = loops.kept.iter().map(|axis| ordered(axis, order)).collect();
    let outputs = outer.remove(outputs);
    let mut reduced: Vec<Axis> = loops.reduced.iter().map(|axis| ordered(axis, order)).collect();
    let depth = reduced.remove(depth);
    let count = reduced.len();
    outer.append(&mut reduced);
    Some((outer, count, order, Action::Contract { outputs, depth }))
}

/// A product of two per-row values, summed over rows.
fn outer_product(loops: &Loops, operands: &[Access], [a, b]: [usize; 2]) -> Option<Contraction> {
    if [a, b].iter().any(|position| operands[*position].space != Space::Row) {
        return None;
    }
    let last = loops.kept.last().filter(|axis| axis.result == 1)?;
    let order = match (last.operands[a], last.operands[b]) {
        (0, 1..) => [a, b],
        (1.., 0) => [b, a],
        _ => return None,
    };
    let apart = |axis: &Axis| axis.operands[order[0]] != 0 && axis.operands[order[1]] == 0;
    let outputs = longest(&loops.kept[..loops.kept.len() - 1], apart)?;
    let mut kept: Vec<Axis> = loops.kept.iter().map(|axis| ordered(axis, order)).collect();
    let lanes = kept.pop()?;
    let outputs = kept.remove(outputs);
    // The lanes are transposed whenever their operand moves, so the loops that move it go outside.
    let mut outer: Vec<Axis> = kept.into_iter().chain(loops.reduced.iter().map(|axis| ordered(axis, order))).collect();
    outer.sort_by_key(|axis| axis.operands[1] == 0);
    Some((outer, 0, order, Action::OuterProduct { outputs, lanes }))
}
