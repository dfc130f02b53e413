//! A blueprint: a verified graph `[C] -> [C]` with its parameters and where they lie in a slot.

use super::initializer::Random;
use super::{Graph, Initializer, Metadata, Shape, Source, ValueId};

/// A trainable parameter of a blueprint.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name; not part of the hash.
    pub name: String,
    /// Its shape.
    pub shape: Shape,
    /// What it starts as.
    pub initializer: Initializer,
    /// Where it begins in a slot of the bank, in elements.
    pub offset: usize,
}

/// A function of one row's chunk, `[C] -> [C]`, with parameters of its own. Always valid.
///
/// Node 0 of the graph is `x`, the nodes after it are the parameters in order, and the only output is f(x).
#[derive(Clone, Debug)]
pub struct Blueprint {
    /// What people call it; not part of the hash.
    pub name: String,
    /// Channels of the chunk.
    pub chunk: usize,
    /// The parameters, in the order in which they lie in a slot, without gaps.
    pub parameters: Vec<Parameter>,
    /// The verified graph.
    pub graph: Graph,
    /// What the author keeps with it; not part of the hash.
    pub metadata: Metadata,
}

impl Blueprint {
    /// The value of x.
    pub fn x(&self) -> ValueId {
        ValueId(0)
    }

    /// The value of the parameter at a position.
    pub fn parameter(&self, position: usize) -> ValueId {
        ValueId(1 + position as u32)
    }

    /// The value of f(x): `[C]`, per row.
    pub fn output(&self) -> ValueId {
        self.graph.outputs[0].value
    }

    /// Whether it draws at random.
    pub fn draws(&self) -> bool {
        self.graph.nodes.iter().any(|node| match &node.source {
            Source::Operator { operator, .. } => operator.name() == "dropout",
            _ => false,
        })
    }

    /// Elements of a slot.
    pub fn parameter_count(&self) -> usize {
        self.parameters.last().map_or(0, |last| last.offset + last.shape.elements())
    }

    /// Whether all fresh slots are equal, whatever their random seeds.
    pub fn starts_alike(&self) -> bool {
        !self.parameters.iter().any(|parameter| parameter.initializer.draws())
    }

    /// The elements of one fresh slot. Equal seeds give equal slots on every platform.
    pub fn initialize(&self, random_seed: u64) -> Vec<f64> {
        let mut elements = Vec::with_capacity(self.parameter_count());
        for (position, parameter) in self.parameters.iter().enumerate() {
            let mut random = Random::new(random_seed, position);
            elements.extend(parameter.initializer.elements(&parameter.shape, &mut random));
        }
        elements
    }
}
