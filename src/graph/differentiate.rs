//! Reverse-mode differentiation, in the graph itself: the gradient is more nodes of the same graph.

use super::builder::{Builder, ROW_SUM};
use super::{DataType, Source, ValueId};
use crate::error;
use crate::ops::Call;

/// Adds the nodes that compute the gradient of a scalar with respect to some values, given its gradient with respect
/// to one value, and returns them: of the shape of their value; `None` where the gradient is zero by construction.
///
/// The scalar is a sum over all rows of the launch. So where the gradient of a per-row value flows into a uniform one,
/// a `row_sum` is inserted, and everything after it is linear in it.
///
/// An operator whose gradient has another shape than its input makes [`Builder::finish`] fail.
pub fn differentiate(
    builder: &mut Builder,
    output: ValueId,
    output_gradient: ValueId,
    with_respect_to: &[ValueId],
) -> Vec<Option<ValueId>> {
    Reverse { first: 0, sums_rows: true }.run(builder, output, output_gradient, with_respect_to)
}

/// The gradients of the inputs of an operator that is made of others: adds the nodes that `build` adds, and those that
/// lead from the gradient of what it returns back to the inputs. Sums over rows are left to [`differentiate`].
pub(crate) fn pull_back(
    builder: &mut Builder,
    inputs: &[ValueId],
    output_gradient: ValueId,
    build: impl FnOnce(&mut Builder) -> ValueId,
) -> Vec<Option<ValueId>> {
    let first = builder.next().index();
    let output = build(builder);
    let mut gradients = Reverse { first, sums_rows: false }.run(builder, output, output_gradient, inputs);
    // A value that is several inputs gets its whole gradient as the first of them.
    for later in 1..inputs.len() {
        if inputs[..later].contains(&inputs[later]) {
            gradients[later] = None;
        }
    }
    gradients
}

/// A walk back through the nodes from `first` on. What flows into earlier ones stays there.
struct Reverse {
    first: usize,
    /// Whether a gradient is summed over rows where it flows from a per-row value into a uniform one.
    sums_rows: bool,
}

impl Reverse {
    fn run(
        &self,
        builder: &mut Builder,
        output: ValueId,
        output_gradient: ValueId,
        with_respect_to: &[ValueId],
    ) -> Vec<Option<ValueId>> {
        let wanted = self.dependents(builder, output, with_respect_to);
        let mut contributions: Vec<Contributions> = vec![Contributions::default(); wanted.len()];
        let mut gradients = vec![None; wanted.len()];
        if let Some(own) = contributions.get_mut(output.index()) {
            // The given gradient is that of the output itself, so it needs no sum over rows.
            own.summed.push(output_gradient);
        }
        let outer = builder.scope();
        for position in (0..wanted.len()).rev().filter(|&position| wanted[position]) {
            let value = ValueId(position as u32);
            let name = format!("gradient_of_{}", builder.node(value).name);
            if self.sums_rows {
                builder.set_scope(Some(name.clone()));
            }
            let Some(gradient) = std::mem::take(&mut contributions[position]).total(builder) else { continue };
            // Only nodes that were made here and have no better name yet: a gradient may be that of several values.
            let own = &builder.node(gradient).name;
            if self.sums_rows && own.starts_with("gradient_of_") && own.contains('.') {
                builder.named(gradient, name);
            }
            gradients[position] = Some(gradient);
            if position >= self.first {
                self.pass_on(builder, value, gradient, &wanted, &mut contributions);
            }
        }
        builder.set_scope(outer);
        with_respect_to.iter().map(|value| gradients.get(value.index()).copied().flatten()).collect()
    }

    /// Lets the gradient of a value flow into its inputs.
    fn pass_on(
        &self,
        builder: &mut Builder,
        value: ValueId,
        gradient: ValueId,
        wanted: &[bool],
        contributions: &mut [Contributions],
    ) {
        let node = builder.node(value).clone();
        let Source::Operator { operator, inputs, attributes } = &node.source else { return };
        let call = Call { inputs, output: value, attributes };
        let parts = operator.gradient(builder, &call, gradient);
        for (&input, part) in inputs.iter().zip(parts) {
            let Some(part) = part else { continue };
            let (from, to) = (builder.shape(part), builder.shape(input));
            if from != to {
                builder.fail(error!(
                    Panic,
                    "the gradient of `{}` for an input of shape {to} has shape {from}: a defect of the operator",
                    operator.name(),
                ));
            }
            if !wanted[input.index()] {
                continue;
            }
            let into = &mut contributions[input.index()];
            let once_per_row = node.per_row || operator.name() == ROW_SUM;
            let from_rows = self.sums_rows && once_per_row && !builder.per_row(input);
            if from_rows { &mut into.per_row } else { &mut into.summed }.push(part);
        }
    }

    /// For every value up to `output`: whether it is a number that depends on one of the values, by way of nodes from
    /// `first` on.
    fn dependents(&self, builder: &Builder, output: ValueId, with_respect_to: &[ValueId]) -> Vec<bool> {
        let mut wanted = vec![false; output.index() + 1];
        for value in with_respect_to {
            if let Some(wanted) = wanted.get_mut(value.index()) {
                *wanted = builder.data_type(*value) == DataType::F32;
            }
        }
        for position in self.first..=output.index() {
            let node = builder.node(ValueId(position as u32));
            let through_inputs = match &node.source {
                Source::Operator { inputs, .. } => inputs.iter().any(|input| wanted[input.index()]),
                _ => false,
            };
            wanted[position] |= through_inputs && node.data_type == DataType::F32;
        }
        wanted
    }
}

/// What flows into the gradient of one value.
#[derive(Clone, Debug, Default)]
struct Contributions {
    /// From per-row values into a uniform one: to be summed over rows.
    per_row: Vec<ValueId>,
    /// All others.
    summed: Vec<ValueId>,
}

impl Contributions {
    /// Their sum, with one sum over rows for all that need it.
    fn total(mut self, builder: &mut Builder) -> Option<ValueId> {
        let sum = |builder: &mut Builder, parts: Vec<ValueId>| parts.into_iter().reduce(|a, b| builder.add(a, b));
        if let Some(per_row) = sum(builder, self.per_row) {
            self.summed.push(builder.row_sum(per_row));
        }
        sum(builder, self.summed)
    }
}
