//! The program `kasmina`, run as people run it: what it prints, what it says when something is wrong, and how it ends.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "command_line/cache.rs"]
mod cache;
#[path = "command_line/doctor.rs"]
mod doctor;
#[path = "command_line/tuning.rs"]
mod tuning;

use kasmina::compile::{Architecture, KernelClass, Pass, Schedule, codegen::cuda, kernel_class};
use kasmina::graph::{Attributes, DataType, LIBRARY, Limits, library};
use kasmina::ops::Group;
use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_kasmina"))
}

/// What a successful call prints.
#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let output = program().args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    assert!(output.stderr.is_empty(), "{arguments:?} complains: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// What a call says that must fail with this exit code; nothing may be printed, and nothing may panic.
#[track_caller]
fn refused(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(output.stdout.is_empty(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(!said.contains("panicked"), "{said}");
    said
}

/// The output of `inspect -` for these bytes.
fn inspected(bytes: &[u8]) -> Output {
    let piped = || Stdio::piped();
    let mut child = program().args(["inspect", "-"]).stdin(piped()).stdout(piped()).stderr(piped()).spawn().unwrap();
    // A program that has seen enough closes its end.
    let _ = child.stdin.take().unwrap().write_all(bytes);
    child.wait_with_output().unwrap()
}

fn json(name: &str, chunk: usize) -> String {
    library(name, chunk, &Attributes::new()).unwrap().to_json().unwrap()
}

fn without_nvrtc() -> bool {
    std::env::var("KASMINA_TEST_WITHOUT_NVRTC").is_ok_and(|value| value == "1")
}

#[test]
fn ops_lists_every_operator_that_a_blueprint_may_use_and_no_other() {
    let table = printed(&["ops"]);
    let rows: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    let entries: Vec<serde_json::Value> = serde_json::from_str(&printed(&["ops", "--json"])).unwrap();
    let names: Vec<_> = entries.iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    for operator in kasmina::ops::all() {
        let (name, documentation) = (operator.name(), operator.documentation());
        let expected = documentation.group != Group::Internal;
        assert_eq!(names.contains(&name), expected, "{name} in JSON");
        assert_eq!(rows.iter().any(|row| row.first() == Some(&name)), expected, "{name} in the table");
        let found = entries.iter().find(|entry| entry["name"] == name);
        assert!(found.is_none_or(|entry| entry["operations"] == documentation.cost), "{name}");
    }
    let linear = entries.iter().find(|entry| entry["name"] == "linear").unwrap();
    assert_eq!((linear["fewest_inputs"].as_u64(), linear["most_inputs"].as_u64()), (Some(2), Some(3)));
    let row = rows.iter().find(|row| row.first() == Some(&"linear")).unwrap().join(" ");
    assert!(row.starts_with("linear a weight [bias]"), "{row}");
}

#[test]
fn inspect_tells_hash_parameters_shapes_and_limits() {
    let blueprint = library("squeeze_excite", 64, &Attributes::new()).unwrap();
    let hash: String = blueprint.hash().iter().map(|byte| format!("{byte:02x}")).collect();
    let text = printed(&["inspect", "library:squeeze_excite", "--chunk", "64"]);
    let row = |first: &str| {
        let found = text.lines().find(|line| line.split_whitespace().next() == Some(first));
        found
            .unwrap_or_else(|| panic!("no line for {first} in\n{text}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert!(row("hash").ends_with(&hash));
    assert_eq!(row("w2"), "w2 [64, 16] 1024 1040 zeros");
    assert_eq!(row("b2"), "b2 [64] 64 2064 {constant:3.0}");
    // 16 sums of 64 products, and 16 additions of the bias.
    assert_eq!(row("inner"), "inner linear(x, w1, b1) f32 [16] 2064 row");
    assert_eq!(row("h"), "h relu(inner) f32 [16] 16 row");
    assert!(row("values:").contains("4320 operations for a row"), "{}", row("values:"));
    assert_eq!(row("nodes"), "nodes 5 1024");
    assert_eq!(row("calls"), "calls in a chain 5 256");
}

#[test]
fn a_file_standard_input_and_the_library_give_the_same_blueprint() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blueprint.json");
    let document = json("bottleneck", 16);
    std::fs::write(&path, &document).unwrap();
    let from_library = printed(&["inspect", "library:bottleneck", "--chunk", "16"]);
    assert_eq!(printed(&["inspect", path.to_str().unwrap()]), from_library);
    assert_eq!(String::from_utf8(inspected(document.as_bytes()).stdout).unwrap(), from_library);
    let narrow = printed(&["inspect", "library:bottleneck,width=2", "--chunk", "16"]);
    assert!(narrow.contains("[2, 16]"), "{narrow}");
}

#[test]
fn drawings_show_every_value_once_and_every_use_of_it() {
    for name in LIBRARY {
        let blueprint = library(name, 8, &Attributes::new()).unwrap();
        let nodes = &blueprint.graph.nodes;
        let uses: usize = nodes
            .iter()
            .map(|node| match &node.source {
                kasmina::graph::Source::Operator { inputs, .. } => inputs.len(),
                _ => 0,
            })
            .sum();
        let source = format!("library:{name}");
        let svg = printed(&["inspect", &source, "--chunk", "8", "--svg"]);
        assert_eq!(svg.matches("marker-end").count(), uses, "lines of {name}");
        let dot = printed(&["inspect", &source, "--chunk", "8", "--dot"]);
        assert_eq!(dot.matches("->").count(), uses, "edges of {name}");
        for node in nodes {
            assert_eq!(svg.matches(&format!(">{}</text>", node.name)).count(), 1, "{} in {name}", node.name);
            assert_eq!(dot.matches(&format!("label=\"{}\\n", node.name)).count(), 1, "{} in {name}", node.name);
        }
    }
}

#[test]
fn boxes_of_a_drawing_do_not_overlap() {
    let svg = printed(&["inspect", "library:normalized_mlp", "--chunk", "64", "--svg"]);
    let boxes: Vec<[f64; 4]> = svg
        .lines()
        .filter(|line| line.starts_with("<rect x=") && line.contains("rx=\"6\""))
        .map(|line| {
            let parts: Vec<_> = line.split('"').collect();
            [1, 3, 5, 7].map(|part: usize| parts[part].parse().unwrap())
        })
        .collect();
    assert!(boxes.len() > 8);
    for (number, [x, y, width, height]) in boxes.iter().enumerate() {
        for [other_x, other_y, other_width, other_height] in &boxes[..number] {
            let beside = x >= &(other_x + other_width) || other_x >= &(x + width);
            let below = y >= &(other_y + other_height) || other_y >= &(y + height);
            assert!(beside || below);
        }
    }
}

#[test]
fn text_in_a_drawing_is_escaped() {
    let document = r#"{"ir_version": 1, "name": "e", "chunk": 4, "nodes": [
        {"name": "y", "op": "einsum", "inputs": ["x", "x"], "attributes": {"equation": "a,a->a"}}], "output": "y"}"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blueprint.json");
    std::fs::write(&path, document).unwrap();
    let path = path.to_str().unwrap();
    let svg = printed(&["inspect", path, "--svg"]);
    assert!(svg.contains("equation=&quot;a,a-&gt;a&quot;"), "{svg}");
    assert!(printed(&["inspect", path, "--dot"]).contains(r#"equation=\"a,a->a\""#));
}

#[test]
fn compile_prints_what_the_library_generates() {
    let blueprint = library("mlp", 8, &Attributes::new()).unwrap();
    let class = kernel_class(Pass::Backward, DataType::BF16, true, &[&blueprint]).unwrap();
    let options = ["library:mlp", "--chunk", "8", "--pass", "backward", "--dtype", "bf16", "--alpha-gradient"];
    let source = printed(&[&["compile"], &options[..], &["--arch", "sm_80", "--emit", "cuda"]].concat());
    assert_eq!(source, cuda::generate(&class, Architecture::Cuda(80)).unwrap().source);
    let generic = KernelClass { schedule: Schedule::Generic, ..class.clone() };
    let source = printed(&[&["compile"], &options[..], &["--arch", "sm_80", "--schedule", "generic"]].concat());
    assert_eq!(source, cuda::generate(&generic, Architecture::Cuda(80)).unwrap().source);
    let class_of_f32 = kernel_class(Pass::Forward, DataType::F32, false, &[&blueprint]).unwrap();
    let rounded = class_of_f32.with_tf32(true, Architecture::Cuda(90));
    let source = printed(&["compile", "library:mlp", "--chunk", "8", "--tf32"]);
    assert_eq!(source, cuda::generate(&rounded, Architecture::Cuda(90)).unwrap().source);
    let programs = printed(&[&["compile"], &options[..], &["--emit", "program"]].concat());
    for program in class.programs.iter().chain(&class.frozen) {
        assert!(programs.contains(&program.to_string()), "{programs}");
    }
}

#[test]
fn compile_prints_triton_source_for_every_blueprint_named() {
    let blueprints = ["library:mlp", "library:attention"];
    let source = printed(&[&["compile"], &blueprints[..], &["--chunk", "8", "--emit", "triton"]].concat());
    assert!(source.contains("def kasmina(") && source.contains("def launch("), "{source}");
    assert!(source.contains("def program_1(") && !source.contains("def program_2("), "{source}");
}

#[test]
fn compile_makes_ptx_and_machine_code_for_the_architecture_named() {
    if without_nvrtc() {
        return;
    }
    let both = ["compile", "library:mlp", "library:residual", "--chunk", "8"];
    let ptx = printed(&[&both[..], &["--emit", "ptx", "--arch", "sm_80"]].concat());
    assert!(ptx.contains(".target sm_80") && ptx.contains(".entry kasmina("), "{ptx}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kernel.cubin");
    printed(&[&both[..], &["--emit", "cubin", "-o", path.to_str().unwrap()]].concat());
    let mut magic = [0; 4];
    std::fs::File::open(path).unwrap().read_exact(&mut magic).unwrap();
    assert_eq!(&magic, b"\x7fELF");
}

#[test]
fn hostile_input_is_refused_in_one_sentence() {
    let valid = json("bottleneck", 8);
    let mut endless = String::from("[").repeat(100_000);
    endless += "1";
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (Vec::new(), "not a blueprint"),
        (vec![0xff, 0xfe, 0x00], "not a blueprint"),
        (valid.as_bytes()[..valid.len() / 2].to_vec(), "not a blueprint"),
        (endless.into_bytes(), "not a blueprint"),
        (vec![b' '; Limits::DEFAULT.bytes + 4096], "bytes; at most"),
        (valid.replace("\"gelu\"", "\"__import__('os')\"").into_bytes(), "is not a name"),
        (valid.replace("\"inner\"", "\"a\\u001b[31m\"").into_bytes(), "is not a name"),
        (valid.replace("\"chunk\": 8", "\"chunk\": 99999999999").into_bytes(), "the chunk"),
    ];
    for (bytes, reason) in cases {
        let said = refused(&inspected(&bytes), 1);
        assert!(said.starts_with("kasmina: standard input: ") && said.contains(reason), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!said.contains('\u{1b}'), "an escape sequence reached the terminal: {said:?}");
    }
}

#[test]
fn an_input_without_end_is_refused() {
    let said = refused(&program().args(["inspect", "/dev/zero"]).output().unwrap(), 1);
    assert!(said.contains("`/dev/zero`") && said.contains("at most"), "{said}");
}

#[test]
fn what_is_wrong_is_named_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("blueprint.json");
    std::fs::write(&path, json("mlp", 8)).unwrap();
    let path = path.to_str().unwrap();
    let nowhere = folder.path().join("no/such/folder");
    let nowhere = nowhere.to_str().unwrap();
    let cases: &[(&[&str], &[&str])] = &[
        (&["inspect", "mlp"], &["`mlp` cannot be read", "library:NAME"]),
        (&["inspect", nowhere], &[nowhere, "cannot be read"]),
        (&["inspect", "library:mlp"], &["library:mlp", "--chunk N"]),
        (&["inspect", "library:resnet", "--chunk", "8"], &["resnet", "residual"]),
        (&["inspect", "library:mlp,width=8", "--chunk", "8"], &["`mlp` has no attribute \"width\""]),
        (&["inspect", "library:bottleneck,width", "--chunk", "8"], &["\"width\" is not an attribute of the form"]),
        (&["inspect", path, "--chunk", "9"], &[path, "8 channels, not 9", "leave --chunk out"]),
        (&["inspect", path, "-o", nowhere], &[nowhere, "cannot be written"]),
        (&["compile", path, "library:mlp", "--chunk", "0"], &["not 0"]),
    ];
    for (arguments, words) in cases {
        let said = refused(&program().args(*arguments).output().unwrap(), 1);
        assert!(words.iter().all(|word| said.contains(word)), "{arguments:?}: {said}");
        assert_eq!(said.lines().count(), 1, "{said}");
    }
}

#[test]
fn wrong_usage_is_exit_code_two() {
    for arguments in [
        &[][..],
        &["explode"],
        &["compile"],
        &["inspect", "-", "--dot", "--svg"],
        &["inspect", "-", "--chunk", "eight"],
        &["compile", "-", "--emit", "poetry"],
        &["compile", "-", "--pass", "sideways"],
        &["compile", "-", "--dtype", "i32"],
        &["compile", "-", "--arch", "sm_90; rm"],
        &["cache"],
        &["cache", "explode"],
        &["cache", "export"],
        &["cache", "gc", "--days", "-1"],
        &["doctor", "--fix"],
    ] {
        refused(&program().args(arguments).stdin(Stdio::null()).output().unwrap(), 2);
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    for arguments in [&["ops"][..], &["compile", "library:normalized_mlp", "--chunk", "64"]] {
        let mut child = program().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}");
        assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    }
}
