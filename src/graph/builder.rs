//! Builds graphs node by node, checking and inferring as it goes.

use super::Graph;

/// A graph under construction.
#[derive(Debug, Default)]
pub struct Builder {
    graph: Graph,
}
