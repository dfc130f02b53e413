//! Reading attributes in shape rules, gradients and lowerings.
//!
//! Shape rules refuse what they cannot read; after them the same reading cannot fail, which [`known`] stands for.

use crate::graph::{Attribute, Attributes, Shape};

/// A number.
pub(super) fn float(attributes: &Attributes, name: &str) -> Result<f64, String> {
    match attributes.get(name) {
        Some(Attribute::Float(number)) => Ok(*number),
        Some(Attribute::Integer(number)) => Ok(*number as f64),
        other => Err(wrong(name, "a number", other)),
    }
}

/// A whole number.
pub(super) fn integer(attributes: &Attributes, name: &str) -> Result<i64, String> {
    match attributes.get(name) {
        Some(Attribute::Integer(number)) => Ok(*number),
        other => Err(wrong(name, "a whole number", other)),
    }
}

/// A count of at least `least` and at most `most`.
pub(super) fn count(attributes: &Attributes, name: &str, least: usize, most: usize) -> Result<usize, String> {
    let number = integer(attributes, name)?;
    match usize::try_from(number) {
        Ok(count) if (least..=most).contains(&count) => Ok(count),
        _ => Err(format!("`{name}` is {number}; it must be {least} to {most}")),
    }
}

/// A truth value.
pub(super) fn truth(attributes: &Attributes, name: &str) -> Result<bool, String> {
    match attributes.get(name) {
        Some(Attribute::Bool(truth)) => Ok(*truth),
        other => Err(wrong(name, "true or false", other)),
    }
}

/// A word or a short text.
pub(super) fn text<'a>(attributes: &'a Attributes, name: &str) -> Result<&'a str, String> {
    match attributes.get(name) {
        Some(Attribute::Text(text)) => Ok(text),
        other => Err(wrong(name, "a text", other)),
    }
}

/// A shape, every dimension spelled out.
pub(super) fn shape(attributes: &Attributes, name: &str) -> Result<Shape, String> {
    let sizes = integers(attributes, name)?;
    match sizes.iter().map(|&size| usize::try_from(size).ok().filter(|&size| size > 0)).collect() {
        Some(sizes) => Ok(Shape(sizes)),
        None => Err(format!("`{name}` is {sizes:?}; every size must be at least 1")),
    }
}

/// One axis of a value of this rank; negative ones count from the end.
pub(super) fn axis(attributes: &Attributes, name: &str, rank: usize) -> Result<usize, String> {
    match attributes.get(name) {
        Some(Attribute::Integer(axis)) => resolve(*axis, name, rank),
        other => Err(wrong(name, "a whole number", other)),
    }
}

/// What the page about operators says of an attribute that names one axis.
pub(super) const AXIS: &str = "the axis; a negative one counts from the end";

/// Distinct axes of a value of this rank, in the order given; negative ones count from the end.
pub(super) fn axes(attributes: &Attributes, name: &str, rank: usize) -> Result<Vec<usize>, String> {
    let given = integers(attributes, name)?;
    let axes = given.iter().map(|&axis| resolve(axis, name, rank)).collect::<Result<Vec<_>, _>>()?;
    match (1..axes.len()).find(|&later| axes[..later].contains(&axes[later])) {
        Some(twice) => Err(format!("`{name}` is {given:?}; axis {} stands there twice", axes[twice])),
        None => Ok(axes),
    }
}

/// Writes an axis counted from the front.
pub(super) fn settle_axis(attributes: &mut Attributes, name: &str, rank: usize) {
    let axis = known(axis(attributes, name, rank));
    attributes.insert(name.into(), Attribute::Integer(axis as i64));
}

/// Writes axes counted from the front, in this order.
pub(super) fn settle_axes(attributes: &mut Attributes, name: &str, axes: &[usize]) {
    let axes = axes.iter().map(|&axis| axis as i64).collect();
    attributes.insert(name.into(), Attribute::Integers(axes));
}

/// What a shape rule has read before and found right.
pub(super) fn known<T: Default>(read: Result<T, String>) -> T {
    debug_assert!(read.is_ok(), "a shape rule let an attribute pass that cannot be read");
    read.unwrap_or_default()
}

fn integers<'a>(attributes: &'a Attributes, name: &str) -> Result<&'a [i64], String> {
    match attributes.get(name) {
        Some(Attribute::Integers(numbers)) => Ok(numbers),
        other => Err(wrong(name, "a list of whole numbers", other)),
    }
}

fn resolve(axis: i64, name: &str, rank: usize) -> Result<usize, String> {
    let size = rank as i64;
    let resolved = if axis < 0 { axis + size } else { axis };
    match usize::try_from(resolved) {
        Ok(resolved) if resolved < rank => Ok(resolved),
        _ => Err(format!("`{name}` names axis {axis} of a value with {rank} dimensions")),
    }
}

fn wrong(name: &str, wanted: &str, found: Option<&Attribute>) -> String {
    match found {
        Some(found) => format!("`{name}` is {}, not {wanted}", found.kind()),
        None => format!("`{name}` is missing"),
    }
}
