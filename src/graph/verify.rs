//! From a document to a blueprint: everything that must hold is checked here, once, and nowhere after.

use super::builder::ROW_SUM;
use super::json::{Document, NodeEntry};
use super::limits::Limits;
use super::{Blueprint, Builder, DataType, Parameter, RowInput, Shape, Target, ValueId};
use crate::error::Result;
use crate::fail;
use std::collections::HashMap;

/// The name of the chunk that a blueprint is a function of.
const X: &str = "x";

impl Document {
    /// The blueprint that is written down, if it is valid.
    pub(super) fn verify(self) -> Result<Blueprint> {
        let limits = Limits::DEFAULT;
        check_name(&self.name, true).map_err(|error| error.context("the name of the blueprint"))?;
        at_most(limits.nodes, self.nodes.len(), "nodes")?;
        at_most(limits.parameters, self.parameters.len(), "parameters")?;
        limits.check_shape(&Shape::new([self.chunk])).map_err(|error| error.context("the chunk"))?;

        let names = positions(&self)?;
        let mut building = Building::new(self.chunk);
        let mut parameters = Vec::with_capacity(self.parameters.len());
        let mut offset = 0;
        for (index, entry) in self.parameters.into_iter().enumerate() {
            let context = format!("parameter `{}`", entry.name);
            limits
                .check_shape(&entry.shape)
                .and_then(|()| entry.initializer.check(&entry.shape))
                .map_err(|error| error.context(&context))?;
            let value = building.builder.parameter(index, &entry.name, entry.shape.clone());
            building.count(value, &[]).map_err(|error| error.context(context))?;
            let elements = entry.shape.elements();
            parameters.push(Parameter { name: entry.name, shape: entry.shape, initializer: entry.initializer, offset });
            offset += elements;
        }
        for node in self.nodes {
            let context = format!("node `{}`", node.name);
            building.node(node, &names).map_err(|error| error.context(context))?;
        }
        let output = building.output(&self.output, &names)?;
        building.builder.output(output, Target::Row);
        let graph = building.builder.finish()?;
        let blueprint = Blueprint { name: self.name, chunk: self.chunk, parameters, graph, metadata: self.metadata };
        check_parameters_used(&blueprint)?;
        Ok(blueprint)
    }
}

/// Where each name stands: `x`, then the parameters, then the nodes.
fn positions(document: &Document) -> Result<HashMap<String, ValueId>> {
    let parameters = document.parameters.iter().map(|parameter| &parameter.name);
    let nodes = document.nodes.iter().map(|node| &node.name);
    let mut positions = HashMap::from([(String::from(X), ValueId(0))]);
    for (position, name) in parameters.chain(nodes).enumerate() {
        check_name(name, false)?;
        if name == X {
            fail!(InvalidBlueprint, "`x` names the chunk, so no parameter and no node can have this name");
        }
        if positions.insert(name.clone(), ValueId(1 + position as u32)).is_some() {
            fail!(InvalidBlueprint, "two values have the name `{name}`");
        }
    }
    Ok(positions)
}

/// A graph under construction, with what is counted along the way.
struct Building {
    builder: Builder,
    depths: Vec<usize>,
    elements: usize,
}

impl Building {
    fn new(chunk: usize) -> Self {
        let mut builder = Builder::new();
        builder.row(RowInput::X, chunk);
        Self { builder, depths: vec![0], elements: chunk }
    }

    fn node(&mut self, entry: NodeEntry, names: &HashMap<String, ValueId>) -> Result<()> {
        if entry.op == ROW_SUM {
            fail!(InvalidBlueprint, "`{ROW_SUM}` is internal: a blueprint sees one row only");
        }
        check_name(&entry.op, false).map_err(|error| error.context("its op"))?;
        let inputs = entry.inputs.iter().map(|input| self.value(input, names)).collect::<Result<Vec<_>>>()?;
        let value = self.builder.call(&entry.op, &inputs, entry.attributes)?;
        self.builder.named(value, entry.name);
        self.count(value, &inputs)
    }

    /// The value of this name, if it is defined by now.
    fn value(&self, name: &str, names: &HashMap<String, ValueId>) -> Result<ValueId> {
        match names.get(name) {
            Some(value) if value.index() < self.depths.len() => Ok(*value),
            Some(_) => fail!(InvalidBlueprint, "it uses `{name}`, which is defined later; nodes must stand in order"),
            None => fail!(InvalidBlueprint, "it uses {}, but there is no value of this name", quoted(name)),
        }
    }

    /// Counts a new value against the limits.
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

    /// The output: `[C]`, numbers, per row.
    fn output(&self, name: &str, names: &HashMap<String, ValueId>) -> Result<ValueId> {
        let Some(&value) = names.get(name) else {
            fail!(InvalidBlueprint, "the output is {}, but there is no value of this name", quoted(name));
        };
        let node = self.builder.node(value);
        let wanted = &self.builder.node(ValueId(0)).shape;
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
fn check_name(name: &str, of_blueprint: bool) -> Result<()> {
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
fn quoted(text: &str) -> String {
    let short: String = text.chars().take(Limits::DEFAULT.letters).collect();
    format!("{short:?}{}", if short.len() < text.len() { "..." } else { "" })
}
