//! A blueprint's graph as a drawing: [`layout`] says what lies where, [`svg`] draws that; Graphviz gets the graph alone.

mod layout;
mod svg;

use crate::inspect::assignments;
use kasmina::graph::{Blueprint, Source, ValueId};
use std::fmt::Write;

/// What a box stands for.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// The chunk.
    Input,
    /// A parameter.
    Parameter,
    /// A value that is computed for each row.
    PerRow,
    /// A value that is computed once.
    Uniform,
}

/// One value.
struct Shown {
    /// Its name, what computes it, and its type and shape.
    lines: Vec<String>,
    kind: Kind,
    /// The boxes it is computed from.
    inputs: Vec<usize>,
    /// Whether it is f(x).
    is_output: bool,
}

/// The values that the output depends on, those of a box before the box.
pub struct Drawing {
    title: String,
    boxes: Vec<Shown>,
}

impl Drawing {
    /// The drawing of a blueprint.
    pub fn of(blueprint: &Blueprint) -> Drawing {
        let graph = &blueprint.graph;
        let order = graph.evaluation_order(blueprint.output());
        let position = |value: &ValueId| order.iter().position(|other| other == value).unwrap_or(0);
        let boxes = order.iter().map(|&value| {
            let node = graph.node(value);
            let mut lines = vec![node.name.clone()];
            let mut boxes = Vec::new();
            if let Source::Operator { operator, inputs, attributes } = &node.source {
                let assigned: Vec<_> = assignments(attributes).collect();
                lines.push([operator.name(), &assigned.join(", ")].join(" ").trim_end().to_string());
                boxes = inputs.iter().map(position).collect();
            }
            lines.push(format!("{} {}", node.data_type.name(), node.shape));
            let kind = match node.source {
                Source::Row(_) => Kind::Input,
                Source::Parameter(_) => Kind::Parameter,
                _ if node.per_row => Kind::PerRow,
                _ => Kind::Uniform,
            };
            Shown { lines, kind, inputs: boxes, is_output: value == blueprint.output() }
        });
        let title = format!("{}, {} channels", blueprint.name, blueprint.chunk);
        Drawing { title, boxes: boxes.collect() }
    }

    /// The graph in the language of Graphviz.
    pub fn dot(&self) -> String {
        let mut text = format!(
            "digraph blueprint {{\n  label={};\n  node [shape=box, style=\"rounded,filled\"];\n",
            quoted(&self.title)
        );
        for (number, one) in self.boxes.iter().enumerate() {
            let (label, (fill, _)) = (quoted(&one.lines.join("\n")), svg::colours(one.kind));
            let outline = if one.is_output { ", penwidth=2" } else { "" };
            // Writing to a string cannot fail.
            let _ = writeln!(text, "  n{number} [label={label}, fillcolor=\"{fill}\"{outline}];");
            for input in &one.inputs {
                let _ = writeln!(text, "  n{input} -> n{number};");
            }
        }
        text + "}\n"
    }
}

/// A text as Graphviz reads it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n"))
}
