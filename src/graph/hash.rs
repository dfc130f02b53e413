//! The identity of a blueprint: equal for graphs that differ only in names, order of nodes and dead nodes.
//!
//! The nodes are renumbered in the order in which evaluating the output, operands first and from left to right, meets
//! them. Since operands have an order, that numbering depends on nothing else. What is hashed of each node is its
//! operator, attributes, operands by their new number, type and shape. A parameter is known by its place in the slot
//! (its offset and shape): two blueprints with the same hash can read each other's slots.
//!
//! Left out: names, metadata, initializers, nodes the output does not depend on, and devices.

use super::{Attribute, Blueprint, Graph, Node, Source, ValueId};
use std::collections::HashMap;

impl Blueprint {
    /// The canonical hash: the identity of what the blueprint computes and of the layout of its slots.
    pub fn hash(&self) -> [u8; 32] {
        let mut hasher = Hasher(blake3::Hasher::new_derive_key("kasmina ir 1 canonical hash of a blueprint"));
        let order = self.graph.evaluation_order(self.output());
        let numbers: HashMap<_, _> = order.iter().enumerate().map(|(number, value)| (*value, number)).collect();
        hasher.number(order.len());
        for value in &order {
            self.hash_node(&mut hasher, self.graph.node(*value), &numbers);
        }
        *hasher.0.finalize().as_bytes()
    }

    fn hash_node(&self, hasher: &mut Hasher, node: &Node, numbers: &HashMap<ValueId, usize>) {
        match &node.source {
            Source::Row(input) => {
                hasher.tag(0);
                hasher.number(*input as usize);
            }
            Source::Parameter(position) => {
                hasher.tag(1);
                hasher.number(self.parameters[*position].offset);
            }
            Source::Scalar(scalar) => {
                hasher.tag(2);
                hasher.number(*scalar as usize);
            }
            Source::Operator { operator, inputs, attributes } => {
                hasher.tag(3);
                hasher.text(operator.name());
                hasher.number(inputs.len());
                inputs.iter().for_each(|input| hasher.number(numbers[input]));
                hasher.number(attributes.len());
                for (name, value) in attributes {
                    hasher.text(name);
                    hasher.attribute(value);
                }
            }
        }
        hasher.number(node.data_type as usize);
        hasher.number(node.shape.rank());
        node.shape.0.iter().for_each(|&size| hasher.number(size));
    }
}

impl Graph {
    /// The values that `output` depends on and itself, operands before what uses them, left before right: an order that
    /// does not depend on how the nodes are listed.
    pub fn evaluation_order(&self, output: ValueId) -> Vec<ValueId> {
        let operands = |value: ValueId| match &self.node(value).source {
            Source::Operator { inputs, .. } => inputs.as_slice(),
            _ => &[],
        };
        let mut order = Vec::new();
        let mut met = vec![false; self.nodes.len()];
        met[output.index()] = true;
        // Each entry: a value and how many of its operands were looked at.
        let mut path = vec![(output, 0)];
        while let Some((value, looked_at)) = path.last_mut() {
            match operands(*value).get(*looked_at) {
                Some(&operand) => {
                    *looked_at += 1;
                    if !std::mem::replace(&mut met[operand.index()], true) {
                        path.push((operand, 0));
                    }
                }
                None => {
                    order.push(*value);
                    path.pop();
                }
            }
        }
        order
    }
}

/// Writes every item so that no two sequences of items give the same bytes.
struct Hasher(blake3::Hasher);

impl Hasher {
    fn tag(&mut self, tag: u8) {
        self.0.update(&[tag]);
    }

    fn number(&mut self, number: usize) {
        self.0.update(&(number as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.number(text.len());
        self.0.update(text.as_bytes());
    }

    fn attribute(&mut self, value: &Attribute) {
        match value {
            Attribute::Bool(value) => {
                self.tag(0);
                self.tag(u8::from(*value));
            }
            // 1 and 1.0 are the same number, however they are written; whole numbers have 32 bits, so this is exact.
            Attribute::Integer(value) => self.attribute(&Attribute::Float(*value as f64)),
            Attribute::Float(value) => {
                self.tag(1);
                self.0.update(&value.to_bits().to_le_bytes());
            }
            Attribute::Text(value) => {
                self.tag(2);
                self.text(value);
            }
            Attribute::Integers(values) => {
                self.tag(3);
                self.number(values.len());
                values.iter().for_each(|value| {
                    self.0.update(&value.to_le_bytes());
                });
            }
        }
    }
}
