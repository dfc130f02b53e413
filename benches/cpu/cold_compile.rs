//! How long a kernel takes from its class to machine code, with nothing cached: `make bench-cache`.
//!
//! Each library blueprint in each pass and a blueprint of 60 operators, for an H100, by NVRTC, which needs no GPU. Given are the
//! medians of the time that passed and of the time that the thread was running, for other programs may want the processor as
//! well; and what NVRTC takes for a kernel that does nothing, and for a layer without blueprints. Arguments are names of
//! blueprints; without any it is all of them.

#![allow(missing_docs)]

use kasmina::compile::codegen::cuda;
use kasmina::compile::{Architecture, KernelClass, Pass, kernel_class, nvrtc};
use kasmina::graph::{Attributes, Blueprint, DataType, LIBRARY, library};
use kasmina::{Result, fail};
use std::fmt::Write;
use std::time::{Duration, Instant};

const ARCHITECTURE: Architecture = Architecture::Cuda(90);
const CHUNK: usize = 64;
const RUNS: usize = 3;
const PASSES: [Pass; 3] = [Pass::Forward, Pass::Backward, Pass::Train];

/// Ten blocks of six operators, with two products each.
fn sixty_operators() -> Result<Blueprint> {
    let (mut parameters, mut nodes, mut input) = (String::new(), String::new(), "x".to_string());
    for block in 0..10 {
        let comma = if block == 0 { "" } else { "," };
        let output = if block == 9 { "y".to_string() } else { format!("bounded{block}") };
        let _ = write!(
            parameters,
            r#"{comma}{{"name": "down{block}", "shape": [16, {CHUNK}], "initializer": "fan_in"}},
               {{"name": "up{block}", "shape": [{CHUNK}, 16]}}, {{"name": "scale{block}", "shape": [{CHUNK}]}}"#
        );
        let _ = write!(
            nodes,
            r#"{comma}{{"name": "inner{block}", "op": "linear", "inputs": ["{input}", "down{block}"]}},
               {{"name": "active{block}", "op": "gelu", "inputs": ["inner{block}"]}},
               {{"name": "outer{block}", "op": "linear", "inputs": ["active{block}", "up{block}"]}},
               {{"name": "scaled{block}", "op": "mul", "inputs": ["outer{block}", "scale{block}"]}},
               {{"name": "sum{block}", "op": "add", "inputs": ["{input}", "scaled{block}"]}},
               {{"name": "{output}", "op": "tanh", "inputs": ["sum{block}"]}}"#
        );
        input = output;
    }
    let document = format!(
        r#"{{"ir_version": 1, "name": "sixty_operators", "chunk": {CHUNK}, "parameters": [{parameters}], "nodes": [{nodes}],
            "output": "y"}}"#
    );
    Blueprint::from_json(document.as_bytes())
}

/// How long this thread has been running; nothing where the system does not say.
fn running() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = times.split(' ').next().and_then(|number| number.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// Compiles a few times and prints the medians.
fn time(what: &str, source_bytes: usize, compile: impl Fn() -> Result<Vec<u8>>) -> Result<()> {
    let (mut passed, mut ran, mut bytes) = (Vec::new(), Vec::new(), 0);
    for _ in 0..RUNS {
        let (started, before) = (Instant::now(), running());
        bytes = compile()?.len();
        passed.push(started.elapsed());
        ran.push(running() - before);
    }
    let [passed, ran] = [passed, ran].map(|mut times| {
        times.sort();
        times[RUNS / 2].as_secs_f64() * 1e3
    });
    println!("{what:40} {passed:8.0} ms, {ran:8.0} ms running, {source_bytes:7} bytes of source, {bytes:7} of code");
    Ok(())
}

fn time_class(name: &str, class: &KernelClass) -> Result<()> {
    let source = cuda::generate(class, ARCHITECTURE)?.source;
    let what = format!("{name} {} {}", class.pass.name(), class.data_type.name());
    time(&what, source.len(), || cuda::compile(class, ARCHITECTURE))
}

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let is_wanted = |name: &str| wanted.is_empty() || wanted.iter().any(|wanted| wanted == name);
    if let Some(name) = wanted.iter().find(|name| !LIBRARY.contains(&name.as_str()) && *name != "sixty_operators") {
        fail!(InvalidArgument, "there is no blueprint {name:?}; there are {} and sixty_operators", LIBRARY.join(", "));
    }
    println!("by {}, medians of {RUNS}", nvrtc::version()?);
    let nothing = "extern \"C\" __global__ void nothing() {}";
    time("nothing", nothing.len(), || nvrtc::compile(nothing, ARCHITECTURE))?;
    let residual = library("residual", CHUNK, &Attributes::new())?;
    for pass in PASSES {
        let class = kernel_class(pass, DataType::BF16, true, &[&residual])?;
        time_class("no blueprint", &KernelClass { programs: Vec::new(), frozen: Vec::new(), ..class })?;
    }
    for name in LIBRARY.iter().copied().chain(["sixty_operators"]).filter(|name| is_wanted(name)) {
        let blueprint = match name {
            "sixty_operators" => sixty_operators()?,
            _ => library(name, CHUNK, &Attributes::new())?,
        };
        let of_f32 = (name == "bottleneck").then_some(DataType::F32);
        for data_type in [DataType::BF16].into_iter().chain(of_f32) {
            for pass in PASSES {
                time_class(name, &kernel_class(pass, data_type, true, &[&blueprint])?)?;
            }
        }
    }
    Ok(())
}
