//! Every library blueprint, in every pass, compiles to machine code for an A100 and for an H100, and a few kernels for each
//! other architecture that NVRTC 13 knows, without a GPU, a driver or CUDA headers. Fails where NVRTC is missing, unless `KASMINA_TEST_WITHOUT_NVRTC=1` says that it may be.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use kasmina::Status;
use kasmina::compile::codegen::cuda::{Image, compile, generate};
use kasmina::compile::{Architecture, KernelClass, Pass, Schedule, kernel_class, nvrtc};
use kasmina::graph::{Attribute, Attributes, Blueprint, DataType, LIBRARY, library};
use kasmina::store::{GENERATOR_VERSION, Key};

const PASSES: [Pass; 3] = [Pass::Forward, Pass::Backward, Pass::Train];
const ARCHITECTURES: [Architecture; 2] = [Architecture::Cuda(80), Architecture::Cuda(90)];

fn may_skip() -> bool {
    std::env::var("KASMINA_TEST_WITHOUT_NVRTC").is_ok_and(|value| value == "1")
}

fn blueprints(chunk: usize) -> Vec<Blueprint> {
    LIBRARY.iter().map(|name| library(name, chunk, &Attributes::new()).unwrap()).collect()
}

fn assert_compiles(class: &KernelClass, architecture: Architecture, what: &str) {
    match compile(class, architecture) {
        Ok(bytes) => assert!(!Image::from_bytes(&bytes).unwrap().machine_code.is_empty()),
        Err(error) => {
            let log =
                error.attachments().iter().find(|(name, _)| name == "compiler log").map(|(_, text)| text.as_str());
            panic!("{what} for {architecture}: {error}\n{}", log.unwrap_or_default());
        }
    }
}

#[test]
fn every_library_blueprint_compiles_in_every_pass_for_both_architectures() {
    if may_skip() {
        return;
    }
    let blueprints = blueprints(64);
    for pass in PASSES {
        for (position, blueprint) in blueprints.iter().enumerate() {
            let class = kernel_class(pass, DataType::BF16, true, &[blueprint]).unwrap();
            let architecture = ARCHITECTURES[position % 2];
            assert_compiles(&class, architecture, &format!("{} {pass:?}", LIBRARY[position]));
        }
        // All of them in one kernel, as in a layer in which all are live.
        let all: Vec<_> = blueprints.iter().collect();
        let data_type = [DataType::F32, DataType::F64, DataType::F16][pass as usize];
        let class = kernel_class(pass, data_type, pass == Pass::Backward, &all).unwrap();
        for architecture in ARCHITECTURES {
            assert_compiles(&class, architecture, &format!("all blueprints {pass:?} {}", data_type.name()));
        }
    }
}

/// A kernel as fragments, where there are any, and a generic one, small ones: over three turns every pass and type of both.
fn few(turn: usize) -> [KernelClass; 2] {
    let width = [("width".to_string(), Attribute::Integer(8))];
    let bottleneck = library("bottleneck", 16, &width.into()).unwrap();
    let types = [DataType::BF16, DataType::F32, DataType::F16];
    let class = |turn: usize| kernel_class(PASSES[turn % 3], types[turn % 3], true, &[&bottleneck]).unwrap();
    [class(turn), KernelClass { schedule: Schedule::Generic, ..class(turn + 1) }]
}

/// Turing, the smaller cards of Ampere and Ada, both Blackwells.
#[test]
fn every_architecture_that_nvrtc_knows_has_kernels() {
    if may_skip() {
        return;
    }
    for (turn, capability) in [75, 86, 89, 100, 120].into_iter().enumerate() {
        let [best, generic] = few(turn);
        // What is generic is the same text for all of them.
        for class in [Some(best), (capability == 120).then_some(generic)].into_iter().flatten() {
            let what = format!("{:?} {} {}", class.pass, class.data_type.name(), class.schedule.name());
            assert_compiles(&class, Architecture::Cuda(capability), &what);
        }
    }
}

/// NVRTC 13 no longer compiles for Volta. Where `KASMINA_TEST_NVRTC_12` names an NVRTC 12, a child with that one does.
#[test]
fn volta_has_kernels_by_nvrtc_12() {
    if std::env::var_os("KASMINA_NVRTC_12_CHILD").is_some() {
        for turn in 0..3 {
            few(turn).iter().for_each(|class| assert_compiles(class, Architecture::Cuda(70), "Volta"));
        }
        return;
    }
    let Some(path) = std::env::var_os("KASMINA_TEST_NVRTC_12") else {
        eprintln!("not run: KASMINA_TEST_NVRTC_12 names no libnvrtc.so.12");
        return;
    };
    let mut child = std::process::Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", "volta_has_kernels_by_nvrtc_12"]);
    let output = child.env("KASMINA_NVRTC", path).env("KASMINA_NVRTC_12_CHILD", "1").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// What Volta compiles is what Turing compiles: without instructions that came with 8.0, whatever the type.
#[test]
fn kernels_for_volta_and_turing_have_no_instructions_of_later_ones() {
    let later = ["mma.sync", "cp.async", "movmatrix", "ldmatrix", "stmatrix", "bf16x2", "tf32", ".NaN."];
    for turn in 0..3 {
        for class in few(turn) {
            for capability in [70, 72, 75] {
                let source = generate(&class, Architecture::Cuda(capability)).unwrap().source;
                let found: Vec<_> = later.iter().filter(|name| source.contains(**name)).collect();
                assert!(found.is_empty(), "{found:?} in a {:?} kernel for sm_{capability}", class.pass);
            }
            let ampere = generate(&class, Architecture::Cuda(80)).unwrap().source;
            let fragments = class.schedule == Schedule::Best;
            assert_eq!(ampere.contains("mma.sync") && ampere.contains("cp.async"), fragments);
        }
    }
}

/// The text of f32 kernels alone follows the setting; of others it makes no difference.
#[test]
fn tf32_is_one_product_where_f32_is_three() {
    let bottleneck = library("bottleneck", 16, &[("width".to_string(), Attribute::Integer(8))].into()).unwrap();
    for pass in PASSES {
        for data_type in [DataType::F32, DataType::BF16] {
            let exact = kernel_class(pass, data_type, true, &[&bottleneck]).unwrap();
            let rounded = KernelClass { tf32: true, ..exact.clone() };
            let [one, three] = [&rounded, &exact].map(|class| generate(class, Architecture::Cuda(90)).unwrap());
            let products = |text: &str| text.matches("  multiply(sums, a[0]").count();
            if data_type == DataType::BF16 {
                assert_eq!(one.source, three.source);
                continue;
            }
            assert_eq!((products(&one.source), products(&three.source)), (1, 3));
            assert!(one.shape.shared_bytes < three.shape.shared_bytes, "weights take half the room");
            let key = |class| Key::new(class, Architecture::Cuda(90), GENERATOR_VERSION, "13.0").unwrap();
            assert_ne!(key(&rounded), key(&exact));
            if !may_skip() {
                assert_compiles(&rounded, Architecture::Cuda([80, 90, 120][pass as usize]), "TF32");
            }
        }
    }
}

#[test]
fn tf32_makes_another_class_only_where_it_changes_a_kernel() {
    let bottleneck = library("bottleneck", 16, &[("width".to_string(), Attribute::Integer(8))].into()).unwrap();
    let class = |data_type| kernel_class(Pass::Forward, data_type, true, &[&bottleneck]).unwrap();
    let is_rounded = |class: &KernelClass, architecture| class.clone().with_tf32(true, architecture).tf32;
    let f32 = class(DataType::F32);
    assert!(is_rounded(&f32, Architecture::Cuda(80)) && is_rounded(&f32, Architecture::Cuda(120)));
    assert!(!is_rounded(&f32, Architecture::Cuda(75)) && !is_rounded(&f32, Architecture::Cpu));
    assert!(!f32.clone().with_tf32(false, Architecture::Cuda(90)).tf32, "nobody allowed it");
    for other in [DataType::F16, DataType::BF16, DataType::F64] {
        assert!(!is_rounded(&class(other), Architecture::Cuda(90)), "{other:?}");
    }
    let identity = KernelClass { programs: Vec::new(), ..f32 };
    assert!(!is_rounded(&identity, Architecture::Cuda(90)));
}

#[test]
fn both_schedules_compile_to_kernels_of_their_own() {
    if may_skip() {
        return;
    }
    let bottleneck = library("bottleneck", 64, &Attributes::new()).unwrap();
    for (pass, data_type) in PASSES.into_iter().zip([DataType::F32, DataType::F16, DataType::BF16]) {
        let best = kernel_class(pass, data_type, true, &[&bottleneck]).unwrap();
        let generic = KernelClass { schedule: Schedule::Generic, ..best.clone() };
        let [one, other] = [&best, &generic].map(|class| generate(class, Architecture::Cuda(90)).unwrap().source);
        assert!(one.contains("place_of_lane") && !other.contains("place_of_lane"), "{pass:?} {}", data_type.name());
        let key = |class| Key::new(class, Architecture::Cuda(90), GENERATOR_VERSION, "13.0").unwrap();
        assert_ne!(key(&best), key(&generic));
        for class in [&best, &generic] {
            assert_compiles(class, Architecture::Cuda(90), &format!("{pass:?}, schedule {}", class.schedule.name()));
        }
    }
}

/// For NVRTC, time is instructions.
#[test]
fn the_loops_of_a_long_program_are_not_unrolled_and_those_of_a_short_one_are() {
    let unrolled = |layers: usize| {
        let mut document = r#"{"ir_version": 1, "name": "layers", "chunk": 16, "output": "y", "#.to_string();
        let parameters = (0..layers).map(|layer| format!(r#"{{"name": "w{layer}", "shape": [16, 16]}}"#));
        let nodes = (0..layers).map(|layer| {
            let input = if layer == 0 { "x".to_string() } else { format!("h{}", layer - 1) };
            let output = if layer + 1 == layers { "y".to_string() } else { format!("h{layer}") };
            format!(
                r#"{{"name": "inner{layer}", "op": "linear", "inputs": ["{input}", "w{layer}"]}},
                   {{"name": "{output}", "op": "tanh", "inputs": ["inner{layer}"]}}"#
            )
        });
        let [parameters, nodes] = [parameters.collect::<Vec<_>>(), nodes.collect()].map(|entries| entries.join(","));
        document += &format!(r#""parameters": [{parameters}], "nodes": [{nodes}]}}"#);
        let blueprint = Blueprint::from_json(document.as_bytes()).unwrap();
        let class = kernel_class(Pass::Forward, DataType::F32, true, &[&blueprint]).unwrap();
        let class = KernelClass { schedule: Schedule::Generic, ..class };
        let source = generate(&class, Architecture::Cuda(90)).unwrap().source;
        source.matches("#pragma unroll 4\n    for (int item = ").count()
    };
    assert!(unrolled(10) >= 10, "{}", unrolled(10));
    assert_eq!(unrolled(40), 0);
}

/// In scratch memory, a lane has eight neighbouring elements at a time: of rows as they came they are vectors, if they begin at one.
#[test]
fn rows_are_read_in_vectors_where_those_begin() {
    for (start, is_in_vectors) in [(16, true), (8, true), (4, false), (1, false)] {
        let stop = start + 48;
        let document = format!(
            r#"{{"ir_version": 1, "name": "part", "chunk": 64, "output": "y", "parameters": [{{"name": "taps", "shape": [3]}}],
                 "nodes": [{{"name": "part", "op": "slice", "inputs": ["x"], "attributes": {{"start": {start}, "stop": {stop}}}}},
                           {{"name": "rest", "op": "slice", "inputs": ["x"], "attributes": {{"stop": 16}}}},
                           {{"name": "mixed", "op": "conv1d", "inputs": ["part", "taps"]}},
                           {{"name": "y", "op": "concat", "inputs": ["mixed", "rest"]}}]}}"#
        );
        let blueprint = Blueprint::from_json(document.as_bytes()).unwrap();
        let class = kernel_class(Pass::Forward, DataType::BF16, false, &[&blueprint]).unwrap();
        let source = generate(&class, Architecture::Cuda(90)).unwrap().source;
        let of_part = |function: &str, index: &str| source.contains(&format!("{function}rows_of_x, row, {index})"));
        let index = format!("i0 + {start}");
        assert_eq!(of_part("elements_of(a0, ", &index), is_in_vectors, "from {start}");
        assert_eq!(of_part("element_of(", &index.replace("i0", "i0 + p")), !is_in_vectors, "from {start}");
    }
}

#[test]
fn chunks_of_one_seven_and_a_thousand_channels_compile() {
    if may_skip() {
        return;
    }
    for (chunk, pass, data_type) in [
        (1, Pass::Backward, DataType::F32),
        (7, Pass::Forward, DataType::F16),
        (1000, Pass::Backward, DataType::BF16),
        (1000, Pass::Train, DataType::F64),
    ] {
        let one = library("bottleneck", chunk, &[("width".to_string(), Attribute::Integer(16))].into()).unwrap();
        let two = library("squeeze_excite", chunk, &[("width".to_string(), Attribute::Integer(16))].into()).unwrap();
        let class = kernel_class(pass, data_type, true, &[&one, &two]).unwrap();
        assert_compiles(&class, Architecture::Cuda(90), &format!("chunks of {chunk} {pass:?}"));
    }
}

/// Widths of chunks from 1 to 1024, most of them no powers of two.
const WIDTHS: [usize; 14] = [1, 2, 3, 7, 31, 64, 100, 127, 255, 513, 768, 1000, 1023, 1024];

#[test]
fn no_width_up_to_1024_is_too_large_for_any_library_blueprint() {
    let mut too_large = Vec::new();
    for chunk in WIDTHS {
        for (name, blueprint) in LIBRARY.iter().zip(blueprints(chunk)) {
            for pass in PASSES {
                for data_type in [DataType::BF16, DataType::F64] {
                    let class = kernel_class(pass, data_type, true, &[&blueprint]).unwrap();
                    for architecture in ARCHITECTURES {
                        if let Err(error) = generate(&class, architecture) {
                            too_large.push(format!("{name} of {chunk} {pass:?} {data_type:?} {architecture}: {error}"));
                        }
                    }
                }
            }
        }
    }
    assert!(too_large.is_empty(), "{}", too_large.join("\n"));
}

#[test]
fn a_blueprint_that_cannot_fit_says_how_much_it_needs() {
    let blueprint = library("residual", 60_000, &Attributes::new()).unwrap();
    let class = kernel_class(Pass::Forward, DataType::F64, false, &[&blueprint]).unwrap();
    let error = generate(&class, Architecture::Cuda(80)).unwrap_err();
    assert_eq!(error.status(), Status::KernelTooLarge);
    assert!(error.message().contains("sm_80 has 166912"), "{error}");
}

#[test]
fn a_missing_nvrtc_is_an_error_that_names_where_it_was_looked_for() {
    // In a child, so that the variable does not change what the other tests find.
    if std::env::var_os("KASMINA_NVRTC_CHILD").is_some() {
        let error = nvrtc::compile("", Architecture::Cuda(90)).unwrap_err();
        assert_eq!(error.status(), Status::CompilerUnavailable);
        assert!(error.message().contains("KASMINA_NVRTC=/nowhere/libnvrtc.so.13"), "{error}");
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_missing_nvrtc_is_an_error_that_names_where_it_was_looked_for"])
        .env("KASMINA_NVRTC", "/nowhere/libnvrtc.so.13")
        .env("KASMINA_NVRTC_CHILD", "1")
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 passed"));
}

/// `KASMINA_UPDATE_DOCUMENTATION=1 cargo test --test cuda_compiles` rewrites the page.
#[test]
fn the_kernel_in_the_documentation_is_the_one_that_is_printed() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/generated-kernel.md");
    let blueprint = library("bottleneck", 64, &Attributes::new()).unwrap();
    let class = kernel_class(Pass::Backward, DataType::BF16, true, &[&blueprint]).unwrap();
    let generated = generate(&class, Architecture::Cuda(90)).unwrap();
    let page = format!(
        "# A generated kernel\n\n\
         What is printed for the backward pass of a layer whose only blueprint is `bottleneck` on chunks of 64 channels, in \
         bf16, for sm_90: {} rows at a time in a block, {} threads, {} bytes of shared memory. The text between the constants and the \
         first program, and after the last, is that of every kernel of this type of rows whose programs run in fragments.\n\n```cuda\n{}```\n",
        generated.shape.rows, generated.shape.threads, generated.shape.shared_bytes, generated.source
    );
    if std::env::var_os("KASMINA_UPDATE_DOCUMENTATION").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &page).unwrap();
    }
    let documented = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(documented == page, "{} is not what is printed; see the comment of this test", path.display());
}
