//! Loops and conditionals in blueprints: what they come to, what their gradients are, and what is refused.

use super::numbers::Numbers;
use kasmina::Status;
use kasmina::compile::reference::{self, Inputs, Outputs};
use kasmina::compile::{Pass, kernel_class};
use kasmina::graph::{Blueprint, DataType, Source};
use serde_json::{Value, json};

const CHUNK: usize = 4;

fn document(parameters: Value, nodes: Value, output: &str) -> Value {
    json!({"ir_version": 1, "name": "control", "chunk": CHUNK, "parameters": parameters, "nodes": nodes, "output": output})
}

fn read(document: &Value) -> kasmina::Result<Blueprint> {
    Blueprint::from_json(document.to_string().as_bytes())
}

fn blueprint(parameters: Value, nodes: Value, output: &str) -> Blueprint {
    read(&document(parameters, nodes, output)).unwrap()
}

/// Forward and backward at alpha 1 with a gradient of ones.
fn run(blueprint: &Blueprint, x: &[f64], parameters: &[f64]) -> (Outputs, Outputs) {
    let ones = vec![1.0; x.len()];
    let inputs =
        Inputs { rows: x.len() / CHUNK, x, output_gradient: &ones, parameters, alpha: 1.0, ..Inputs::default() };
    let run = |pass| {
        let class = kernel_class(pass, DataType::F64, false, &[blueprint]).unwrap();
        reference::run(&class.programs[0], &inputs).unwrap()
    };
    (run(Pass::Forward), run(Pass::Backward))
}

fn call(name: &str, op: &str, inputs: &[&str]) -> Value {
    json!({"name": name, "op": op, "inputs": inputs})
}

/// `abs` with a square root: NaN below zero in the one branch, in the other above.
fn roots(condition: Value) -> Blueprint {
    let nodes = json!([
        {"name": "zero", "op": "constant", "attributes": {"value": 0}},
        condition,
        {"name": "y", "op": "conditional", "inputs": ["positive"],
         "then": {"nodes": [call("root", "sqrt", &["x"]), call("scaled", "mul", &["root", "w"])], "output": "scaled"},
         "else": {"nodes": [call("away", "neg", &["x"]), call("root", "sqrt", &["away"]), call("scaled", "mul", &["root", "v"])],
                  "output": "scaled"}},
    ]);
    let parameter = |name| json!({"name": name, "shape": []});
    blueprint(json!([parameter("w"), parameter("v")]), nodes, "y")
}

#[test]
fn a_loop_is_the_same_blueprint_as_its_body_written_out() {
    let parameters = json!([{"name": "w", "shape": [CHUNK, CHUNK]}]);
    let turns = json!([{"name": "y", "op": "loop", "inputs": ["x"], "count": 3, "body": {
        "input": "h", "nodes": [call("inner", "linear", &["h", "w"]), call("g", "tanh", &["inner"])], "output": "g"}}]);
    let mut nodes = Vec::new();
    let mut last = String::from("x");
    for turn in 0..3 {
        nodes.push(call(&format!("a{turn}"), "linear", &[&last, "w"]));
        last = format!("b{turn}");
        nodes.push(call(&last, "tanh", &[&format!("a{turn}")]));
    }
    let (short, long) = (blueprint(parameters.clone(), turns, "y"), blueprint(parameters, json!(nodes), "b2"));
    assert_eq!(short.hash(), long.hash());
    let mut numbers = Numbers::new(3);
    let (x, w) = (numbers.take(2 * CHUNK), numbers.take(CHUNK * CHUNK));
    assert_eq!(run(&short, &x, &w), run(&long, &x, &w));
}

#[test]
fn a_conditional_takes_one_branch_for_each_row() {
    let condition = [call("total", "sum", &["x"]), call("positive", "greater", &["total", "zero"])];
    let nodes = json!([
        {"name": "zero", "op": "constant", "attributes": {"value": 0}},
        condition[0], condition[1],
        {"name": "y", "op": "conditional", "inputs": ["positive"],
         "then": {"nodes": [call("a", "mul", &["x", "w"])], "output": "a"},
         "else": {"output": "x"}},
    ]);
    let conditional = blueprint(json!([{"name": "w", "shape": [CHUNK]}]), nodes, "y");
    let x = [1.0, 2.0, 3.0, 4.0, -1.0, -2.0, -3.0, 4.0];
    let w = [2.0, 3.0, 4.0, 5.0];
    let (forward, backward) = run(&conditional, &x, &w);
    assert_eq!(forward.rows, [2.0, 6.0, 12.0, 20.0, -1.0, -2.0, -3.0, 4.0]);
    assert_eq!(backward.rows, [2.0, 3.0, 4.0, 5.0, 1.0, 1.0, 1.0, 1.0]);
    assert_eq!(backward.parameter_gradient, [1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn nothing_of_a_branch_that_is_not_taken_reaches_a_gradient() {
    // One truth value a row, and one for each element.
    let whole = call("positive", "greater", &["w", "zero"]);
    let (x, each) = ([4.0, 9.0, 16.0, 25.0], call("positive", "greater", &["x", "zero"]));
    let conditional = roots(whole);
    let (forward, backward) = run(&conditional, &x, &[2.0, f64::NAN]);
    assert_eq!(forward.rows, [4.0, 6.0, 8.0, 10.0]);
    assert_eq!(backward.rows, [0.5, 1.0 / 3.0, 0.25, 0.2]);
    assert_eq!(backward.parameter_gradient, [2.0 + 3.0 + 4.0 + 5.0, 0.0]);
    assert_eq!((forward.fallback_rows, backward.fallback_rows), (0, 0));

    let conditional = roots(each);
    let (forward, backward) = run(&conditional, &[4.0, -9.0, 16.0, -25.0], &[2.0, 3.0]);
    assert_eq!(forward.rows, [4.0, 9.0, 8.0, 15.0]);
    assert_eq!(backward.rows, [0.5, -0.5, 0.25, -0.3]);
    assert_eq!(backward.parameter_gradient, [6.0, 8.0]);
    assert_eq!((forward.fallback_rows, backward.fallback_rows), (0, 0));
}

#[test]
fn a_plain_choice_lets_nan_through_where_a_conditional_does_not() {
    // The same with `where` alone: what the conditional is for.
    let nodes = json!([
        {"name": "zero", "op": "constant", "attributes": {"value": 0}},
        call("positive", "greater", &["x", "zero"]),
        call("root", "sqrt", &["x"]),
        call("y", "where", &["positive", "root", "x"]),
    ]);
    let (_, backward) = run(&blueprint(json!([]), nodes, "y"), &[4.0, -9.0, 16.0, 0.0], &[]);
    assert_eq!(backward.fallback_rows, 1, "the gradient of a root that was not chosen is NaN");
}

#[test]
fn notations_lie_in_each_other() {
    // Three times: h where its sum is positive w h, else a loop of two halvings.
    let halving = json!({"name": "halved", "op": "loop", "inputs": ["h"], "count": 2, "body": {
        "input": "k", "nodes": [call("next", "mul", &["k", "half"])], "output": "next"}});
    let nodes = json!([
        {"name": "half", "op": "constant", "attributes": {"value": 0.5}},
        {"name": "zero", "op": "constant", "attributes": {"value": 0}},
        {"name": "y", "op": "loop", "inputs": ["x"], "count": 3, "body": {"input": "h", "output": "chosen", "nodes": [
            call("total", "sum", &["h"]),
            call("positive", "greater", &["total", "zero"]),
            {"name": "chosen", "op": "conditional", "inputs": ["positive"],
             "then": {"nodes": [call("scaled", "mul", &["h", "w"])], "output": "scaled"},
             "else": {"nodes": [halving], "output": "halved"}},
        ]}},
    ]);
    let nested = blueprint(json!([{"name": "w", "shape": []}]), nodes, "y");
    let x = [1.0, 2.0, 3.0, 4.0, -1.0, -2.0, -3.0, -4.0];
    let (forward, backward) = run(&nested, &x, &[-2.0]);
    // Above zero: times -2, then twice a quarter. Below: three times a quarter.
    let expected: Vec<_> = x.iter().map(|x| if *x > 0.0 { x * -2.0 / 16.0 } else { x / 64.0 }).collect();
    assert_eq!(forward.rows, expected);
    assert_eq!(backward.rows, [[-2.0 / 16.0; 4], [1.0 / 64.0; 4]].concat());
    assert_eq!(backward.parameter_gradient, [10.0 / 16.0]);
}

#[test]
fn what_is_written_back_is_flat_and_means_the_same() {
    let original = roots(call("positive", "greater", &["x", "zero"]));
    let text = original.to_json().unwrap();
    assert!(!text.contains("conditional"), "{text}");
    let again = Blueprint::from_json(text.as_bytes()).unwrap();
    assert_eq!(again.hash(), original.hash());
    assert_eq!(again.to_json().unwrap(), text);
    let mut names: Vec<_> = original.graph.nodes.iter().map(|node| node.name.clone()).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), original.graph.nodes.len(), "{names:?}");
}

#[test]
fn long_names_and_names_that_are_taken_stay_apart() {
    let long = "n".repeat(64);
    let nodes = json!([
        call("y_0_g", "tanh", &["x"]),
        {"name": "y", "op": "loop", "inputs": ["y_0_g"], "count": 2, "body":
            {"input": "h", "nodes": [call("g", "neg", &["h"]), call(&long, "tanh", &["g"])], "output": long}},
        call("z", "add", &["y", "y_0_g"]),
    ]);
    let blueprint = blueprint(json!([]), nodes, "z");
    let mut names: Vec<_> = blueprint.graph.nodes.iter().map(|node| node.name.clone()).collect();
    assert!(names.iter().all(|name| name.len() <= 64), "{names:?}");
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), blueprint.graph.nodes.len(), "{names:?}");
    assert!(Blueprint::from_json(blueprint.to_json().unwrap().as_bytes()).is_ok());
}

#[test]
fn a_condition_is_a_value_of_the_graph_that_needs_no_gradient() {
    let blueprint = roots(call("positive", "greater", &["x", "zero"]));
    let takes = |node: &kasmina::graph::Node| matches!(&node.source, Source::Operator { operator, .. } if operator.name() == "taken");
    // x and a parameter in each branch.
    assert_eq!(blueprint.graph.nodes.iter().filter(|node| takes(node)).count(), 4);
}

#[test]
fn notation_that_makes_no_sense_is_refused_with_the_reason() {
    let truth = call("truth", "greater", &["x", "x"]);
    let one = json!({"nodes": [call("a", "tanh", &["x"])], "output": "a"});
    let body = |nodes: Value, output: &str| json!({"input": "h", "nodes": nodes, "output": output});
    let turns =
        |count: Value, body: Value| json!({"name": "y", "op": "loop", "inputs": ["x"], "count": count, "body": body});
    let choice = |then: &Value, condition: &str| json!({"name": "y", "op": "conditional", "inputs": [condition], "then": then, "else": one});
    let mut deep = turns(json!(1), body(json!([call("g", "tanh", &["h"])]), "g"));
    for level in 0..9 {
        let (name, input) = (format!("l{level}"), format!("i{level}"));
        let inner = deep.as_object_mut().unwrap();
        inner.insert("name".into(), json!(name));
        inner.insert("inputs".into(), json!([input]));
        let inner_input = format!("h{level}");
        inner["body"]["input"] = json!(inner_input);
        if level == 0 {
            inner["body"]["nodes"] = json!([call("g", "tanh", &["h0"])]);
        }
        deep = json!({"name": "y", "op": "loop", "inputs": ["x"], "count": 1,
                      "body": {"input": input, "nodes": [deep], "output": name}});
    }
    let tanh = json!([call("g", "tanh", &["h"])]);
    let cases = [
        (json!([turns(json!(0), body(tanh.clone(), "g"))]), Status::InvalidBlueprint, "`count` is 0"),
        (json!([turns(json!(-1), body(tanh.clone(), "g"))]), Status::InvalidBlueprint, "`y`: its `count` is -1"),
        (
            json!([turns(json!(1025), body(tanh.clone(), "g"))]),
            Status::BlueprintTooLarge,
            "it stands for 1025 nodes with its loops unrolled; at most 1024",
        ),
        (
            json!([turns(json!(i64::MAX), body(json!([turns(json!(i64::MAX), body(tanh.clone(), "g"))]), "y"))]),
            Status::BlueprintTooLarge,
            "at most 1024",
        ),
        (
            json!([turns(json!(257), body(tanh.clone(), "g"))]),
            Status::BlueprintTooLarge,
            "call 257 of a chain; at most 256",
        ),
        (json!([deep]), Status::BlueprintTooLarge, "10 deep in each other; at most 8"),
        (
            json!([turns(json!(2), body(json!([call("g", "sum", &["h"])]), "g"))]),
            Status::InvalidBlueprint,
            "takes f32 [4] and gives f32 []",
        ),
        (
            json!([turns(json!(2), body(json!([call("g", "tanh", &["y"])]), "g"))]),
            Status::InvalidBlueprint,
            "defined later",
        ),
        (
            json!([turns(json!(2), body(json!([call("x", "tanh", &["h"])]), "x"))]),
            Status::InvalidBlueprint,
            "`x` names the chunk",
        ),
        (
            json!([turns(json!(2), body(json!([call("h", "tanh", &["h"])]), "h"))]),
            Status::InvalidBlueprint,
            "two values have the name `h`",
        ),
        (
            json!([{"name": "y", "op": "loop", "inputs": ["x"], "count": 2}]),
            Status::InvalidBlueprint,
            "a `loop` needs `body`",
        ),
        (
            json!([{"name": "y", "op": "loop", "inputs": ["x", "x"], "count": 1, "body": body(tanh.clone(), "g")}]),
            Status::InvalidBlueprint,
            "takes 1 input, not 2",
        ),
        (
            json!([{"name": "y", "op": "tanh", "inputs": ["x"], "count": 2}]),
            Status::InvalidBlueprint,
            "only a `loop` has",
        ),
        (json!([truth, choice(&one, "x")]), Status::InvalidBlueprint, "its condition is f32; compare"),
        (
            json!([truth, choice(&json!({"nodes": [call("a", "softmax", &["x"])], "output": "a"}), "truth")]),
            Status::InvalidBlueprint,
            "`softmax` mixes elements",
        ),
        (json!([truth, choice(&json!({"output": "nowhere"}), "truth")]), Status::InvalidBlueprint, "its `then`"),
        (
            json!([truth, choice(&one, "truth"), call("z", "add", &["y", "a"])]),
            Status::InvalidBlueprint,
            "no value of this name",
        ),
        (
            json!([{"name": "y", "op": "conditional", "inputs": ["x"], "then": one}]),
            Status::InvalidBlueprint,
            "a `conditional` needs `else`",
        ),
        (
            json!([{"name": "y", "op": "loop", "inputs": ["x"], "count": 1, "recurse": "y", "body": body(tanh, "g")}]),
            Status::MalformedBlueprint,
            "not a blueprint in JSON",
        ),
    ];
    for (nodes, status, reason) in cases {
        let error = read(&document(json!([]), nodes.clone(), "y")).unwrap_err();
        assert_eq!(error.status(), status, "{error}: {nodes}");
        assert!(error.to_string().contains(reason), "`{error}` does not say `{reason}`: {nodes}");
    }
}
