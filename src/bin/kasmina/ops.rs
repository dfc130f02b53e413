//! `kasmina ops`: the operators that blueprints are made of.

use crate::output;
use crate::table::Table;
use kasmina::graph::Attribute;
use kasmina::ops::{self, Group, Operator};
use kasmina::{Result, error};
use serde_json::{Value, json};

/// List the operators that blueprints are made of
#[derive(clap::Args)]
pub struct Arguments {
    /// Print JSON, with everything that is known of an operator
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let of_blueprints = |operator: &&&dyn Operator| operator.documentation().group != Group::Internal;
    let operators: Vec<&dyn Operator> = ops::all().iter().filter(of_blueprints).copied().collect();
    output::text(&if arguments.json { as_json(&operators)? } else { as_text(&operators) }, None)
}

fn as_text(operators: &[&dyn Operator]) -> String {
    let mut groups: Vec<_> = operators.iter().map(|operator| operator.documentation().group).collect();
    groups.sort_unstable();
    groups.dedup();
    let sections = groups.into_iter().map(|group| {
        let mut table = Table::new(&["operator", "inputs", "attributes", "operations", "what it computes"]);
        for operator in operators.iter().filter(|operator| operator.documentation().group == group) {
            let documentation = operator.documentation();
            table.row([
                operator.name().to_string(),
                inputs(*operator),
                attributes(*operator),
                documentation.cost.to_string(),
                documentation.summary.replace('`', ""),
            ]);
        }
        format!("{}\n{}", group.title(), table.print("  "))
    });
    sections.collect::<Vec<_>>().join("\n")
}

fn as_json(operators: &[&dyn Operator]) -> Result<String> {
    let entries: Vec<_> = operators.iter().map(|operator| entry(*operator)).collect();
    serde_json::to_string_pretty(&entries)
        .map(|text| text + "\n")
        .map_err(|cause| error!(InvalidArgument, "the table of operators cannot be written").caused_by(cause))
}

fn entry(operator: &dyn Operator) -> Value {
    let documentation = operator.documentation();
    let inputs = documentation.inputs.iter().map(|(name, meaning)| json!({"name": name, "meaning": meaning}));
    let attributes = operator.attributes().iter().map(|known| {
        let required = known.default.is_none();
        json!({"name": known.name, "meaning": known.meaning, "required": required, "default": known.default})
    });
    json!({
        "name": operator.name(),
        "group": documentation.group.title(),
        "summary": documentation.summary,
        "inputs": inputs.collect::<Vec<_>>(),
        "fewest_inputs": operator.arity().start(),
        "most_inputs": operator.arity().end(),
        "attributes": attributes.collect::<Vec<_>>(),
        "result": documentation.result,
        "gradient": documentation.gradient,
        "operations": documentation.cost,
    })
}

/// The names of the inputs; those that may be left out in brackets, and dots after one that may stand more often.
fn inputs(operator: &dyn Operator) -> String {
    let (fewest, most) = operator.arity().into_inner();
    let names = operator.documentation().inputs;
    let written = names.iter().enumerate().map(|(position, (name, _))| {
        let dots = if position + 1 == names.len() && most > names.len() { " .." } else { "" };
        if position < fewest { format!("{name}{dots}") } else { format!("[{name}]{dots}") }
    });
    written.collect::<Vec<_>>().join(" ")
}

fn attributes(operator: &dyn Operator) -> String {
    let described = operator.attributes().iter().map(|known| match &known.default {
        Some(default) => format!("{}={}", known.name, attribute(default)),
        None => known.name.to_string(),
    });
    described.collect::<Vec<_>>().join(" ")
}

/// An attribute as JSON has it.
pub fn attribute(attribute: &Attribute) -> String {
    json!(attribute).to_string()
}
