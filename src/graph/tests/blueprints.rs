//! Reading and writing blueprints: what is accepted, what is refused and with which words, and hostile bytes.

use super::random::{self, Random, document, node, none, parameter};
use crate::Status;
use crate::graph::{Attribute, Blueprint, Initializer, LIBRARY, Limits, Shape, library};
use proptest::prelude::*;
use serde_json::{Value, json};

/// A valid blueprint to spoil.
fn valid() -> Value {
    json!({
        "ir_version": 1,
        "name": "scaled",
        "chunk": 4,
        "parameters": [
            {"name": "w", "shape": [4], "initializer": {"uniform": {"low": -1, "high": 1}}},
            {"name": "b", "shape": [], "initializer": "ones"},
        ],
        "nodes": [
            {"name": "h", "op": "mul", "inputs": ["x", "w"]},
            {"name": "n", "op": "layer_norm", "inputs": ["h"], "attributes": {"eps": 0.001}},
            {"name": "y", "op": "add", "inputs": ["n", "b"]},
        ],
        "output": "y",
        "metadata": {"author": "somebody", "tags": [1, null, {"a": "b"}]},
    })
}

fn read(value: &Value) -> crate::Result<Blueprint> {
    Blueprint::from_json(value.to_string().as_bytes())
}

#[track_caller]
fn refused(value: &Value, status: Status, reason: &str) {
    let error = read(value).unwrap_err();
    assert_eq!(error.status(), status, "{error}");
    assert!(error.to_string().contains(reason), "`{error}` does not say `{reason}`");
}

#[test]
fn a_blueprint_written_by_hand_is_read() {
    let blueprint = read(&valid()).unwrap();
    assert_eq!((blueprint.name.as_str(), blueprint.chunk, blueprint.parameter_count()), ("scaled", 4, 5));
    let offsets: Vec<_> = blueprint.parameters.iter().map(|parameter| parameter.offset).collect();
    assert_eq!(offsets, [0, 4]);
    assert_eq!(blueprint.parameters[0].initializer, Initializer::Uniform { low: -1.0, high: 1.0 });
    let names: Vec<_> = blueprint.graph.nodes.iter().map(|node| node.name.as_str()).collect();
    assert_eq!(names, ["x", "w", "b", "h", "n", "y"]);
    assert_eq!(blueprint.graph.node(blueprint.output()).shape, Shape::new([4]));
}

#[test]
fn writing_and_reading_gives_the_same_blueprint() {
    let check = |blueprint: Blueprint| {
        let text = blueprint.to_json().unwrap();
        let again = Blueprint::from_json(text.as_bytes()).unwrap();
        assert_eq!(again.to_json().unwrap(), text);
        assert_eq!(again.hash(), blueprint.hash());
        assert_eq!((again.parameters, again.metadata), (blueprint.parameters, blueprint.metadata));
    };
    check(read(&valid()).unwrap());
    LIBRARY.iter().for_each(|name| check(library(name, 8, &none()).unwrap()));
    (0..200).for_each(|seed| check(random::blueprint(&mut Random::new(seed)).verify().unwrap()));
}

#[test]
fn the_example_of_the_documentation_is_valid() {
    let page = include_str!("../../../docs/blueprints.md");
    let examples: Vec<_> = page.split("```json\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert!(!examples.is_empty());
    for example in examples {
        Blueprint::from_json(example.as_bytes()).unwrap();
    }
}

#[test]
fn what_is_not_the_notation_is_malformed() {
    let spoil = |change: &dyn Fn(&mut Value)| {
        let mut value = valid();
        change(&mut value);
        value
    };
    refused(&json!([]), Status::MalformedBlueprint, "not a blueprint");
    refused(&json!({"name": "no version"}), Status::MalformedBlueprint, "ir_version");
    refused(&spoil(&|value| value["ir_version"] = 0.into()), Status::MalformedBlueprint, "ir_version 0");
    refused(&spoil(&|value| value["ir_version"] = "1".into()), Status::MalformedBlueprint, "expected u64");
    refused(&spoil(&|value| value["extra"] = 1.into()), Status::MalformedBlueprint, "unknown field `extra`");
    refused(&spoil(&|value| value["nodes"][0]["extra"] = 1.into()), Status::MalformedBlueprint, "`extra`");
    refused(
        &spoil(&|value| value["nodes"][0]["attributes"] = json!({"a": null})),
        Status::MalformedBlueprint,
        "line 1",
    );
    refused(
        &spoil(&|value| value["parameters"][0]["initializer"] = "random".into()),
        Status::MalformedBlueprint,
        "random",
    );
    refused(&spoil(&|value| value["parameters"][0]["shape"] = json!([-1])), Status::MalformedBlueprint, "-1");
    refused(
        &spoil(&|value| value["parameters"][0]["shape"] = json!([1e30])),
        Status::MalformedBlueprint,
        "floating point",
    );
    let text = valid().to_string();
    for bytes in [&text.as_bytes()[..text.len() - 1], format!("{text} x").as_bytes(), b"", b"\xff\xfe", b"null"] {
        assert_eq!(Blueprint::from_json(bytes).unwrap_err().status(), Status::MalformedBlueprint);
    }
    let doubled = text.replacen("\"chunk\":4", "\"chunk\":4,\"chunk\":5", 1);
    assert!(Blueprint::from_json(doubled.as_bytes()).unwrap_err().to_string().contains("duplicate field `chunk`"));
}

#[test]
fn a_newer_version_is_refused_before_what_is_new_in_it() {
    let newer = json!({"ir_version": 2, "name": "later", "loops": [{}]});
    refused(&newer, Status::Unsupported, "ir_version 2; this library reads up to 1");
}

#[test]
fn an_invalid_graph_is_refused_naming_the_node_and_the_reason() {
    let with = |path: &str, new: Value| {
        let mut value = valid();
        *value.pointer_mut(path).unwrap() = new;
        value
    };
    let invalid = |value: Value, reason: &str| refused(&value, Status::InvalidBlueprint, reason);
    invalid(with("/nodes/0/op", "frobnicate".into()), "node `h`: there is no operator `frobnicate`");
    invalid(with("/nodes/0/op", "row_sum".into()), "node `h`: `row_sum` is internal");
    invalid(with("/nodes/0/inputs", json!(["x"])), "node `h`: `mul` takes 2 inputs, not 1");
    invalid(with("/nodes/0/inputs/1", "n".into()), "node `h`: it uses `n`, which is defined later");
    invalid(with("/nodes/0/inputs/1", "h".into()), "node `h`: it uses `h`, which is defined later");
    invalid(with("/nodes/0/inputs/1", "q".into()), "node `h`: it uses \"q\", but there is no value of this name");
    invalid(with("/nodes/1/attributes", json!({"axis": 0})), "node `n`: `layer_norm` has no attribute `axis`");
    invalid(with("/nodes/1/attributes/eps", "a".into()), "node `n`: attribute `eps` of `layer_norm`: it is a text");
    invalid(with("/parameters/0/shape", json!([3])), "node `h`: `mul` cannot be applied: the shapes [4] and [3]");
    invalid(with("/parameters/0/shape", json!([0])), "parameter `w`: its shape [0] has no elements");
    invalid(with("/nodes/1/name", "h".into()), "two values have the name `h`");
    invalid(with("/nodes/1/name", "w".into()), "two values have the name `w`");
    invalid(with("/parameters/0/name", "x".into()), "`x` names the chunk");
    invalid(with("/output", "z".into()), "the output is \"z\"");
    invalid(with("/output", "h".into()), "the output does not depend on the parameter `b`; remove it");
    invalid(with("/output", "w".into()), "the output `w` does not depend on x");
    invalid(with("/output", "b".into()), "the output `b` has shape []; it must have that of x, [4]");
    invalid(with("/nodes/2/op", "greater".into()), "the output `y` is bool; it must be numbers");
    invalid(with("/chunk", 0.into()), "the chunk: its shape [0] has no elements");
    for initializer in [
        json!({"uniform": {"low": 1, "high": -1}}),
        json!({"constant": 1e300}),
        json!({"normal": {"mean": 0, "standard_deviation": -1}}),
    ] {
        invalid(with("/parameters/0/initializer", initializer), "parameter `w`: its initializer");
    }
}

#[test]
fn no_name_can_be_anything_but_a_name() {
    let hostile = ["", "1a", "a b", "a\"b", "a\nb", "*/ int main() {", "a;", "\u{e9}", "a`b", "a/../b", "\\", "a\0"];
    let long = "a".repeat(65);
    for name in hostile.into_iter().chain([long.as_str()]) {
        for path in ["/name", "/parameters/0/name", "/nodes/0/name", "/nodes/0/op"] {
            let mut value = valid();
            *value.pointer_mut(path).unwrap() = name.into();
            let error = read(&value).unwrap_err();
            assert_eq!(error.status(), Status::InvalidBlueprint, "{path} {name:?}: {error}");
            assert!(error.message().contains("is not a name"), "{path} {name:?}: {error}");
            assert!(error.message().len() < 300 && !error.message().contains('\n'), "{error}");
        }
    }
    let mut value = valid();
    value["name"] = "my-block.v2".into();
    assert_eq!(read(&value).unwrap().name, "my-block.v2");
}

#[test]
fn everything_has_a_limit() {
    let limits = Limits::DEFAULT;
    let too_large = |error: crate::Error, reason: &str| {
        assert_eq!(error.status(), Status::BlueprintTooLarge, "{error}");
        assert!(error.message().contains(reason), "`{error}` does not say `{reason}`");
    };
    let chain = |count: usize| -> Vec<_> {
        let name = |at: usize| if at == 0 { "x".into() } else { format!("n{at}") };
        (0..count).map(|at| node(&name(at + 1), "tanh", &[&name(at)], &[])).collect()
    };
    assert!(document(4, vec![], chain(limits.depth)).verify().is_ok());
    too_large(document(4, vec![], chain(limits.depth + 1)).verify().unwrap_err(), "node `n257`: it is call 257");

    let flat = |count: usize| (0..count).map(|at| node(&format!("n{at}"), "tanh", &["x"], &[])).collect();
    assert!(document(4, vec![], flat(limits.nodes)).verify().is_ok());
    too_large(document(4, vec![], flat(limits.nodes + 1)).verify().unwrap_err(), "1025 nodes");
    too_large(document(1 << 15, vec![], flat(limits.nodes)).verify().unwrap_err(), "node `n511`: with it the values");

    let many = (0..=limits.parameters).map(|at| parameter(&format!("p{at}"), &[1])).collect();
    too_large(document(4, many, flat(1)).verify().unwrap_err(), "257 parameters");

    let of_shape = |shape: &[usize]| document(4, vec![parameter("w", shape)], flat(1)).verify().unwrap_err();
    too_large(of_shape(&[1, 1, 1, 1, 1, 1, 1]), "parameter `w`: it has 7 dimensions");
    too_large(of_shape(&[1 << 30, 1 << 30, 1 << 30]), "parameter `w`: its shape");
    too_large(of_shape(&[usize::MAX, 2]), "parameter `w`: its shape");
    too_large(document(usize::MAX, vec![], flat(1)).verify().unwrap_err(), "the chunk");

    let sizes = Attribute::Integers(vec![1 << 11, 1 << 11, 4].into());
    let wide = node("wide", "broadcast", &["x"], &[("shape", sizes)]);
    too_large(document(4, vec![], vec![wide]).verify().unwrap_err(), "node `wide`: attribute `shape`");

    too_large(Blueprint::from_json(&vec![b' '; limits.bytes + 1]).unwrap_err(), "bytes");
    let mut nested = valid().to_string();
    nested.insert_str(nested.len() - 1, &format!(", \"deep\": {}{}", "[".repeat(9000), "]".repeat(9000)));
    assert_eq!(Blueprint::from_json(nested.as_bytes()).unwrap_err().status(), Status::MalformedBlueprint);
}

#[test]
fn initialisation_depends_on_the_seed_only() {
    let blueprint = library("bottleneck", 64, &none()).unwrap();
    let slot = blueprint.initialize(1);
    assert_eq!(slot.len(), blueprint.parameter_count());
    assert_eq!(slot, blueprint.initialize(1));
    assert_ne!(slot, blueprint.initialize(2));
    let bound = 1.0 / 8.0;
    assert!(slot[..16 * 64].iter().all(|weight| weight.abs() <= bound));
    assert!(slot[..16 * 64].iter().any(|weight| weight.abs() > 0.9 * bound));
    assert!(slot[16 * 64..].iter().all(|&rest| rest == 0.0));
    assert_eq!(slot[0].to_bits(), 13816435029787045018, "the first number of seed 1 on every platform");
}

#[test]
fn initializers_give_what_they_say() {
    let of = |initializer: Initializer| {
        let mut weight = parameter("w", &[100, 100]);
        weight.initializer = initializer;
        let total = node("t", "sum", &["w"], &[]);
        document(4, vec![weight], vec![total, node("y", "add", &["x", "t"], &[])]).verify().unwrap().initialize(5)
    };
    let mean = |slot: &[f64]| slot.iter().sum::<f64>() / slot.len() as f64;
    let deviation =
        |slot: &[f64]| (slot.iter().map(|value| (value - mean(slot)).powi(2)).sum::<f64>() / slot.len() as f64).sqrt();
    assert!(of(Initializer::Zeros).iter().all(|&value| value == 0.0));
    assert!(of(Initializer::Ones).iter().all(|&value| value == 1.0));
    assert!(of(Initializer::Constant(-2.5)).iter().all(|&value| value == -2.5));
    let normal = of(Initializer::Normal { mean: 3.0, standard_deviation: 2.0 });
    assert!((mean(&normal) - 3.0).abs() < 0.1 && (deviation(&normal) - 2.0).abs() < 0.1);
    let uniform = of(Initializer::Uniform { low: 2.0, high: 4.0 });
    assert!(uniform.iter().all(|value| (2.0..4.0).contains(value)));
    assert!((mean(&uniform) - 3.0).abs() < 0.05 && (deviation(&uniform) - 2.0 / 12f64.sqrt()).abs() < 0.05);
}

#[test]
fn values_are_carried_in_json_and_start_every_slot() {
    let with = |values: &str| {
        let parameter = format!(r#"{{"name": "w", "shape": [2, 2], "initializer": {{"values": {values}}}}}"#);
        let total = r#"{"name": "t", "op": "sum", "inputs": ["w"]}, {"name": "y", "op": "add", "inputs": ["x", "t"]}"#;
        let text = format!(
            r#"{{"ir_version": 1, "name": "v", "chunk": 3, "parameters": [{parameter}], "nodes": [{total}], "output": "y"}}"#
        );
        Blueprint::from_json(text.as_bytes())
    };
    let blueprint = with("[1, -0.1, 2.5e-7, 0.30000000000000004]").unwrap();
    assert_eq!(blueprint.initialize(1), [1.0, -0.1, 2.5e-7, 0.30000000000000004]);
    assert_eq!(blueprint.initialize(2), blueprint.initialize(1));
    let text = blueprint.to_json().unwrap();
    assert!(text.contains("[1.0,-0.1,2.5e-7,0.30000000000000004]"), "the numbers stand on one line: {text}");
    assert_eq!(Blueprint::from_json(text.as_bytes()).unwrap().initialize(3), blueprint.initialize(1));
    for (values, sentence) in [
        ("[1, 2, 3]", "parameter `w`: its initializer has 3 values; the shape [2, 2] asks for 4"),
        ("[1, 2, 3, 1e39]", "parameter `w`: value 3 of its initializer, 1e39, is too large for f32"),
    ] {
        let error = with(values).unwrap_err();
        assert_eq!((error.status(), error.to_string().as_str()), (Status::InvalidBlueprint, sentence));
    }
}

/// Whatever comes in, the answer is a blueprint or one of the four refusals. A panic fails the test.
fn survives(bytes: &[u8]) {
    match Blueprint::from_json(bytes) {
        Ok(blueprint) => {
            blueprint.hash();
            assert!(Blueprint::from_json(blueprint.to_json().unwrap().as_bytes()).is_ok());
        }
        Err(error) => {
            let expected =
                [Status::MalformedBlueprint, Status::InvalidBlueprint, Status::BlueprintTooLarge, Status::Unsupported];
            assert!(expected.contains(&error.status()) && !error.message().is_empty(), "{error}");
        }
    }
}

/// Numbers, words and structures that a shape rule or a reader might stumble over.
fn hostile(random: &mut Random) -> Value {
    let words = ["x", "w", "h", "y", "n", "zeros", "->", "a,a->a", "ab,bc->ac", "tanh", "\u{0}", "row_sum", "einsum"];
    match random.below(9) {
        0 => json!(random.pick(&[0, 1, -1, 2, 3, 4, i64::MAX, i64::MIN, 1 << 31, 1 << 22, 1 << 62])),
        1 => json!(random.pick(&[0.5, 1e300, -1e-300, 0.0])),
        2 => json!(random.pick(&words)),
        3 => Value::Null,
        4 => json!(random.below(2) == 0),
        5 => json!([]),
        6 => json!([4, 1i64 << 40, 1i64 << 40]),
        7 => json!({}),
        _ => (0..random.below(4)).map(|_| json!(random.pick(&[-1, 0, 1, 2, 4, 7, 1 << 11]))).collect(),
    }
}

/// Replaces a value somewhere inside by a hostile one.
fn spoil(value: &mut Value, random: &mut Random) {
    if random.below(6) == 0 {
        *value = hostile(random);
        return;
    }
    match value {
        Value::Array(items) if !items.is_empty() => {
            let at = random.below(items.len());
            spoil(&mut items[at], random);
        }
        Value::Object(fields) if !fields.is_empty() => {
            let at = random.below(fields.len());
            if let Some(value) = fields.values_mut().nth(at) {
                spoil(value, random);
            }
        }
        _ => *value = hostile(random),
    }
}

#[test]
fn spoiled_blueprints_are_read_or_refused() {
    let operators = crate::ops::all();
    let mut valid_after_all = 0;
    for seed in 0..4000 {
        let random = &mut Random::new(seed);
        let mut value = valid();
        // A call of any operator with any inputs and any attributes.
        let operator = random.pick(operators);
        let inputs: Vec<_> = (0..*operator.arity().end()).map(|_| random.pick(&["x", "w", "b", "h"])).collect();
        let attributes: serde_json::Map<_, _> =
            operator.attributes().iter().map(|known| (String::from(known.name), hostile(random))).collect();
        let call = json!({"name": "n", "op": operator.name(), "inputs": inputs, "attributes": attributes});
        value["nodes"][1] = call;
        for _ in 0..random.below(4) {
            spoil(&mut value, random);
        }
        let bytes = value.to_string();
        valid_after_all += usize::from(Blueprint::from_json(bytes.as_bytes()).is_ok());
        survives(bytes.as_bytes());
    }
    assert!(valid_after_all > 100, "only {valid_after_all} were valid: the test no longer gets past the notation");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        survives(&bytes);
    }

    #[test]
    fn any_changed_byte_is_read_or_refused(at in any::<proptest::sample::Index>(), byte in any::<u8>(), end in any::<proptest::sample::Index>()) {
        let mut bytes = valid().to_string().into_bytes();
        let position = at.index(bytes.len());
        bytes[position] = byte;
        survives(&bytes);
        bytes.truncate(end.index(bytes.len()));
        survives(&bytes);
    }
}
