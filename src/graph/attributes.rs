//! Attributes of an operator call: small typed constants that are part of the graph's identity.

use super::limits::Limits;
use crate::error::Result;
use crate::fail;
use crate::ops::KnownAttribute;
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

/// Attributes as the operator knows them: complete, of the right kind, bounded.
pub(super) fn complete(operator: &str, known: &'static [KnownAttribute], mut given: Attributes) -> Result<Attributes> {
    let mut complete = Attributes::new();
    for KnownAttribute { name, default, .. } in known {
        let value = match (given.remove(*name), default) {
            (Some(value), default) => checked(value, default.as_ref())
                .map_err(|error| error.context(format!("attribute `{name}` of `{operator}`")))?,
            (None, Some(default)) => default.clone(),
            (None, None) => fail!(InvalidBlueprint, "`{operator}` needs the attribute `{name}`"),
        };
        complete.insert(String::from(*name), value);
    }
    if let Some(name) = given.keys().next() {
        let known: Vec<_> = known.iter().map(|known| known.name).collect();
        let known = if known.is_empty() { "none".into() } else { known.join(", ") };
        fail!(InvalidBlueprint, "`{operator}` has no attribute `{name:.64}`; it has {known}");
    }
    Ok(complete)
}

/// One attribute, of the kind of its default and within what a shape rule can compute with.
fn checked(value: Attribute, default: Option<&Attribute>) -> Result<Attribute> {
    let value = match (value, default) {
        (Attribute::Integer(whole), Some(Attribute::Float(_))) => Attribute::Float(whole as f64),
        (value, _) => value,
    };
    let same_kind = |default: &&Attribute| std::mem::discriminant(*default) == std::mem::discriminant(&value);
    if let Some(default) = default.filter(|default| !same_kind(default)) {
        fail!(InvalidBlueprint, "it is {}, not {}", value.kind(), default.kind());
    }
    let limits = Limits::DEFAULT;
    match &value {
        Attribute::Bool(_) => {}
        Attribute::Integer(whole) => limits.check_integer(*whole)?,
        Attribute::Float(number) if number.is_finite() => {}
        Attribute::Float(number) => fail!(InvalidBlueprint, "{number} is not a finite number"),
        Attribute::Text(text) => limits.check_text(text)?,
        Attribute::Integers(numbers) => limits.check_integers(numbers)?,
    }
    Ok(value)
}
