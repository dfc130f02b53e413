//! Prints random valid blueprints as JSON, one a line: `--count` (500) of them, other ones for every `--seed` (1).

#[path = "../tests/rust/random_blueprints/generator/mod.rs"]
mod generator;

use generator::{Choices, blueprint};
use std::io::Write;

/// Bytes of choices that a graph may use: more than the longest ones need.
const CHOICES: usize = 1024;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (mut count, mut seed) = (500u64, 1u64);
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let number = arguments.next().ok_or_else(|| format!("{name} needs a number"))?.parse()?;
        match name.as_str() {
            "--count" => count = number,
            "--seed" => seed = number,
            _ => return Err(format!("there is no argument {name}; there are --count and --seed").into()),
        }
    }
    let mut output = std::io::stdout().lock();
    for number in 0..count {
        // Seeds far apart, so that no graph of one seed is one of the next.
        writeln!(output, "{}", blueprint(&Choices::bytes((seed << 32) + number, CHOICES)))?;
    }
    Ok(())
}
