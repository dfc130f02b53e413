//! `kasmina compile`: the kernel of one or more blueprints, in any of the forms it takes on its way to the device.

use crate::{output, source};
use clap::ValueEnum;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use kasmina::Result;
use kasmina::compile::codegen::{cuda, triton};
use kasmina::compile::{Architecture, KernelClass, Pass, Schedule, kernel_class, nvrtc};
use kasmina::graph::{Blueprint, DataType};
use std::path::PathBuf;

/// Print the kernel of blueprints, which a layer would run for all of its seeds
#[derive(clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    blueprints: source::Blueprints,
    /// What to print
    #[arg(long, value_enum, default_value = "cuda")]
    emit: Form,
    /// What the kernel is for
    #[arg(long, default_value = "forward", value_parser = passes())]
    pass: Pass,
    /// The element type of the layer's tensors
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = data_types())]
    dtype: DataType,
    /// Let a backward kernel compute the gradient of alpha
    #[arg(long)]
    alpha_gradient: bool,
    /// Round f32 to TF32 in products, as a layer does that allows it (the setting `allow_tf32`)
    #[arg(long)]
    tf32: bool,
    /// The compute capability: sm_80, sm_90
    #[arg(long, value_name = "ARCHITECTURE", default_value = "sm_90", value_parser = architecture)]
    arch: Architecture,
    /// How the kernel goes about it: `generic` is what a layer runs where `best` fails
    #[arg(long, default_value = "best", value_parser = schedules())]
    schedule: Schedule,
    /// Write to a file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// A form of a kernel.
#[derive(Clone, Copy, ValueEnum)]
enum Form {
    /// The steps that every backend reads
    Program,
    /// CUDA C++
    Cuda,
    /// Triton source with a function that launches it
    Triton,
    /// NVIDIA's virtual instructions, by NVRTC
    Ptx,
    /// NVIDIA's machine code, by NVRTC
    Cubin,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let blueprints = arguments.blueprints.read()?;
    let best = kernel_class(arguments.pass, arguments.dtype, arguments.alpha_gradient, &Vec::from_iter(&blueprints))?;
    let best = best.with_tf32(arguments.tf32, arguments.arch);
    let class = KernelClass { schedule: arguments.schedule, ..best };
    let cuda = || cuda::generate(&class, arguments.arch).map(|generated| generated.source);
    let file = arguments.output.as_deref();
    match arguments.emit {
        Form::Program => output::text(&programs(&class, &blueprints), file),
        Form::Cuda => output::text(&cuda()?, file),
        Form::Triton => output::text(&triton::generate(&class)?, file),
        Form::Ptx => output::text(&nvrtc::ptx(&cuda()?, arguments.arch)?, file),
        Form::Cubin => output::binary(&nvrtc::compile(&cuda()?, arguments.arch)?, "machine code", file),
    }
}

/// All programs of a class, each under its blueprint's name.
fn programs(class: &KernelClass, blueprints: &[Blueprint]) -> String {
    let sections = [(&class.programs, ""), (&class.frozen, ", parameters frozen")];
    let mut text = String::new();
    for (programs, what) in sections {
        for (branch, (program, blueprint)) in programs.iter().zip(blueprints).enumerate() {
            let space = if text.is_empty() { "" } else { "\n" };
            text += &format!("{space}# branch {branch}, {}{what}\n{program}", blueprint.name);
        }
    }
    text
}

pub fn passes() -> impl TypedValueParser<Value = Pass> {
    PossibleValuesParser::new(["forward", "backward", "train"]).map(|name| match name.as_str() {
        "backward" => Pass::Backward,
        "train" => Pass::Train,
        _ => Pass::Forward,
    })
}

fn schedules() -> impl TypedValueParser<Value = Schedule> {
    PossibleValuesParser::new(["best", "generic"]).map(|name| match name.as_str() {
        "generic" => Schedule::Generic,
        _ => Schedule::Best,
    })
}

pub fn data_types() -> impl TypedValueParser<Value = DataType> {
    PossibleValuesParser::new(["f32", "f16", "bf16", "f64"]).map(|name| match name.as_str() {
        "f16" => DataType::F16,
        "bf16" => DataType::BF16,
        "f64" => DataType::F64,
        _ => DataType::F32,
    })
}

fn architecture(name: &str) -> std::result::Result<Architecture, String> {
    let capability = name.strip_prefix("sm_").and_then(|digits| digits.parse().ok());
    let known = capability.filter(|capability| (10..1000).contains(capability));
    known
        .map(Architecture::Cuda)
        .ok_or_else(|| "an architecture is `sm_` and the compute capability, as in sm_90".into())
}
