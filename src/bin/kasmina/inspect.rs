//! `kasmina inspect`: what is in a blueprint, as text or as a drawing.

use crate::drawing::Drawing;
use crate::ops::attribute;
use crate::table::Table;
use crate::{output, source};
use kasmina::Result;
use kasmina::compile::operations;
use kasmina::graph::{Attributes, Blueprint, Initializer, Limits, Node, Source, ValueId};
use serde_json::json;
use std::path::PathBuf;

/// The most letters of an initializer.
const LONGEST: usize = 60;

/// Print what is in a blueprint: shapes, types, cost, parameters, its hash, how much of the limits it uses
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(value_name = "BLUEPRINT", help = source::HELP)]
    blueprint: String,
    /// Channels of a seed's chunk; a library blueprint needs it
    #[arg(long, value_name = "N")]
    chunk: Option<usize>,
    /// Draw the graph in the language of Graphviz
    #[arg(long, conflicts_with = "svg")]
    dot: bool,
    /// Draw the graph as SVG
    #[arg(long)]
    svg: bool,
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let blueprint = source::blueprint(&arguments.blueprint, arguments.chunk)?;
    let text = match (arguments.dot, arguments.svg) {
        (true, _) => Drawing::of(&blueprint).dot(),
        (_, true) => Drawing::of(&blueprint).svg(),
        _ => describe(&blueprint)?,
    };
    output::text(&text, arguments.output.as_deref())
}

fn describe(blueprint: &Blueprint) -> Result<String> {
    let hash: String = blueprint.hash().iter().map(|byte| format!("{byte:02x}")).collect();
    let mut text =
        format!("blueprint  {}\nchunk      {} channels\nhash       {hash}\n", blueprint.name, blueprint.chunk);
    if !blueprint.parameters.is_empty() {
        let count = blueprint.parameter_count();
        text += &format!("\nparameters: {count} numbers in a slot\n{}", parameters(blueprint).print("  "));
    }
    let mut costs = Vec::with_capacity(blueprint.graph.nodes.len());
    for position in 0..blueprint.graph.nodes.len() {
        costs.push(operations(&blueprint.graph, ValueId(position as u32))?);
    }
    let total = |per_row: bool| -> u64 {
        blueprint.graph.nodes.iter().zip(&costs).filter(|(node, _)| node.per_row == per_row).map(|(_, cost)| cost).sum()
    };
    text += &format!(
        "\nvalues: the output is {}; {} operations for a row, and {} for a launch\n",
        blueprint.graph.node(blueprint.output()).name,
        total(true),
        total(false)
    );
    text += &values(blueprint, &costs).print("  ");
    Ok(text + "\nlimits\n" + &limits(blueprint).print("  "))
}

fn parameters(blueprint: &Blueprint) -> Table {
    let mut table = Table::new(&["name", "shape", "numbers", "begins at", "fresh"]);
    for parameter in &blueprint.parameters {
        table.row([
            parameter.name.clone(),
            parameter.shape.to_string(),
            parameter.shape.elements().to_string(),
            parameter.offset.to_string(),
            fresh(&parameter.initializer),
        ]);
    }
    table
}

/// An initializer as in JSON, of which given values can be long.
fn fresh(initializer: &Initializer) -> String {
    let text = json!(initializer).to_string().replace('"', "");
    if text.len() > LONGEST { format!("{}...", text.chars().take(LONGEST).collect::<String>()) } else { text }
}

fn values(blueprint: &Blueprint, costs: &[u64]) -> Table {
    let mut table = Table::new(&["name", "from", "type", "shape", "operations", "once per"]);
    for (node, cost) in blueprint.graph.nodes.iter().zip(costs) {
        table.row([
            node.name.clone(),
            origin(blueprint, node),
            node.data_type.name().to_string(),
            node.shape.to_string(),
            cost.to_string(),
            if node.per_row { "row" } else { "launch" }.to_string(),
        ]);
    }
    table
}

/// Where a node's value comes from, as a call: `softmax(w, axis=-1)`.
fn origin(blueprint: &Blueprint, node: &Node) -> String {
    match &node.source {
        Source::Row(_) => "the chunk".into(),
        Source::Parameter(_) => "parameter".into(),
        Source::Scalar(_) => "the seed".into(),
        Source::Operator { operator, inputs, attributes } => {
            let inputs = inputs.iter().map(|input| blueprint.graph.node(*input).name.clone());
            let parts: Vec<_> = inputs.chain(assignments(attributes)).collect();
            format!("{}({})", operator.name(), parts.join(", "))
        }
    }
}

/// Attributes as they stand in a call.
pub fn assignments(attributes: &Attributes) -> impl Iterator<Item = String> {
    attributes.iter().map(|(name, value)| format!("{name}={}", attribute(value)))
}

fn limits(blueprint: &Blueprint) -> Table {
    let Limits { nodes, parameters, depth, rank, elements, total_elements, .. } = Limits::DEFAULT;
    let graph = &blueprint.graph.nodes;
    let mut depths: Vec<usize> = Vec::with_capacity(graph.len());
    for node in graph {
        let below = match &node.source {
            Source::Operator { inputs, .. } => inputs.iter().map(|input| 1 + depths[input.index()]).max(),
            _ => None,
        };
        depths.push(below.unwrap_or(0));
    }
    let most = |numbers: &mut dyn Iterator<Item = usize>| numbers.max().unwrap_or(0);
    let mut table = Table::new(&["of", "used", "allowed"]);
    for (name, used, allowed) in [
        ("nodes", graph.len() - 1 - blueprint.parameters.len(), nodes),
        ("parameters", blueprint.parameters.len(), parameters),
        ("calls in a chain", most(&mut depths.into_iter()), depth),
        ("dimensions", most(&mut graph.iter().map(|node| node.shape.rank())), rank),
        ("elements of a value", most(&mut graph.iter().map(|node| node.shape.elements())), elements),
        ("elements together", graph.iter().map(|node| node.shape.elements()).sum(), total_elements),
    ] {
        table.row([name.to_string(), used.to_string(), allowed.to_string()]);
    }
    table
}
