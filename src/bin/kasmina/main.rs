//! The command line: a thin program over the library's public API. A file a command; nothing is computed here that the
//! library does not compute.
//!
//! An error is one sentence on standard error and exit code 1; wrong usage is exit code 2. A reader that closes the pipe
//! early has what it wants, and that is no error.

mod cache;
mod compile;
mod doctor;
mod drawing;
mod inspect;
mod ops;
mod output;
mod source;
mod table;
mod tune;
mod tuning;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Looks at blueprints, compiles them, lists what they can be made of, and looks after the kernel cache
/// and the tuning database.
#[derive(Parser)]
#[command(name = "kasmina", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Ops(ops::Arguments),
    Inspect(inspect::Arguments),
    Compile(compile::Arguments),
    Cache(cache::Arguments),
    Tune(tune::Arguments),
    Tuning(tuning::Arguments),
    Doctor(doctor::Arguments),
}

fn main() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Ops(arguments) => ops::run(&arguments),
        Command::Inspect(arguments) => inspect::run(&arguments),
        Command::Compile(arguments) => compile::run(&arguments),
        Command::Cache(arguments) => cache::run(&arguments),
        Command::Tune(arguments) => tune::run(&arguments),
        Command::Tuning(arguments) => tuning::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::complain(&error);
            ExitCode::FAILURE
        }
    }
}
