//! Blueprints as JSON text. This is only the notation; what it means and whether it is valid is the business of
//! [`super::verify`].

use super::limits::Limits;
use super::{Attributes, Blueprint, Graph, Initializer, Shape, Source, ValueId};
use crate::error::Result;
use crate::{error, fail};
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use std::fmt;

/// The version of the notation that this library reads and writes.
pub const IR_VERSION: u64 = 1;

/// A blueprint as it is written down: values are known by name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    pub(super) ir_version: u64,
    pub(super) name: String,
    pub(super) chunk: usize,
    #[serde(default)]
    pub(super) parameters: Vec<ParameterEntry>,
    pub(super) nodes: Vec<NodeEntry>,
    pub(super) output: String,
    #[serde(default, skip_serializing_if = "Metadata::is_empty")]
    pub(super) metadata: Metadata,
}

/// Anything the author wants to keep with a blueprint. It is carried along and means nothing.
pub type Metadata = serde_json::Map<String, serde_json::Value>;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ParameterEntry {
    pub(super) name: String,
    pub(super) shape: Shape,
    #[serde(default)]
    pub(super) initializer: Initializer,
}

/// A call of an operator, or notation for several: see [`super::control`].
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NodeEntry {
    pub(super) name: String,
    pub(super) op: String,
    #[serde(default)]
    pub(super) inputs: Vec<String>,
    #[serde(default, skip_serializing_if = "Attributes::is_empty", deserialize_with = "each_once")]
    pub(super) attributes: Attributes,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) then: Option<Branch>,
    #[serde(default, skip_serializing_if = "Option::is_none", rename = "else")]
    pub(super) otherwise: Option<Branch>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) body: Option<Body>,
}

/// What a conditional does in one of its two cases.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Branch {
    #[serde(default)]
    pub(super) nodes: Vec<NodeEntry>,
    pub(super) output: String,
}

/// What a loop does each time.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body {
    /// What the value of the time before is called, or at first the input.
    pub(super) input: String,
    #[serde(default)]
    pub(super) nodes: Vec<NodeEntry>,
    pub(super) output: String,
}

/// Attributes of which none stands there twice: readers of JSON do not agree on which of the two counts.
fn each_once<'de, D: Deserializer<'de>>(from: D) -> Result<Attributes, D::Error> {
    struct EachOnce;

    impl<'de> Visitor<'de> for EachOnce {
        type Value = Attributes;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object of attributes")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Attributes, A::Error> {
            let mut attributes = Attributes::new();
            while let Some((name, value)) = map.next_entry::<String, _>()? {
                if attributes.insert(name.clone(), value).is_some() {
                    return Err(A::Error::custom(format!("the attribute `{name:.64}` stands there twice")));
                }
            }
            Ok(attributes)
        }
    }

    from.deserialize_map(EachOnce)
}

impl Document {
    /// Reads the notation, and refuses a newer one before it stumbles over what is new in it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Version {
            ir_version: u64,
        }

        let limit = Limits::DEFAULT.bytes;
        if bytes.len() > limit {
            fail!(BlueprintTooLarge, "the blueprint has {} bytes; at most {limit} are allowed", bytes.len());
        }
        let malformed = |cause| error!(MalformedBlueprint, "the bytes are not a blueprint in JSON").caused_by(cause);
        let Version { ir_version } = serde_json::from_slice(bytes).map_err(malformed)?;
        if ir_version > IR_VERSION {
            fail!(Unsupported, "the blueprint has ir_version {ir_version}; this library reads up to {IR_VERSION}");
        }
        if ir_version == 0 {
            fail!(MalformedBlueprint, "the blueprint has ir_version 0; the first version is 1");
        }
        serde_json::from_slice(bytes).map_err(malformed)
    }
}

impl Blueprint {
    /// Reads a blueprint from JSON, as `docs/blueprints.md` describes it. Any bytes give a valid blueprint or an error
    /// that names the node and the reason.
    ///
    /// # Errors
    ///
    /// - [`MalformedBlueprint`](crate::Status::MalformedBlueprint): the bytes are not JSON of this form;
    /// - [`InvalidBlueprint`](crate::Status::InvalidBlueprint): the graph is not valid;
    /// - [`BlueprintTooLarge`](crate::Status::BlueprintTooLarge): it is over the [`Limits`];
    /// - [`Unsupported`](crate::Status::Unsupported): its `ir_version` is newer than this library.
    pub fn from_json(bytes: &[u8]) -> Result<Self> {
        Document::read(bytes)?.verify()
    }

    /// Writes the blueprint as JSON, attributes in full, loops unrolled and conditionals spelled out; [`Blueprint::from_json`] gives the same blueprint back.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string_pretty(&self.document()).map_err(|cause| {
            error!(InvalidArgument, "the blueprint `{}` cannot be written", self.name).caused_by(cause)
        })
    }

    fn document(&self) -> Document {
        let parameters = self.parameters.iter().map(|parameter| ParameterEntry {
            name: parameter.name.clone(),
            shape: parameter.shape.clone(),
            initializer: parameter.initializer.clone(),
        });
        Document {
            ir_version: IR_VERSION,
            name: self.name.clone(),
            chunk: self.chunk,
            parameters: parameters.collect(),
            nodes: entries(&self.graph),
            output: self.graph.node(self.output()).name.clone(),
            metadata: self.metadata.clone(),
        }
    }
}

fn entries(graph: &Graph) -> Vec<NodeEntry> {
    let name = |value: &ValueId| graph.node(*value).name.clone();
    graph
        .nodes
        .iter()
        .filter_map(|node| match &node.source {
            Source::Operator { operator, inputs, attributes } => Some(NodeEntry {
                name: node.name.clone(),
                op: operator.name().into(),
                inputs: inputs.iter().map(name).collect(),
                attributes: attributes.clone(),
                ..NodeEntry::default()
            }),
            _ => None,
        })
        .collect()
}
