//! `kasmina ops`: the operators that blueprints are made of.

use crate::output;
use crate::table::Table;
use kasmina::graph::Attribute;
use kasmina::ops::{self, Operator};
use kasmina::{Result, error};
use serde_json::{Map, Value, json};

/// List the operators that blueprints are made of
#[derive(clap::Args)]
pub struct Arguments {
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    // What sums over rows belongs to passes; a blueprint sees one row.
    let operators: Vec<_> = ops::all().iter().filter(|operator| operator.name() != "row_sum").collect();
    if arguments.json {
        let entries: Vec<_> = operators.iter().map(|operator| entry(**operator)).collect();
        let text = serde_json::to_string_pretty(&entries)
            .map_err(|cause| error!(InvalidArgument, "the table of operators cannot be written").caused_by(cause))?;
        return output::text(&(text + "\n"), None);
    }
    let mut table = Table::new(&["operator", "inputs", "attributes"]);
    for operator in operators {
        table.row([operator.name().to_string(), inputs(*operator), attributes(*operator)]);
    }
    output::text(&table.print(""), None)
}

fn entry(operator: &dyn Operator) -> Value {
    let attributes: Map<_, _> = operator
        .attributes()
        .iter()
        .map(|(name, default)| (name.to_string(), json!({"required": default.is_none(), "default": default})))
        .collect();
    json!({
        "name": operator.name(),
        "inputs": {"least": operator.arity().start(), "most": operator.arity().end()},
        "attributes": attributes,
    })
}

fn inputs(operator: &dyn Operator) -> String {
    let (least, most) = operator.arity().into_inner();
    match most {
        _ if least == most => least.to_string(),
        usize::MAX => format!("{least} or more"),
        _ => format!("{least} to {most}"),
    }
}

fn attributes(operator: &dyn Operator) -> String {
    let described = operator.attributes().iter().map(|(name, default)| match default {
        Some(default) => format!("{name}={}", attribute(default)),
        None => format!("{name}, which must be given"),
    });
    described.collect::<Vec<_>>().join("; ")
}

/// An attribute as JSON has it.
pub fn attribute(attribute: &Attribute) -> String {
    json!(attribute).to_string()
}
