//! `kasmina doctor`: what was found where, and what is wrong, in a sentence each.

use crate::cache::is_of_this_version;
use crate::output;
use crate::table::Table;
use kasmina::compile::{Architecture, nvrtc};
use kasmina::device::{cpu, cuda};
use kasmina::ffi::KASMINA_ABI_VERSION;
use kasmina::store::{Bundle, DiskCache, GENERATOR_VERSION, TuningDatabase, TuningPlace};
use kasmina::{Result, fail};
use std::env;
use std::path::PathBuf;

/// A kernel that does nothing, to see whether it can be compiled.
const NOTHING: &str = "extern \"C\" __global__ void nothing() {}";

/// Say what was found where and what is wrong; exit code 1 if anything is
#[derive(clap::Args)]
pub struct Arguments {
    /// Take it as wrong if there is no CUDA device
    #[arg(long)]
    cuda: bool,
}

/// What is said of one thing.
struct Finding {
    what: String,
    state: State,
    sentence: String,
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    /// It is there and works.
    Fine,
    /// It is not there, and need not be.
    Absent,
    /// It does not work, or not as it was asked to.
    Wrong,
}

pub fn run(arguments: &Arguments) -> Result<()> {
    let mut findings = vec![library(), processor()];
    findings.extend(driver_and_compiler(arguments.cuda));
    findings.extend([cache(), bundle(), tuning()]);
    let mut table = Table::new(&["what", "state", "found"]);
    for Finding { what, state, sentence } in &findings {
        let state = match state {
            State::Fine => "fine",
            State::Absent => "absent",
            State::Wrong => "WRONG",
        };
        table.row([what.clone(), state.into(), sentence.clone()]);
    }
    output::text(&table.print(""), None)?;
    match findings.iter().filter(|finding| finding.state == State::Wrong).count() {
        0 => Ok(()),
        1 => fail!(Unsupported, "one thing is wrong here"),
        wrong => fail!(Unsupported, "{wrong} things are wrong here"),
    }
}

fn finding(what: &str, state: State, sentence: impl Into<String>) -> Finding {
    Finding { what: what.into(), state, sentence: sentence.into() }
}

fn library() -> Finding {
    let version = env!("CARGO_PKG_VERSION");
    finding(
        "library",
        State::Fine,
        format!("kasmina {version}, ABI {KASMINA_ABI_VERSION}, code generators {GENERATOR_VERSION}"),
    )
}

fn processor() -> Finding {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    finding("processor", State::Fine, format!("{}, {cores} cores", cpu::device().description()))
}

/// The driver, its devices, and NVRTC, which is judged by what there is to compile for.
fn driver_and_compiler(required: bool) -> Vec<Finding> {
    // A missing driver is nothing wrong where there is no card; where the kernel's part of it is loaded there is one.
    let missing = if required || has_card() { State::Wrong } else { State::Absent };
    let installed = cuda::installed();
    let mut findings = vec![match &installed {
        Err(error) => finding("driver", missing, error.to_string()),
        Ok(installed) if installed.devices == 0 => {
            finding("driver", missing, format!("for CUDA {}, but this process sees no device", dotted(installed.cuda)))
        }
        Ok(installed) => finding("driver", State::Fine, format!("for CUDA {}", dotted(installed.cuda))),
    }];
    let mut architectures = Vec::new();
    for ordinal in 0..installed.as_ref().map_or(0, |installed| installed.devices) {
        let what = format!("device {ordinal}");
        findings.push(match cuda::device(ordinal) {
            Ok(device) => {
                architectures.push(device.architecture());
                finding(&what, State::Fine, format!("{}, {}", device.description(), device.architecture()))
            }
            Err(error) => finding(&what, State::Wrong, error.to_string()),
        });
    }
    findings.push(compiler(missing, &architectures, installed.ok().map(|installed| installed.cuda)));
    findings
}

fn compiler(missing: State, architectures: &[Architecture], driver: Option<(u32, u32)>) -> Finding {
    let named = env::var_os("KASMINA_NVRTC").is_some_and(|place| !place.is_empty());
    let found = match nvrtc::find() {
        Ok(found) => found,
        Err(error) => {
            let state = if named || !architectures.is_empty() { State::Wrong } else { missing };
            return finding("NVRTC", state, error.to_string());
        }
    };
    let version = (found.version.0.unsigned_abs(), found.version.1.unsigned_abs());
    let place = format!("{} from {}", dotted(version), found.path.display());
    if let Some(driver) = driver.filter(|driver| driver.0 < version.0) {
        let (version, driver) = (dotted(version), dotted(driver));
        let sentence = format!(
            "{place}, whose machine code the driver may refuse, because it is for CUDA {driver} and not {version}; update \
             the driver, or set KASMINA_NVRTC to an older NVRTC"
        );
        return finding("NVRTC", State::Wrong, sentence);
    }
    let any = [Architecture::Cuda(90)];
    let targets = if architectures.is_empty() { &any } else { architectures };
    match targets.iter().find_map(|target| nvrtc::compile(NOTHING, *target).err()) {
        Some(error) => finding("NVRTC", State::Wrong, format!("{place}, which cannot compile: {error}")),
        None => finding("NVRTC", State::Fine, place),
    }
}

fn cache() -> Finding {
    let wrong = |sentence: String| finding("cache", State::Wrong, sentence);
    let Some(cache) = DiskCache::from_environment() else {
        return match env::var_os("KASMINA_CACHE_DIR") {
            Some(_) => finding("cache", State::Absent, "kernels are kept in memory only, as KASMINA_CACHE_DIR says"),
            None => wrong(
                "neither HOME nor XDG_CACHE_HOME is set, so kernels are kept in memory only; set KASMINA_CACHE_DIR"
                    .into(),
            ),
        };
    };
    let counted = cache.probe().and_then(|()| {
        let (mut damaged, mut kernels, mut bytes) = (0, 0, 0u64);
        for stored in cache.stored()? {
            kernels += 1;
            bytes += stored.bytes;
            damaged += usize::from(stored.kernel.is_err());
        }
        Ok((damaged, kernels, bytes))
    });
    let directory = cache.directory().display();
    match counted {
        Err(error) => wrong(error.to_string()),
        Ok((0, kernels, bytes)) => {
            finding("cache", State::Fine, format!("{directory}, {kernels} kernels, {bytes} bytes"))
        }
        Ok((damaged, kernels, _)) => {
            wrong(format!("{directory}, {damaged} of {kernels} kernels are damaged; `kasmina cache verify` names them"))
        }
    }
}

fn bundle() -> Finding {
    let wrong = |sentence: String| finding("bundle", State::Wrong, sentence);
    let bundle = match Bundle::from_environment() {
        None => return finding("bundle", State::Absent, "KASMINA_CACHE_BUNDLE names none"),
        Some(Err(error)) => return wrong(error.to_string()),
        Some(Ok(bundle)) => bundle,
    };
    let (path, kernels) = (bundle.path().display(), bundle.len());
    let mut useful = 0;
    for kernel in bundle.kernels() {
        match kernel {
            Ok((key, _)) => useful += usize::from(is_of_this_version(&key)),
            Err(error) => return wrong(error.to_string()),
        }
    }
    match useful {
        0 => wrong(format!(
            "{path}, none of {kernels} kernels is of this version; export it with this version of kasmina"
        )),
        _ => finding("bundle", State::Fine, format!("{path}, {useful} of {kernels} kernels are of this version")),
    }
}

fn tuning() -> Finding {
    let Some(database) = TuningDatabase::from_environment() else {
        return finding("tuning", State::Absent, "nothing of it is kept, as KASMINA_TUNING_DB says");
    };
    if *database.place() == TuningPlace::Memory {
        return finding(
            "tuning",
            State::Absent,
            "what is tuned is kept in memory only; KASMINA_TUNING_DB names a place",
        );
    }
    let (place, statistics) = (database.place(), database.statistics());
    match statistics.fault {
        Some(fault) => finding("tuning", State::Wrong, format!("{place} cannot be used: {fault}")),
        None => {
            let (problems, candidates) = (statistics.problems, statistics.candidates);
            finding("tuning", State::Fine, format!("{place}, {problems} problems, {candidates} candidates"))
        }
    }
}

/// Whether the system shows a card of NVIDIA's.
fn has_card() -> bool {
    let card = |path: PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        name.strip_prefix("nvidia")
            .is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
    };
    std::fs::read_dir("/dev").into_iter().flatten().flatten().any(|entry| card(entry.path()))
}

fn dotted((major, minor): (u32, u32)) -> String {
    format!("{major}.{minor}")
}
