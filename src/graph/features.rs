//! What a graph is like: a few counts by which another one may be recognised whose kernel wants a similar schedule.
//!
//! Dissimilarity is a weighted sum of six distances, each from 0 to 1 and each a metric, so the whole is one: no detour is
//! shorter than the straight way. An index over distances to fixed points relies on that. Counts are of what the outputs
//! need, so names, the order of nodes and dead nodes make no difference. Must know nothing of schedules and of who compares.

use super::{Graph, Source, ValueId};
use crate::ops::Group;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// Counts further apart than by this factor are as different as can be.
const FAR: f64 = 16.0;
/// The same for elements, of which there are between a few and millions.
const FAR_ELEMENTS: f64 = 4096.0;

/// What one graph, or several that one kernel runs, are like. Whole numbers only, so that it reads back as it was written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Features {
    /// How many operators are called.
    pub calls: u32,
    /// Calls on the longest way to an output.
    pub depth: u32,
    /// How often each operator is called.
    pub operators: BTreeMap<String, u32>,
    /// Calls that compare, choose, or belong to one branch of a conditional. (Loops are unrolled, so nothing is left of them.)
    pub choices: u32,
    /// The most calls that depend on equally many others in a row, and so could run at once.
    pub width: u32,
    /// Elements of parameters.
    pub parameters: u64,
    /// Elements that calls write, by what they do to memory.
    pub written: Written,
}

/// Elements that calls write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Written {
    /// From as many elements each: arithmetic, functions, choices.
    pub mapped: u64,
    /// From all elements along axes: reductions and normalisations.
    pub reduced: u64,
    /// By sums of products.
    pub contracted: u64,
    /// As they were, elsewhere.
    pub moved: u64,
}

impl Features {
    /// The features of graphs that one kernel runs.
    pub fn of<'a>(graphs: impl IntoIterator<Item = &'a Graph>) -> Features {
        let mut features = Features::default();
        graphs.into_iter().for_each(|graph| features.add(graph));
        features
    }

    /// How similar two are: 1 if they are equal, 0 if nothing is alike.
    pub fn similarity(&self, other: &Features) -> f64 {
        1.0 - self.distance(other)
    }

    /// 1 less the similarity. A metric.
    pub fn distance(&self, other: &Features) -> f64 {
        // The weights are 1 together.
        0.2 * calls(self, other)
            + 0.15 * depth(self, other)
            + 0.3 * operators(self, other)
            + 0.2 * control_flow(self, other)
            + 0.1 * memory(self, other)
            + 0.05 * parallelism(self, other)
    }

    fn add(&mut self, graph: &Graph) {
        let mut needed = vec![false; graph.nodes.len()];
        let leaving = graph.outputs.iter().map(|output| output.value).chain(graph.guards.iter().copied());
        leaving.for_each(|value| needed[value.index()] = true);
        for position in (0..graph.nodes.len()).rev() {
            if needed[position] {
                operands(graph, position).iter().for_each(|operand| needed[operand.index()] = true);
            }
        }
        let mut levels = vec![0usize; graph.nodes.len()];
        let mut widths = BTreeMap::<usize, u32>::new();
        for (position, node) in graph.nodes.iter().enumerate().filter(|(position, _)| needed[*position]) {
            let elements = node.shape.elements() as u64;
            let Source::Operator { operator, inputs, .. } = &node.source else {
                self.parameters += if matches!(node.source, Source::Parameter(_)) { elements } else { 0 };
                continue;
            };
            levels[position] = 1 + inputs.iter().map(|input| levels[input.index()]).max().unwrap_or(0);
            *widths.entry(levels[position]).or_default() += 1;
            self.calls += 1;
            *self.operators.entry(operator.name().to_owned()).or_default() += 1;
            let group = operator.documentation().group;
            self.choices += u32::from(group == Group::Choice);
            *self.written.of_group(group) += elements;
        }
        self.depth = self.depth.max(levels.iter().copied().max().unwrap_or(0) as u32);
        // The graphs of one kernel are for different seeds, which run at once.
        self.width += widths.into_values().max().unwrap_or(0);
    }
}

impl Written {
    fn of_group(&mut self, group: Group) -> &mut u64 {
        match group {
            Group::Reduction | Group::Normalisation | Group::Internal => &mut self.reduced,
            Group::Contraction => &mut self.contracted,
            Group::Movement => &mut self.moved,
            Group::Source | Group::Arithmetic | Group::Function | Group::Choice => &mut self.mapped,
        }
    }

    fn counts(&self) -> [u64; 4] {
        [self.mapped, self.reduced, self.contracted, self.moved]
    }
}

fn operands(graph: &Graph, position: usize) -> &[ValueId] {
    match &graph.nodes[position].source {
        Source::Operator { inputs, .. } => inputs,
        _ => &[],
    }
}

fn calls(one: &Features, other: &Features) -> f64 {
    ratio(one.calls.into(), other.calls.into(), FAR)
}

fn depth(one: &Features, other: &Features) -> f64 {
    ratio(one.depth.into(), other.depth.into(), FAR)
}

fn control_flow(one: &Features, other: &Features) -> f64 {
    ratio(one.choices.into(), other.choices.into(), FAR)
}

fn parallelism(one: &Features, other: &Features) -> f64 {
    ratio(one.width.into(), other.width.into(), FAR)
}

fn operators(one: &Features, other: &Features) -> f64 {
    // In one order, whichever comes first, so that rounding is the same both ways.
    let names: BTreeSet<&String> = one.operators.keys().chain(other.operators.keys()).collect();
    let count = |features: &Features, name: &str| features.operators.get(name).copied().unwrap_or(0).into();
    shares(names.iter().map(|name| (count(one, name), count(other, name))))
}

/// Half of it is how much is read and written, half what is done to it.
fn memory(one: &Features, other: &Features) -> f64 {
    let amount =
        |features: &Features| features.written.counts().into_iter().fold(features.parameters, u64::saturating_add);
    let pattern = shares(one.written.counts().into_iter().zip(other.written.counts()));
    0.5 * ratio(amount(one), amount(other), FAR_ELEMENTS) + 0.5 * pattern
}

/// How far the ratio of two counts is from 1, where 1 is a factor of `far` or more.
fn ratio(one: u64, other: u64, far: f64) -> f64 {
    let logarithm = |count: u64| (1.0 + count as f64).ln();
    ((logarithm(one) - logarithm(other)).abs() / far.ln()).min(1.0)
}

/// How much of the one whole would have to be exchanged to give the other: half of the sum over differences of shares. A whole
/// that is empty is as far as can be from any other.
fn shares(pairs: impl Iterator<Item = (u64, u64)> + Clone) -> f64 {
    let total = |of: fn((u64, u64)) -> u64| pairs.clone().map(|pair| of(pair) as f64).sum::<f64>();
    let (one, other) = (total(|pair| pair.0), total(|pair| pair.1));
    match (one > 0.0, other > 0.0) {
        (false, false) => 0.0,
        (true, true) => {
            let difference = |(a, b): (u64, u64)| (a as f64 / one - b as f64 / other).abs();
            (0.5 * pairs.map(difference).sum::<f64>()).min(1.0)
        }
        _ => 1.0,
    }
}
