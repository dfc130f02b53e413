//! Lowers graphs to programs.

use super::{Program, ValueId};
use crate::graph::{Attributes, Shape};

/// A value as its reader sees it: where its elements lie, for an index over `shape`.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    /// What is read.
    pub value: ValueId,
    /// The first element.
    pub offset: usize,
    /// Elements to move per index, one for each axis of `shape`; 0 repeats.
    pub strides: Vec<usize>,
    /// The shape the graph gave the value.
    pub shape: Shape,
}

/// A call as an operator's lowering sees it.
#[derive(Debug)]
pub struct Lowered<'a> {
    /// The inputs.
    pub inputs: &'a [View],
    /// The shape of the result.
    pub shape: &'a Shape,
    /// The attributes.
    pub attributes: &'a Attributes,
}

/// A program under construction.
#[derive(Debug)]
pub struct Lowering {
    program: Program,
}
