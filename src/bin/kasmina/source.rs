//! Where a blueprint comes from: a file, standard input, or the library.

use kasmina::graph::{Attribute, Attributes, Blueprint, Limits, library};
use kasmina::{Result, error, fail};
use std::io::Read;

/// The blueprints of one kernel.
#[derive(clap::Args)]
pub struct Blueprints {
    #[arg(value_name = "BLUEPRINT", required = true, help = HELP)]
    blueprints: Vec<String>,
    /// Channels of a seed's chunk; a library blueprint needs it
    #[arg(long, value_name = "N")]
    chunk: Option<usize>,
}

impl Blueprints {
    /// Reads them, in their order.
    pub fn read(&self) -> Result<Vec<Blueprint>> {
        self.blueprints.iter().map(|name| blueprint(name, self.chunk)).collect()
    }
}

/// What the help says of an argument that names a blueprint.
pub const HELP: &str =
    "A blueprint: a JSON file, `-` for standard input, or `library:NAME`, as in `library:bottleneck,width=8`";

/// What begins the name of a library blueprint.
const LIBRARY: &str = "library:";

/// The blueprint of this name. A library blueprint takes its width from `chunk`; any other must have this width, if one is
/// given.
pub fn blueprint(name: &str, chunk: Option<usize>) -> Result<Blueprint> {
    if let Some(entry) = name.strip_prefix(LIBRARY) {
        let Some(chunk) = chunk else {
            fail!(InvalidArgument, "`{name}` can have any width; give --chunk N, the channels of a seed");
        };
        let (entry, attributes) = entry.split_once(',').unwrap_or((entry, ""));
        return library(entry, chunk, &parse(attributes)?);
    }
    let blueprint = Blueprint::from_json(&read(name)?).map_err(|error| error.context(described(name)))?;
    match chunk {
        Some(chunk) if chunk != blueprint.chunk => fail!(
            InvalidArgument,
            "{} is for chunks of {} channels, not {chunk}; leave --chunk out, or give another blueprint",
            described(name),
            blueprint.chunk
        ),
        _ => Ok(blueprint),
    }
}

fn described(name: &str) -> String {
    if name == "-" { "standard input".into() } else { format!("`{name}`") }
}

/// No more than a blueprint may have, and one byte, so that the library refuses what is longer: an input may have no end.
fn read(name: &str) -> Result<Vec<u8>> {
    let failed = |cause| {
        let what = described(name);
        error!(StorageFailed, "{what} cannot be read; a blueprint is a file, `-` or `library:NAME`").caused_by(cause)
    };
    let input: Box<dyn Read> = match name {
        "-" => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(name).map_err(failed)?),
    };
    let mut bytes = Vec::new();
    input.take(Limits::DEFAULT.bytes as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Attributes as `width=8,rank=2`.
fn parse(text: &str) -> Result<Attributes> {
    let pairs = text.split(',').filter(|pair| !pair.is_empty());
    pairs
        .map(|pair| {
            let number = pair.split_once('=').and_then(|(name, number)| Some((name, number.parse().ok()?)));
            match number {
                Some((name, number)) => Ok((name.to_string(), Attribute::Integer(number))),
                None => fail!(InvalidArgument, "{pair:?} is not an attribute of the form `width=8`"),
            }
        })
        .collect()
}
