//! `kasmina cache`: what is in the kernel cache, whether it is whole, and how to carry it elsewhere.

use crate::output;
use crate::table::Table;
use clap::Subcommand;
use kasmina::compile::Pass;
use kasmina::store::{Bundle, DiskCache, DiskLimits, GENERATOR_VERSION, Key, Preimage, Stored};
use kasmina::{Result, error, fail};
use serde_json::json;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

/// Letters of a key in a table; enough to tell kernels apart.
const SHORT: usize = 12;

const DAY: u64 = 24 * 3600;

/// Look at the kernel cache, check it, and carry it elsewhere
#[derive(clap::Args)]
pub struct Arguments {
    /// The cache, if not the one that KASMINA_CACHE_DIR names
    #[arg(long, value_name = "DIRECTORY", global = true)]
    directory: Option<PathBuf>,
    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the kernels
    Ls {
        /// Print JSON, with whole keys
        #[arg(long)]
        json: bool,
    },
    /// Check every byte of every kernel; exit code 1 if any is damaged
    Verify {
        /// Remove what is damaged
        #[arg(long)]
        remove: bool,
    },
    /// Remove what is over the limits, and what dead processes left behind
    Gc {
        /// The most kernels to keep
        #[arg(long, value_name = "N")]
        entries: Option<u64>,
        /// The most bytes to keep
        #[arg(long, value_name = "N")]
        bytes: Option<u64>,
        /// The most days to keep a kernel that nobody uses
        #[arg(long, value_name = "N")]
        days: Option<u32>,
    },
    /// Write the kernels of this version to one file
    Export {
        /// The bundle to write
        #[arg(value_name = "FILE")]
        bundle: PathBuf,
        /// Also those of other versions of the library
        #[arg(long)]
        all: bool,
    },
    /// Add the kernels of a bundle, which run as machine code: be sure where it is from
    Import {
        /// The bundle to read
        #[arg(value_name = "FILE")]
        bundle: PathBuf,
    },
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let cache = match &arguments.directory {
        Some(directory) => DiskCache::new(directory, DiskLimits::default()),
        None => match DiskCache::from_environment() {
            Some(cache) => cache,
            None => fail!(InvalidArgument, "there is no cache on disk; set KASMINA_CACHE_DIR, or give --directory"),
        },
    };
    match &arguments.action {
        Action::Ls { json: false } => output::text(&list(&cache)?, None),
        Action::Ls { json: true } => output::text(&list_json(&cache)?, None),
        Action::Verify { remove } => verify(&cache, *remove),
        Action::Gc { entries, bytes, days } => collect(cache, *entries, *bytes, *days),
        Action::Export { bundle, all } => export(&cache, bundle, *all),
        Action::Import { bundle } => import(&cache, bundle),
    }
}

fn list(cache: &DiskCache) -> Result<String> {
    let mut table = Table::new(&["key", "pass", "type", "chunk", "programs", "schedule", "for", "bytes", "unused for"]);
    let (mut kernels, mut bytes) = (0, 0u64);
    for stored in cache.stored()? {
        kernels += 1;
        bytes += stored.bytes;
        let name: String = name(&stored).chars().take(SHORT).collect();
        let [pass, data_type, chunk, programs, schedule, architecture] = describe(&stored);
        let unused = stored.last_use.map_or_else(|| "?".into(), unused_for);
        table.row([name, pass, data_type, chunk, programs, schedule, architecture, stored.bytes.to_string(), unused]);
    }
    let DiskLimits { entries: most, bytes: most_bytes, .. } = cache.limits();
    let directory = cache.directory().display();
    let rows = if kernels == 0 { String::new() } else { table.print("") + "\n" };
    Ok(format!("{rows}{directory}: {kernels} kernels of at most {most}, {bytes} bytes of at most {most_bytes}\n"))
}

/// Pass, type, chunk, programs, schedule and architecture, as far as they are known.
fn describe(stored: &Stored) -> [String; 6] {
    let unknown = |what: &str, of: &str| [what, "", "", "", "", of].map(String::from);
    let Ok((key, _)) = &stored.kernel else { return unknown("damaged", "") };
    match key.read() {
        Some(Preimage { class: Some(class), architecture, .. }) => [
            pass(class.pass).into(),
            class.data_type.name().into(),
            class.chunk.to_string(),
            (class.programs.len() + class.frozen.len()).to_string(),
            class.schedule.name().into(),
            architecture.to_string(),
        ],
        Some(Preimage { architecture, .. }) => unknown("of another version", &architecture.to_string()),
        None => unknown("of another version", ""),
    }
}

fn list_json(cache: &DiskCache) -> Result<String> {
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let entries = cache.stored()?.map(|stored| {
        let known = stored.kernel.as_ref().ok().and_then(|(key, _)| key.read());
        let class = known.as_ref().and_then(|known| known.class.as_ref());
        json!({
            "key": name(&stored),
            "bytes": stored.bytes,
            "last_use": stored.last_use.map(seconds),
            "damage": stored.kernel.as_ref().err(),
            "machine_code_bytes": stored.kernel.as_ref().ok().map(|(_, machine_code)| machine_code.len()),
            "generator": known.as_ref().map(|known| &known.generator),
            "compiler": known.as_ref().map(|known| &known.compiler),
            "architecture": known.as_ref().map(|known| known.architecture.to_string()),
            "pass": class.map(|class| pass(class.pass)),
            "type": class.map(|class| class.data_type.name()),
            "chunk": class.map(|class| class.chunk),
            "programs": class.map(|class| class.programs.len() + class.frozen.len()),
            "schedule": class.map(|class| class.schedule.name()),
        })
    });
    let entries: Vec<_> = entries.collect();
    serde_json::to_string_pretty(&entries)
        .map(|text| text + "\n")
        .map_err(|cause| error!(InvalidArgument, "the list of kernels cannot be written").caused_by(cause))
}

fn verify(cache: &DiskCache, remove: bool) -> Result<()> {
    let (mut valid, mut damaged) = (0, 0);
    for stored in cache.stored()? {
        let path = stored.path.display();
        let Err(reason) = &stored.kernel else {
            valid += 1;
            continue;
        };
        damaged += 1;
        output::text(&format!("{path}: {reason}\n"), None)?;
        if remove {
            std::fs::remove_file(&stored.path)
                .map_err(|cause| error!(StorageFailed, "{path} cannot be removed").caused_by(cause))?;
        }
    }
    let directory = cache.directory().display();
    if damaged > 0 && !remove {
        fail!(
            FileCorrupted,
            "{damaged} of {} kernels in {directory} are damaged and will be compiled again; --remove removes them",
            valid + damaged
        );
    }
    let removed = if damaged > 0 { format!(", and {damaged} that were not are removed") } else { String::new() };
    output::text(&format!("{directory}: {valid} kernels are whole{removed}\n"), None)
}

fn collect(cache: DiskCache, entries: Option<u64>, bytes: Option<u64>, days: Option<u32>) -> Result<()> {
    let limits = cache.limits();
    let cache = cache.with_limits(DiskLimits {
        entries: entries.unwrap_or(limits.entries),
        bytes: bytes.unwrap_or(limits.bytes),
        age: days.map_or(limits.age, |days| Duration::from_secs(u64::from(days) * DAY)),
    });
    let cleaned = cache.collect()?;
    let text = format!(
        "{}: {} kernels and {} abandoned files removed; {} kernels, {} bytes are left\n",
        cache.directory().display(),
        cleaned.removed,
        cleaned.abandoned,
        cleaned.entries,
        cleaned.bytes
    );
    output::text(&text, None)
}

fn export(cache: &DiskCache, path: &std::path::Path, all: bool) -> Result<()> {
    let (mut damaged, mut foreign) = (0, 0);
    let wanted = |stored: Stored| match stored.kernel {
        Ok(kernel) if all || is_of_this_version(&kernel.0) => Some(kernel),
        Ok(_) => {
            foreign += 1;
            None
        }
        Err(_) => {
            damaged += 1;
            None
        }
    };
    let kernels = Bundle::write(path, cache.stored()?.filter_map(wanted))?;
    let path = path.display();
    let text = format!("{path}: {kernels} kernels; left out are {damaged} damaged and {foreign} of other versions\n");
    output::text(&text, None)
}

fn import(cache: &DiskCache, path: &std::path::Path) -> Result<()> {
    let imported = cache.import(&Bundle::open(path)?)?;
    let directory = cache.directory().display();
    let text = format!("{directory}: {} kernels added, {} were there already\n", imported.added, imported.present);
    output::text(&text, None)
}

/// Whether this library would ever ask for the kernel.
pub fn is_of_this_version(key: &Key) -> bool {
    key.read().is_some_and(|preimage| preimage.generator == GENERATOR_VERSION)
}

/// The key by the file's name, which is there even where the key is not.
fn name(stored: &Stored) -> String {
    stored.path.file_stem().unwrap_or_default().to_string_lossy().into_owned()
}

fn pass(pass: Pass) -> &'static str {
    match pass {
        Pass::Forward => "forward",
        Pass::Backward => "backward",
        Pass::Train => "train",
    }
}

/// A duration in its largest unit. A time to come is none.
fn unused_for(time: SystemTime) -> String {
    let seconds = time.elapsed().map_or(0, |elapsed| elapsed.as_secs());
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..DAY => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / DAY),
    }
}
