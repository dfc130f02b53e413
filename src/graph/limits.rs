//! How large a blueprint may be: what keeps untrusted bytes from costing more than they are worth.

use super::Shape;
use crate::error::Result;
use crate::fail;

/// The bounds of everything in a blueprint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the JSON text.
    pub bytes: usize,
    /// Nodes, not counting `x` and the parameters; loops unrolled.
    pub nodes: usize,
    /// Parameters.
    pub parameters: usize,
    /// Loops and conditionals that lie in each other.
    pub nesting: usize,
    /// Calls on the longest way from an input to the output.
    pub depth: usize,
    /// Dimensions of a value.
    pub rank: usize,
    /// Elements of one value.
    pub elements: usize,
    /// Elements of all values together, parameters included.
    pub total_elements: usize,
    /// Letters of a name or of a text attribute.
    pub letters: usize,
}

impl Limits {
    /// The limits of this version.
    pub const DEFAULT: Limits = Limits {
        bytes: 1 << 24,
        nodes: 1024,
        parameters: 256,
        nesting: 8,
        depth: 256,
        rank: 6,
        elements: 1 << 22,
        total_elements: 1 << 24,
        letters: 64,
    };

    /// Refuses a shape that is empty, of too many dimensions or of too many elements.
    pub fn check_shape(&self, shape: &Shape) -> Result<()> {
        let rank = shape.rank();
        if rank > self.rank {
            fail!(BlueprintTooLarge, "it has {rank} dimensions; at most {} are allowed", self.rank);
        }
        if shape.0.contains(&0) {
            fail!(InvalidBlueprint, "its shape {shape} has no elements; every dimension must be at least 1");
        }
        let elements = shape.0.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        if elements.is_none_or(|elements| elements > self.elements) {
            fail!(BlueprintTooLarge, "its shape {shape} has more than {} elements", self.elements);
        }
        Ok(())
    }

    /// Refuses a whole number that a shape rule could not compute with.
    pub(super) fn check_integer(&self, number: i64) -> Result<()> {
        if i32::try_from(number).is_err() {
            fail!(BlueprintTooLarge, "{number} is too large; whole numbers have 32 bits");
        }
        Ok(())
    }

    /// Refuses whole numbers that a shape rule could not multiply without overflow.
    pub(super) fn check_integers(&self, numbers: &[i64]) -> Result<()> {
        if numbers.len() > self.rank {
            fail!(BlueprintTooLarge, "it has {} numbers; at most {} are allowed", numbers.len(), self.rank);
        }
        let product =
            numbers.iter().try_fold(1u64, |product, number| product.checked_mul(number.unsigned_abs().max(1)));
        if product.is_none_or(|product| product > self.elements as u64) {
            fail!(BlueprintTooLarge, "{numbers:?} is more than {} elements", self.elements);
        }
        Ok(())
    }

    /// Refuses a long text or one with letters outside printable ASCII.
    pub(super) fn check_text(&self, text: &str) -> Result<()> {
        if text.len() > self.letters {
            fail!(BlueprintTooLarge, "the text has {} letters; at most {} are allowed", text.len(), self.letters);
        }
        if !text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            fail!(InvalidBlueprint, "the text {text:?} has letters outside printable ASCII");
        }
        Ok(())
    }
}
