//! Tests of graphs: what they compute (by an evaluator of their own, in f64), how they are read, and who they are.

mod blueprints;
mod builder;
mod evaluator;
mod gradients;
mod identity;
mod library;
mod random;
