//! Every field alone changes the key.

use crate::samples::{class, program};
use kasmina::compile::*;
use kasmina::graph::{Attribute, Attributes, Blueprint, DataType, RowInput, Scalar, Shape, library};
use kasmina::store::{GENERATOR_VERSION, Key, Preimage};
use std::path::{Path, PathBuf};

fn key_of(class: &KernelClass) -> Key {
    Key::new(class, Architecture::Cuda(90), "generator", "compiler").unwrap()
}

#[test]
fn equal_content_gives_equal_keys() {
    let (one, other) = (key_of(&class(64)), key_of(&class(64)));
    assert_eq!(one, other);
    assert_eq!(one.digest(), other.digest());
    assert_eq!(one.to_string().len(), 64);
    assert_eq!(one.digest(), blake3::hash(one.preimage()).as_bytes());
}

#[test]
fn every_field_of_a_class_changes_the_key() {
    type Change = fn(&mut KernelClass);
    let changes: [(&str, Change); 31] = [
        ("pass", |class| class.pass = Pass::Train),
        ("schedule", |class| class.schedule = Schedule::Generic),
        ("TF32", |class| class.tf32 = true),
        ("data type", |class| class.data_type = DataType::BF16),
        ("chunk", |class| class.chunk += 1),
        ("no programs", |class| class.programs.clear()),
        ("one more program", |class| class.programs.push(program(64))),
        ("a frozen program", |class| class.frozen.push(program(64))),
        ("frozen instead of not", |class| std::mem::swap(&mut class.programs, &mut class.frozen)),
        ("program chunk", |class| class.programs[0].chunk = 32),
        ("elements of a value", |class| class.programs[0].values[1].elements = 63),
        ("type of a value", |class| class.programs[0].values[1].data_type = DataType::Bool),
        ("uniform value", |class| class.programs[0].values[1].per_row = false),
        ("row input", |class| class.programs[0].values[0].source = Source::Row(RowInput::Target)),
        ("parameter", |class| class.programs[0].values[0].source = Source::Parameter(0)),
        ("parameter offset", |class| class.programs[0].values[0].source = Source::Parameter(1)),
        ("scalar", |class| class.programs[0].values[0].source = Source::Scalar(Scalar::Alpha)),
        ("step in the prologue", |class| {
            let step = class.programs[0].body.remove(0);
            class.programs[0].prologue.push(step);
        }),
        ("step in accumulate", |class| {
            let step = class.programs[0].body.remove(0);
            class.programs[0].accumulate.push(step);
        }),
        ("step in the epilogue", |class| {
            let step = class.programs[0].body.remove(0);
            class.programs[0].epilogue.push(step);
        }),
        ("result of a step", |class| class.programs[0].body[0].result = ValueId(0)),
        ("shape of a step", |class| class.programs[0].body[0].shape = Shape::new([8, 8])),
        ("reduced shape", |class| class.programs[0].body[0].reduced = Shape::new([1])),
        ("reducer", |class| class.programs[0].body[0].reducer = Reducer::Max),
        ("operand", |class| class.programs[0].body[0].operands[0].value = ValueId(1)),
        ("offset", |class| class.programs[0].body[0].operands[0].offset = 1),
        ("stride", |class| class.programs[0].body[0].operands[0].strides[0] = 0),
        ("expression", |class| class.programs[0].body[0].expression = Expression::Operand(0)),
        ("output", |class| class.programs[0].outputs[0].target = Destination::AlphaGradient),
        ("guards", |class| class.programs[0].guards.clear()),
        ("fallback", |class| class.programs[0].fallback = RowInput::OutputGradient),
    ];
    let mut keys = vec![("unchanged", key_of(&class(64)))];
    for (name, change) in changes {
        let mut changed = class(64);
        change(&mut changed);
        let key = key_of(&changed);
        for (other, seen) in &keys {
            assert_ne!(seen.digest(), key.digest(), "{name} gives the key of {other}");
        }
        keys.push((name, key));
    }
}

#[test]
fn constants_that_differ_in_one_bit_change_the_key() {
    let numbers = [0.0, -0.0, 0.5, f64::from_bits(0.5f64.to_bits() + 1), f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    let keys: Vec<Key> = numbers
        .map(|number| {
            let mut class = class(64);
            class.programs[0].body[0].expression = Expression::Constant(number);
            key_of(&class)
        })
        .into();
    for (position, key) in keys.iter().enumerate() {
        assert!(!keys[..position].contains(key), "{} has the key of another number", numbers[position]);
    }
}

#[test]
fn architecture_and_versions_each_change_the_key() {
    let class = class(64);
    let of = |architecture, generator, compiler| Key::new(&class, architecture, generator, compiler).unwrap();
    let keys = [
        of(Architecture::Cpu, "1", "2"),
        of(Architecture::Cuda(80), "1", "2"),
        of(Architecture::Cuda(90), "1", "2"),
        of(Architecture::Cuda(90), "2", "2"),
        of(Architecture::Cuda(90), "1", "3"),
        // Where one version ends and the next begins counts as well.
        of(Architecture::Cuda(90), "12", ""),
        of(Architecture::Cuda(90), "", "12"),
    ];
    for (position, key) in keys.iter().enumerate() {
        assert!(!keys[..position].contains(key), "key {position} is that of another");
    }
}

/// What a layer's kernel depends on, each input by itself.
#[derive(Clone)]
struct Inputs {
    blueprints: Vec<Blueprint>,
    pass: Pass,
    data_type: DataType,
    alpha_gradient: bool,
    architecture: Architecture,
    generator: &'static str,
    compiler: &'static str,
}

impl Inputs {
    fn key(&self) -> Key {
        let blueprints: Vec<_> = self.blueprints.iter().collect();
        let class = kernel_class(self.pass, self.data_type, self.alpha_gradient, &blueprints).unwrap();
        Key::new(&class, self.architecture, self.generator, self.compiler).unwrap()
    }
}

fn bottleneck(chunk: usize, width: i64) -> Blueprint {
    library("bottleneck", chunk, &Attributes::from([("width".to_string(), Attribute::Integer(width))])).unwrap()
}

/// A blueprint of names and a constant of our choice.
fn normalized(blueprint: &str, value: &str, eps: &str) -> Blueprint {
    let document = format!(
        r#"{{"ir_version": 1, "name": "{blueprint}", "chunk": 16, "output": "{value}", "nodes": [
            {{"name": "{value}", "op": "rms_norm", "inputs": ["x"], "attributes": {{"eps": {eps}}}}}]}}"#
    );
    Blueprint::from_json(document.as_bytes()).unwrap()
}

#[test]
fn each_input_of_a_layers_kernel_alone_changes_the_key() {
    type Change = fn(&mut Inputs);
    let unchanged = Inputs {
        blueprints: vec![bottleneck(16, 8), normalized("one", "y", "0.5")],
        pass: Pass::Backward,
        data_type: DataType::F32,
        alpha_gradient: false,
        architecture: Architecture::Cuda(90),
        generator: "generator",
        compiler: "compiler",
    };
    let changes: [(&str, Change); 15] = [
        ("graph", |inputs| inputs.blueprints[0] = library("mlp", 16, &Attributes::new()).unwrap()),
        ("width of a graph", |inputs| inputs.blueprints[0] = bottleneck(16, 4)),
        ("constant in a graph", |inputs| inputs.blueprints[1] = normalized("one", "y", "0.5000001")),
        ("order of the graphs", |inputs| inputs.blueprints.reverse()),
        ("one graph less", |inputs| drop(inputs.blueprints.pop())),
        ("one graph twice", |inputs| inputs.blueprints.push(bottleneck(16, 8))),
        ("chunk", |inputs| inputs.blueprints = vec![bottleneck(32, 8)]),
        ("forward", |inputs| inputs.pass = Pass::Forward),
        ("train", |inputs| inputs.pass = Pass::Train),
        ("data type", |inputs| inputs.data_type = DataType::BF16),
        ("gradient of alpha", |inputs| inputs.alpha_gradient = true),
        ("architecture", |inputs| inputs.architecture = Architecture::Cuda(80)),
        ("device", |inputs| inputs.architecture = Architecture::Cpu),
        ("generator", |inputs| inputs.generator = "generator 2"),
        ("compiler", |inputs| inputs.compiler = "compiler 2"),
    ];
    let mut keys = vec![("unchanged", unchanged.key())];
    for (name, change) in changes {
        let mut changed = unchanged.clone();
        change(&mut changed);
        let key = changed.key();
        for (other, seen) in &keys {
            assert_ne!(seen.digest(), key.digest(), "{name} gives the key of {other}");
        }
        keys.push((name, key));
    }
}

#[test]
fn names_do_not_change_the_key() {
    let of = |blueprint: &Blueprint| {
        let class = kernel_class(Pass::Forward, DataType::F32, false, &[blueprint]).unwrap();
        Key::new(&class, Architecture::Cpu, "generator", "compiler").unwrap()
    };
    assert_eq!(of(&normalized("one", "y", "0.5")), of(&normalized("another", "result", "0.5")));
}

#[test]
fn a_key_says_what_it_is_of() {
    let of = |generator| Key::new(&class(64), Architecture::Cuda(90), generator, "compiler").unwrap().read();
    let said = |generator: &str, class| {
        let (generator, compiler) = (generator.to_string(), "compiler".to_string());
        Some(Preimage { generator, compiler, architecture: Architecture::Cuda(90), class })
    };
    assert_eq!(of(GENERATOR_VERSION), said(GENERATOR_VERSION, Some(class(64))));
    assert_eq!(of("another"), said("another", None), "its classes may be laid out in another way");
}

/// Every file of source under a path.
fn sources(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    std::fs::read_dir(path).unwrap().flat_map(|entry| sources(&entry.unwrap().path())).collect()
}

#[test]
fn the_version_of_the_generators_is_a_digest_of_all_that_they_are_made_of() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let build = std::fs::read_to_string(root.join("build.rs")).unwrap();
    let list = build.split_once("const GENERATOR").unwrap().1.split_once("= [").unwrap().1.split_once(']').unwrap().0;
    let digested: Vec<&str> = list.split(',').map(|path| path.trim().trim_matches('"')).collect();
    assert!(digested.iter().all(|path| root.join(path).exists()), "{digested:?}");
    // Errors tell of kernels and are no part of them.
    let harmless = ["error", "fail"];
    let mut seen = 0;
    for file in sources(&root.join("src/compile/codegen")).iter().chain(&sources(&root.join("src/device"))) {
        for place in std::fs::read_to_string(file).unwrap().split("crate::").skip(1) {
            let module: String =
                place.chars().take_while(|letter| letter.is_alphanumeric() || *letter == '_').collect();
            let paths = [format!("src/{module}"), format!("src/{module}.rs")];
            if module.is_empty()
                || harmless.contains(&module.as_str())
                || !paths.iter().any(|path| root.join(path).exists())
            {
                continue;
            }
            seen += 1;
            let covered = paths.iter().any(|path| digested.contains(&path.as_str()));
            assert!(covered, "{} reads {module}, which build.rs does not digest", file.display());
        }
    }
    assert!(seen > 50, "{seen} uses of other modules were found");
}
