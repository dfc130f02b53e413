//! Attributes of an operator call: small typed constants that are part of the graph's identity.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The value of one attribute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Attribute {
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Integer(i64),
    /// A number.
    Float(f64),
    /// One of a few words, such as the kind of an approximation.
    Text(std::borrow::Cow<'static, str>),
    /// Whole numbers, such as axes or a shape.
    Integers(std::borrow::Cow<'static, [i64]>),
}

/// The attributes of one call, by name.
pub type Attributes = BTreeMap<String, Attribute>;

impl Attribute {
    /// What messages call an attribute of this kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Attribute::Bool(_) => "true or false",
            Attribute::Integer(_) => "a whole number",
            Attribute::Float(_) => "a number",
            Attribute::Text(_) => "a text",
            Attribute::Integers(_) => "a list of whole numbers",
        }
    }
}
