//! The page `docs/operators.md` is what the registry says of itself.

use kasmina::compile::operations;
use kasmina::graph::{Attribute, Builder, Shape};
use kasmina::ops::{self, Documentation, Group, KnownAttribute, Operator};
use std::fmt::Write;

const INTRODUCTION: &str = "# Operators\n\n\
    What the nodes of a [blueprint](blueprints.md) can be. This page is printed from the operators themselves; a test keeps it\n\
    so.\n\n\
    Shapes leave the row out. *Numbers* are of the type a layer computes in, f32 or f64. In the formulas `y` is the result,\n\
    `g` the gradient of the loss for it, and |a| the number of elements of `a`. Where an input was broadcast, its gradient is\n\
    summed back to its shape. Cost is in operations for each evaluation of the forward pass: for each row, or once for all\n\
    rows if no input depends on the row.\n";

/// `KASMINA_UPDATE_DOCUMENTATION=1 cargo test --test operators documentation` rewrites the page.
#[test]
fn the_page_about_operators_is_what_they_say_of_themselves() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/operators.md");
    let page = page();
    if std::env::var_os("KASMINA_UPDATE_DOCUMENTATION").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let documented = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(documented == page, "{} is not what is printed; see the comment of this test", path.display());
}

#[test]
fn every_operator_says_what_it_is() {
    for operator in ops::all() {
        let Documentation { group: _, summary, inputs, result, gradient, cost } = operator.documentation();
        let attributes = operator.attributes().iter().map(|known| known.meaning);
        let inputs_texts = inputs.iter().flat_map(|(name, what)| [*name, *what]);
        for text in [summary, result, gradient, cost].into_iter().chain(attributes).chain(inputs_texts) {
            let line = !text.is_empty() && !text.contains('\n');
            assert!(line, "a text about `{}` is empty or not one line: {text:?}", operator.name());
        }
        let arity = operator.arity();
        let repeated = inputs.len() < *arity.end();
        assert!(inputs.len() == *arity.end() || repeated && inputs.len() <= *arity.start(), "`{}`", operator.name());
    }
}

fn page() -> String {
    let mut groups: Vec<Group> = ops::all().iter().map(|operator| operator.documentation().group).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut page = String::from(INTRODUCTION);
    for group in groups {
        write!(page, "\n## {}\n", group.title()).unwrap();
        for operator in ops::all().iter().filter(|operator| operator.documentation().group == group) {
            page.push_str(&section(*operator));
        }
    }
    page
}

fn section(operator: &dyn Operator) -> String {
    let documentation = operator.documentation();
    let mut text = format!("\n### `{}`\n\n{}\n\n", operator.name(), documentation.summary);
    let arity = operator.arity();
    for (position, (name, what)) in documentation.inputs.iter().enumerate() {
        let last = position + 1 == documentation.inputs.len();
        let count = match last && documentation.inputs.len() < *arity.end() {
            true => format!(" ({} to {} of them)", arity.start() - position, arity.end() - position),
            false if position >= *arity.start() => String::from(" (optional)"),
            false => String::new(),
        };
        writeln!(text, "- Input `{name}`{count}: {what}").unwrap();
    }
    for KnownAttribute { name, default, meaning } in operator.attributes() {
        let default =
            default.as_ref().map_or(String::from("required"), |default| format!("default {}", shown(default)));
        writeln!(text, "- Attribute `{name}` ({default}): {meaning}").unwrap();
    }
    writeln!(text, "- Result: {}", documentation.result).unwrap();
    writeln!(text, "- Gradient: {}", documentation.gradient).unwrap();
    writeln!(text, "- Cost: {}", documentation.cost).unwrap();
    text
}

fn shown(attribute: &Attribute) -> String {
    format!("`{}`", serde_json::to_string(attribute).unwrap())
}

/// The formulas on the page, for a value of 12 elements and rows of 4.
#[test]
fn the_cost_of_an_operator_is_what_the_page_says() {
    let linear = |a: u64, ins: u64| (2 * ins + 1) * a;
    let cases: [(&str, &[&[usize]], u64); 14] = [
        ("add", &[&[3, 4], &[4]], 12),
        ("exp", &[&[3, 4]], 12),
        ("gelu", &[&[3, 4]], 5 * 12),
        ("silu", &[&[3, 4]], 2 * 12),
        ("linear", &[&[3, 4], &[2, 4], &[2]], linear(6, 4)),
        ("linear", &[&[3, 4], &[2, 4]], linear(6, 4) - 6),
        ("layer_norm", &[&[3, 4], &[4], &[4]], 7 * 12 + 4 * 3),
        ("rms_norm", &[&[3, 4], &[4]], 4 * 12 + 3 * 3),
        ("softmax", &[&[3, 4]], 5 * 12),
        ("sum", &[&[3, 4]], 12),
        ("mean", &[&[3, 4]], 12 + 1),
        ("max", &[&[3, 4]], 12),
        ("einsum", &[&[3, 4], &[4, 2]], 2 * 3 * 4 * 2),
        ("reshape", &[&[3, 4]], 0),
    ];
    for (operator, shapes, expected) in cases {
        let mut builder = Builder::new();
        let inputs: Vec<_> = (shapes.iter().enumerate())
            .map(|(position, shape)| builder.parameter(position, format!("p{position}"), Shape::new(*shape)))
            .collect();
        let attributes = match operator {
            "einsum" => vec![("equation", Attribute::Text("ij,jk->ik".into()))],
            "reshape" => vec![("shape", Attribute::Integers([12].to_vec().into()))],
            _ => Vec::new(),
        };
        let value = builder.apply(operator, &inputs, &attributes);
        let graph = builder.finish().unwrap();
        assert_eq!(operations(&graph, value).unwrap(), expected, "`{operator}` of {shapes:?}");
    }
}
