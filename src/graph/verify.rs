//! From a document to a blueprint: everything that must hold is checked here, once, and nowhere after.

use super::builder::ROW_SUM;
use super::control::check_extent;
use super::json::{Document, NodeEntry};
use super::limits::Limits;
use super::scope::{Frame, Scopes};
use super::{Attributes, Blueprint, Builder, DataType, Parameter, RowInput, Shape, Target, ValueId};
use crate::error::Result;
use crate::fail;
use crate::ops;

impl Document {
    /// The blueprint that is written down, if it is valid.
    pub(super) fn verify(self) -> Result<Blueprint> {
        let limits = Limits::DEFAULT;
        check_name(&self.name, true).map_err(|error| error.context("the name of the blueprint"))?;
        at_most(limits.nodes, self.nodes.len(), "nodes")?;
        at_most(limits.parameters, self.parameters.len(), "parameters")?;
        limits.check_shape(&Shape::new([self.chunk])).map_err(|error| error.context("the chunk"))?;

        check_extent(&self.nodes)?;

        let mut building = Building::new(self.chunk);
        let names = self.parameters.iter().map(|parameter| &parameter.name);
        let names = names.chain(self.nodes.iter().map(|node| &node.name));
        building.scopes.enter(Frame::Plain, String::new(), names)?;
        let mut parameters = Vec::with_capacity(self.parameters.len());
        let mut offset = 0;
        for (index, entry) in self.parameters.into_iter().enumerate() {
            let context = format!("parameter `{}`", entry.name);
            limits
                .check_shape(&entry.shape)
                .and_then(|()| entry.initializer.check(&entry.shape))
                .map_err(|error| error.context(&context))?;
            let value = building.values.builder.parameter(index, &entry.name, entry.shape.clone());
            building.values.count(value, &[]).map_err(|error| error.context(context))?;
            building.scopes.define(&entry.name, value);
            let elements = entry.shape.elements();
            parameters.push(Parameter { name: entry.name, shape: entry.shape, initializer: entry.initializer, offset });
            offset += elements;
        }
        building.nodes(&self.nodes)?;
        let output = building.output(&self.output)?;
        building.values.builder.output(output, Target::Row);
        let mut graph = building.values.builder.finish()?;
        graph.assign_streams(output)?;
        let blueprint = Blueprint { name: self.name, chunk: self.chunk, parameters, graph, metadata: self.metadata };
        check_parameters_used(&blueprint)?;
        Ok(blueprint)
    }
}

/// A graph under construction, and the names that are known.
pub(super) struct Building {
    pub(super) values: Values,
    pub(super) scopes: Scopes,
}

impl Building {
    fn new(chunk: usize) -> Self {
        let mut builder = Builder::new();
        builder.row(RowInput::X, chunk);
        let values = Values { builder, depths: vec![0], elements: chunk, nodes: 0 };
        Self { values, scopes: Scopes::new(ValueId(0)) }
    }

    /// Adds nodes to the innermost scope.
    pub(super) fn nodes(&mut self, entries: &[NodeEntry]) -> Result<()> {
        for entry in entries {
            let context = || format!("node `{}`", entry.name);
            let value = self.node(entry).map_err(|error| error.context(context()))?;
            self.scopes.define(&entry.name, value);
        }
        Ok(())
    }

    fn node(&mut self, entry: &NodeEntry) -> Result<ValueId> {
        check_name(&entry.op, false).map_err(|error| error.context("its op"))?;
        entry.check_notation()?;
        match entry {
            NodeEntry { then: Some(then), otherwise: Some(otherwise), .. } => {
                self.conditional(entry, [then, otherwise])
            }
            NodeEntry { count: Some(count), body: Some(body), .. } => self.unrolled(entry, *count, body),
            _ => self.call(entry),
        }
    }

    fn call(&mut self, entry: &NodeEntry) -> Result<ValueId> {
        if entry.op == ROW_SUM {
            fail!(InvalidBlueprint, "`{ROW_SUM}` is internal: a blueprint sees one row only");
        }
        if self.scopes.are_elementwise(&self.values) {
            check_elementwise(&entry.op)?;
        }
        let find = |input: &String| self.scopes.find(input, &mut self.values);
        let inputs = entry.inputs.iter().map(find).collect::<Result<Vec<_>>>()?;
        let name = self.scopes.flat_name(&entry.name);
        self.values.call(&entry.op, &inputs, entry.attributes.clone(), name)
    }

    /// The output: `[C]`, numbers, per row.
    fn output(&mut self, name: &str) -> Result<ValueId> {
        if !self.scopes.knows(name) {
            fail!(InvalidBlueprint, "the output is {}, but there is no value of this name", quoted(name));
        }
        let value = self.scopes.find(name, &mut self.values)?;
        let node = self.values.builder.node(value);
        let wanted = &self.values.builder.node(ValueId(0)).shape;
        if node.data_type != DataType::F32 {
            fail!(InvalidBlueprint, "the output `{name}` is {}; it must be numbers", node.data_type.name());
        }
        if node.shape != *wanted {
            fail!(InvalidBlueprint, "the output `{name}` has shape {}; it must have that of x, {wanted}", node.shape);
        }
        if !node.per_row {
            fail!(InvalidBlueprint, "the output `{name}` does not depend on x, so it is not a function of the chunk");
        }
        Ok(value)
    }
}

/// The values so far, counted against the limits.
pub(super) struct Values {
    pub(super) builder: Builder,
    depths: Vec<usize>,
    elements: usize,
    nodes: usize,
}

impl Values {
    /// Adds a call under a name of the flat graph.
    pub(super) fn call(
        &mut self,
        operator: &str,
        inputs: &[ValueId],
        attributes: Attributes,
        name: String,
    ) -> Result<ValueId> {
        let value = self.builder.call(operator, inputs, attributes)?;
        self.builder.named(value, name);
        self.nodes += 1;
        let limit = Limits::DEFAULT.nodes;
        if self.nodes > limit {
            fail!(BlueprintTooLarge, "with what its conditionals put in, the blueprint has more than {limit} nodes");
        }
        self.count(value, inputs)?;
        Ok(value)
    }

    fn count(&mut self, value: ValueId, inputs: &[ValueId]) -> Result<()> {
        let limits = Limits::DEFAULT;
        let depth = inputs.iter().map(|input| 1 + self.depths[input.index()]).max().unwrap_or(0);
        if depth > limits.depth {
            fail!(BlueprintTooLarge, "it is call {depth} of a chain; at most {} are allowed", limits.depth);
        }
        self.depths.push(depth);
        self.elements += self.builder.node(value).shape.elements();
        if self.elements > limits.total_elements {
            fail!(BlueprintTooLarge, "with it the values have more than {} elements together", limits.total_elements);
        }
        Ok(())
    }
}

/// In a branch whose condition is a truth value for each element, nothing may mix elements: there would be no saying
/// which branch a gradient belongs to.
fn check_elementwise(operator: &str) -> Result<()> {
    match ops::lookup(operator) {
        Some(operator) if !operator.is_elementwise() => fail!(
            InvalidBlueprint,
            "`{}` mixes elements, but the condition of its branch differs from element to element; let it be one truth \
             value, or compute this outside",
            operator.name(),
        ),
        _ => Ok(()),
    }
}

/// Every parameter must have a part in the output: one without would only waste every slot.
fn check_parameters_used(blueprint: &Blueprint) -> Result<()> {
    let used = blueprint.graph.evaluation_order(blueprint.output());
    for (position, parameter) in blueprint.parameters.iter().enumerate() {
        if !used.contains(&blueprint.parameter(position)) {
            fail!(InvalidBlueprint, "the output does not depend on the parameter `{}`; remove it", parameter.name);
        }
    }
    Ok(())
}

fn at_most(limit: usize, count: usize, what: &str) -> Result<()> {
    if count > limit {
        fail!(BlueprintTooLarge, "the blueprint has {count} {what}; at most {limit} are allowed");
    }
    Ok(())
}

/// Names are identifiers, so that they are safe wherever they are printed. That of a blueprint may have `-` and `.`.
pub(super) fn check_name(name: &str, of_blueprint: bool) -> Result<()> {
    let letters = Limits::DEFAULT.letters;
    let inner = |byte: u8| byte == b'_' || byte.is_ascii_alphanumeric() || (of_blueprint && b"-.".contains(&byte));
    let starts_well = name.bytes().next().is_some_and(|byte| byte == b'_' || byte.is_ascii_alphabetic());
    if !starts_well || !name.bytes().all(inner) || name.len() > letters {
        let more = if of_blueprint { ", `-`, `.`" } else { "" };
        fail!(
            InvalidBlueprint,
            "{} is not a name: 1 to {letters} letters, digits, `_`{more}, not beginning with a digit",
            quoted(name),
        );
    }
    Ok(())
}

/// Untrusted text in a message: short and escaped.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(Limits::DEFAULT.letters).collect();
    format!("{short:?}{}", if short.len() < text.len() { "..." } else { "" })
}
