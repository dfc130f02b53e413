//! The blueprints that come with the library.

use super::{Attributes, Blueprint};
use crate::error::Result;
use crate::fail;

/// The names [`library`] knows.
pub const LIBRARY: &[&str] = &[];

/// A library blueprint for a chunk of this many channels.
pub fn library(name: &str, _chunk: usize, _attributes: &Attributes) -> Result<Blueprint> {
    fail!(Unsupported, "the library blueprint `{name}` is not there yet")
}
