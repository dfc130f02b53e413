//! Gives each dropout of a blueprint random numbers of its own.

use super::{Attribute, Graph, Source, ValueId};
use crate::error::Result;
use crate::fail;
use crate::ops::dropout::{NAME, STREAM, UNASSIGNED};

impl Graph {
    /// Numbers the dropouts in the order in which evaluating the output meets them: that does not depend on how the nodes
    /// are listed, so equal blueprints drop equal elements. Those that the output does not depend on come last.
    ///
    /// # Errors
    ///
    /// `InvalidBlueprint` if a node was written with another stream than the one it is given.
    pub(super) fn assign_streams(&mut self, output: ValueId) -> Result<()> {
        let mut order = self.evaluation_order(output);
        let met: std::collections::HashSet<_> = order.iter().copied().collect();
        let all = (0..self.nodes.len() as u32).map(ValueId);
        order.extend(all.filter(|value| !met.contains(value)));
        let mut next = 0;
        for value in order {
            let node = &mut self.nodes[value.index()];
            let Source::Operator { operator, attributes, .. } = &mut node.source else { continue };
            if operator.name() != NAME {
                continue;
            }
            let assigned = Attribute::Integer(next);
            match attributes.insert(STREAM.into(), assigned.clone()) {
                Some(given) if given != assigned && given != Attribute::Integer(UNASSIGNED) => fail!(
                    InvalidBlueprint,
                    "node `{}`: its `{STREAM}` is given out by the library, and would be {next}; leave it out",
                    node.name,
                ),
                _ => next += 1,
            }
        }
        Ok(())
    }
}
