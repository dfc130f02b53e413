//! Control flow as notation: a loop is its body over and over, a conditional is both branches and a choice. What comes
//! out is a graph without either, so nothing behind this file knows of them.

use super::json::{Body, Branch, NodeEntry};
use super::limits::Limits;
use super::scope::Frame;
use super::verify::{Building, quoted};
use super::{Attribute, Attributes, DataType, ValueId};
use crate::error::Result;
use crate::fail;

/// The notation of a choice between two branches.
pub(super) const CONDITIONAL: &str = "conditional";
/// The notation of a repeated body.
pub(super) const LOOP: &str = "loop";

impl NodeEntry {
    /// Whether it is notation for several nodes.
    pub(super) fn is_control(&self) -> bool {
        self.op == CONDITIONAL || self.op == LOOP
    }

    /// Refuses parts of a notation that it is not.
    pub(super) fn check_notation(&self) -> Result<()> {
        let parts = [
            ("then", self.then.is_some(), CONDITIONAL),
            ("else", self.otherwise.is_some(), CONDITIONAL),
            ("count", self.count.is_some(), LOOP),
            ("body", self.body.is_some(), LOOP),
        ];
        for (part, given, owner) in parts {
            match (given, self.op == owner) {
                (true, false) => fail!(InvalidBlueprint, "it has `{part}`, which only a `{owner}` has"),
                (false, true) => fail!(InvalidBlueprint, "a `{owner}` needs `{part}`"),
                _ => {}
            }
        }
        if self.is_control() && self.inputs.len() != 1 {
            fail!(InvalidBlueprint, "a `{}` takes 1 input, not {}", self.op, self.inputs.len());
        }
        if let Some(name) = self.attributes.keys().next().filter(|_| self.is_control()) {
            fail!(InvalidBlueprint, "a `{}` has no attributes, so no `{name:.64}`", self.op);
        }
        Ok(())
    }

    /// How many nodes it stands for, not counting what conditionals put in, and how deep notations lie in each other.
    fn extent(&self) -> (usize, usize) {
        let (nodes, nesting) = match self {
            Self { op, body: Some(body), count, .. } if op == LOOP => {
                let (nodes, nesting) = extent(&body.nodes);
                // Turns of an empty body take time as well.
                let turns = usize::try_from(count.unwrap_or(1)).unwrap_or(0);
                (nodes.max(1).saturating_mul(turns), nesting)
            }
            Self { op, then: Some(then), otherwise: Some(otherwise), .. } if op == CONDITIONAL => {
                let (a, b) = (extent(&then.nodes), extent(&otherwise.nodes));
                (a.0.saturating_add(b.0).saturating_add(1), a.1.max(b.1))
            }
            _ => return (1, 0),
        };
        (nodes, nesting + 1)
    }
}

fn extent(nodes: &[NodeEntry]) -> (usize, usize) {
    let extents = nodes.iter().map(NodeEntry::extent);
    extents.fold((0, 0), |all, one| (all.0.saturating_add(one.0), all.1.max(one.1)))
}

/// Refuses what would become too large, before any of it is built.
pub(super) fn check_extent(nodes: &[NodeEntry]) -> Result<()> {
    let limits = Limits::DEFAULT;
    for node in nodes.iter().filter(|node| node.is_control()) {
        let (count, nesting) = node.extent();
        if nesting > limits.nesting {
            fail!(
                BlueprintTooLarge,
                "node {}: its loops and conditionals lie {nesting} deep in each other; at most {} are allowed",
                quoted(&node.name),
                limits.nesting,
            );
        }
        if count > limits.nodes {
            fail!(
                BlueprintTooLarge,
                "node {}: it stands for {count} nodes with its loops unrolled; at most {} are allowed",
                quoted(&node.name),
                limits.nodes,
            );
        }
    }
    let (count, _) = extent(nodes);
    if count > limits.nodes {
        fail!(
            BlueprintTooLarge,
            "the blueprint has {count} nodes with its loops unrolled; at most {} are allowed",
            limits.nodes,
        );
    }
    Ok(())
}

impl Building {
    /// Both branches, and a `where` between what they give.
    pub(super) fn conditional(&mut self, entry: &NodeEntry, branches: [&Branch; 2]) -> Result<ValueId> {
        let name = &entry.name;
        let mut condition = self.scopes.find(&entry.inputs[0], &mut self.values)?;
        let node = self.values.builder.node(condition);
        if node.data_type != DataType::Bool {
            fail!(InvalidBlueprint, "its condition is {}; compare to get a truth value", node.data_type.name());
        }
        if node.shape.elements() == 1 && node.shape.rank() > 0 {
            let shape = Attributes::from([(String::from("shape"), Attribute::Integers([].as_slice().into()))]);
            let flat = self.scopes.flat_name(&format!("{name}_condition"));
            condition = self.values.call("reshape", &[condition], shape, flat)?;
        }
        let [then, otherwise] = branches;
        let a = self.branch(entry, condition, true, then)?;
        let b = self.branch(entry, condition, false, otherwise)?;
        let flat = self.scopes.flat_name(name);
        self.values.call("where", &[condition, a, b], Attributes::new(), flat)
    }

    fn branch(&mut self, entry: &NodeEntry, condition: ValueId, when: bool, branch: &Branch) -> Result<ValueId> {
        let word = if when { "then" } else { "else" };
        let prefix = format!("{}_{word}_", entry.name);
        let names = branch.nodes.iter().map(|node| &node.name);
        self.scopes.enter(Frame::Branch { condition, when }, prefix, names)?;
        let value = self.nodes(&branch.nodes).and_then(|()| self.scopes.find(&branch.output, &mut self.values));
        self.scopes.leave();
        value.map_err(|error| error.context(format!("its `{word}`")))
    }

    /// The body `count` times, each time on what it gave before.
    pub(super) fn unrolled(&mut self, entry: &NodeEntry, count: i64, body: &Body) -> Result<ValueId> {
        if count < 1 {
            fail!(InvalidBlueprint, "its `count` is {count}; it must be at least 1");
        }
        let mut value = self.scopes.find(&entry.inputs[0], &mut self.values)?;
        for turn in 0..count {
            let names = body.nodes.iter().map(|node| &node.name).chain([&body.input]);
            self.scopes.enter(Frame::Plain, format!("{}_{turn}_", entry.name), names)?;
            self.scopes.define(&body.input, value);
            let next = self.nodes(&body.nodes).and_then(|()| self.scopes.find(&body.output, &mut self.values));
            self.scopes.leave();
            let next = next.map_err(|error| error.context("its `body`"))?;
            let (from, to) = (self.values.builder.node(value), self.values.builder.node(next));
            if (from.data_type, &from.shape) != (to.data_type, &to.shape) {
                fail!(
                    InvalidBlueprint,
                    "its `body` takes {} {} and gives {} {}; both must be alike",
                    from.data_type.name(),
                    from.shape,
                    to.data_type.name(),
                    to.shape,
                );
            }
            value = next;
        }
        Ok(value)
    }
}
