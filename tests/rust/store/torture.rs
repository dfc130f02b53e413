//! What a cache goes through on a bad day: processes killed while they fill it, every byte damaged, a disk that is full.
//! There is always the right kernel or none, and nothing is left over but temporary files, which go.
//!
//! `cargo test` runs a short form; `make torture` kills two hundred times and flips every bit. `KASMINA_TORTURE_SEED` is
//! another order of things; the timing is the system's.

use crate::pipeline::{Fake, machine_code, on_disk};
use crate::processes::{answer, command, completed, this_program};
use crate::samples::{class, incompressible, key};
use kasmina::compile::{Architecture, Compiler, KernelClass, Origin, Pass, Pipeline, codegen, kernel_class};
use kasmina::graph::{Attributes, DataType, library};
use kasmina::store::{Bundle, DiskCache, DiskLimits, MemoryCache};
use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, SystemTime};
use tempfile::tempdir;

const PROCESSES: usize = 8;
const THREADS: usize = 4;

/// Kernels that all processes want, and how many of them the cache may hold, so that it is trimmed all the while.
const KERNELS: u64 = 48;
const LIMITS: DiskLimits = DiskLimits { entries: 40, bytes: 1 << 30, age: Duration::from_secs(3600) };

/// How often a process is killed, and whether every bit is flipped.
fn kills() -> usize {
    std::env::var("KASMINA_TORTURE_KILLS").map_or(16, |number| number.parse().unwrap())
}

fn is_long() -> bool {
    kills() >= 100
}

/// Random numbers (splitmix64), the same for the same seed.
struct Random(u64);

impl Random {
    fn of_the_environment() -> Random {
        Random(std::env::var("KASMINA_TORTURE_SEED").map_or(1, |number| number.parse().unwrap()))
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }
}

/// The life of a child: asks for kernels, from four threads and a pipeline that remembers nothing, until it is killed. Says
/// so and ends if one is wrong.
pub fn work(place: &Path) {
    let memory = MemoryCache::new(0, 0);
    let pipeline = Pipeline::new(memory, Some(DiskCache::new(place, LIMITS)), None, Fake::default());
    thread::scope(|scope| {
        for number in 0..THREADS {
            let pipeline = &pipeline;
            scope.spawn(move || {
                let mut random = Random(u64::from(std::process::id()) * 100 + number as u64);
                loop {
                    let class = class(1 + random.below(KERNELS) as usize);
                    let artifact = pipeline.compile(class.clone(), Architecture::Cpu).unwrap();
                    if artifact.machine_code[..] != machine_code(&class) || pipeline.statistics().disk_errors > 0 {
                        println!("log wrong kernel or refused by the system: {artifact:?}");
                        std::process::exit(1);
                    }
                }
            });
        }
    });
}

/// Ends a child that nothing but this may end, and that has nothing to complain of.
fn kill(mut child: Child) {
    assert_eq!(child.try_wait().unwrap(), None, "it ended by itself");
    child.kill().unwrap();
    let output = String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap();
    assert!(!output.contains("log "), "{output}");
}

#[test]
fn torture_by_kills_leaves_right_kernels_and_temporary_files_that_go() {
    let place = tempdir().unwrap();
    let mut random = Random::of_the_environment();
    let spawn = || command(&this_program(), "torture", &[("PLACE", place.path())]).spawn().unwrap();
    let mut children: Vec<Child> = (0..PROCESSES).map(|_| spawn()).collect();
    let cache = DiskCache::new(place.path(), LIMITS);
    for _ in 0..kills() {
        thread::sleep(Duration::from_millis(20 + random.below(100)));
        // All write at once where all is missing, and the kill comes while they do.
        for stored in cache.stored().unwrap() {
            let _ = fs::remove_file(stored.path);
        }
        thread::sleep(Duration::from_micros(random.below(5000)));
        let victim = random.below(PROCESSES as u64) as usize;
        kill(std::mem::replace(&mut children[victim], spawn()));
    }
    children.into_iter().for_each(kill);

    let files = || fs::read_dir(cache.directory()).unwrap().map(|file| file.unwrap().path()).collect::<Vec<_>>();
    let temporary =
        |path: &Path| path.to_string_lossy().ends_with(".temporary") || path.to_string_lossy().ends_with(".lock");
    let mut valid = 0;
    for stored in cache.stored().unwrap() {
        let (key, code) = stored.kernel.unwrap_or_else(|reason| panic!("{}: {reason}", stored.path.display()));
        let compiled: KernelClass = postcard::from_bytes(&code).unwrap();
        assert_eq!(key, Fake::default().key(&compiled));
        valid += 1;
    }
    let left = files().iter().filter(|path| temporary(path)).count();
    // Each worker of a killed process may have been writing one file and had one lock.
    assert!(valid > 0 && left <= 2 * (kills() + PROCESSES) * THREADS, "{valid} valid, {left} left");
    assert_eq!(files().len(), valid + left, "nothing else is there");
    for path in files().iter().filter(|path| temporary(path)) {
        let old = SystemTime::now() - Duration::from_secs(7200);
        fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
    }
    let cleaned = cache.collect().unwrap();
    assert_eq!(cleaned.abandoned as usize, left);
    assert!(files().len() as u64 <= LIMITS.entries && !files().iter().any(|path| temporary(path)));
    println!(
        "{} kills of {PROCESSES} processes with {THREADS} threads: {valid} kernels right, {left} temporary files",
        kills()
    );
}

/// The CPU's code generator, counting.
#[derive(Clone, Default)]
struct Real(std::sync::Arc<AtomicU64>);

impl Compiler for Real {
    fn version(&self, _: Architecture) -> kasmina::Result<String> {
        Ok(String::new())
    }

    fn compile(&self, class: &KernelClass, _: Architecture) -> kasmina::Result<Vec<u8>> {
        self.0.fetch_add(1, Relaxed);
        codegen::cpu::compile(class)
    }
}

#[test]
fn torture_by_damage_to_a_real_kernel_compiles_the_same_again() {
    let place = tempdir().unwrap();
    let blueprint = library("bottleneck", 8, &Attributes::new()).unwrap();
    let class = kernel_class(Pass::Forward, DataType::F32, false, &[&blueprint]).unwrap();
    let cache = DiskCache::new(place.path(), DiskLimits::default());
    let compiler = Real::default();
    let pipeline = || {
        let disk = Some(DiskCache::new(place.path(), DiskLimits::default()));
        Pipeline::new(MemoryCache::new(0, 0), disk, None, compiler.clone())
    };
    let first = pipeline().compile(class.clone(), Architecture::Cpu).unwrap();
    let file = cache.directory().join(format!("{}.kernel", first.key));
    let good = fs::read(&file).unwrap();
    let flips: Vec<u8> = if is_long() { (0..8).map(|bit| 1 << bit).collect() } else { vec![0x10] };
    let flipped = (0..good.len()).flat_map(|position| {
        flips.iter().map(move |flip| (position, *flip)).map(|(position, flip)| {
            let mut bad = good.clone();
            bad[position] ^= flip;
            bad
        })
    });
    let mut damages = 0;
    for bad in flipped.chain((0..good.len()).map(|length| good[..length].to_vec())) {
        fs::write(&file, &bad).unwrap();
        assert_eq!(cache.load(&first.key), None, "damage {damages} of {}", good.len());
        assert!(!file.exists());
        damages += 1;
        if damages % 100 == 0 {
            fs::write(&file, &bad).unwrap();
            let again = pipeline().compile(class.clone(), Architecture::Cpu).unwrap();
            assert_eq!((again.origin, &again.machine_code), (Origin::Compiled, &first.machine_code));
            assert_eq!(fs::read(&file).unwrap(), good, "the same entry, byte by byte");
        }
    }
    assert_eq!(compiler.0.load(Relaxed), 1 + damages / 100);
    println!("{damages} damages to an entry of {} bytes: no wrong kernel", good.len());
}

/// The life of a child on a disk of one megabyte.
pub fn fill_the_disk(place: &Path) {
    let cache = DiskCache::new(place, DiskLimits::default());
    let kernels = 1..=300;
    for chunk in kernels.clone() {
        cache.save(&key(chunk), &incompressible(10_000));
    }
    let loaded = kernels.filter(|chunk| cache.load(&key(*chunk)).is_some()).count();
    println!("loaded {loaded}");
    println!("errors {}", cache.errors());
    println!("origin {} files", fs::read_dir(cache.directory()).unwrap().count());
    println!(
        "origin bundle {}",
        Bundle::write(&place.join("kernels.bundle"), [(key(1), incompressible(50_000))]).is_err()
    );
    println!("origin probe {}", cache.probe().is_err());
    for chunk in 1..=20 {
        let _ = fs::remove_file(cache.directory().join(format!("{}.kernel", key(chunk))));
    }
    cache.save(&key(301), &incompressible(10_000));
    println!("loaded {}", cache.load(&key(301)).is_some());
    println!("origin {} names at the top", fs::read_dir(place).unwrap().count());
}

#[test]
fn torture_by_a_full_disk_keeps_what_fits_and_recovers() {
    let place = tempdir().unwrap();
    // A mount in a namespace of its own, which only root can make and which goes with the child.
    let script = "mount -t tmpfs -o size=1m none \"$PLACE\" && exec \"$@\"";
    let mut own = Command::new("unshare");
    own.args(["-m", "sh", "-c", script, "sh"]);
    let allowed = Command::new("unshare").args(["-m", "mount", "-t", "tmpfs", "none"]).arg(place.path()).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        println!("no file system may be mounted here: skipped; a limit of the file size takes its place elsewhere");
        return;
    }
    own.arg(this_program());
    let search = std::env::var_os("PATH").unwrap_or_default();
    let lines = answer(completed(own, "full disk", &[("PLACE", place.path()), ("PATH", Path::new(&search))]));
    let lines: Vec<_> = lines.iter().filter(|line| !line.starts_with("log ")).map(String::as_str).collect();
    let loaded: usize = lines[0].strip_prefix("loaded ").unwrap().parse().unwrap();
    assert!((40..=110).contains(&loaded), "{lines:?}");
    let [errors, files] = [format!("errors {}", 300 - loaded), format!("origin {loaded} files")];
    let rest = ["origin bundle true", "origin probe true", "loaded true", "origin 1 names at the top"];
    assert_eq!(lines[1..], [&[errors.as_str(), files.as_str()], &rest[..]].concat());
    println!("a full disk kept {loaded} of 300 kernels, all right, and took new ones when there was room");
}

#[test]
fn torture_by_clocks_that_jump_gives_the_right_kernel_or_none() {
    let place = tempdir().unwrap();
    let compiler = Fake::default();
    let day = Duration::from_secs(86_400);
    let cache = DiskCache::new(place.path(), DiskLimits::default());
    let times = [SystemTime::UNIX_EPOCH, SystemTime::now() - day * 10_000, SystemTime::now() + day * 10_000];
    for (round, time) in times.into_iter().cycle().take(30).enumerate() {
        for stored in cache.stored().unwrap() {
            fs::File::options().write(true).open(stored.path).unwrap().set_modified(time).unwrap();
        }
        for chunk in 1..=1 + round {
            let artifact = on_disk(place.path(), &compiler).compile(class(chunk), Architecture::Cpu).unwrap();
            assert_eq!(artifact.machine_code[..], machine_code(&class(chunk)));
        }
    }
    assert_eq!(cache.stored().unwrap().filter(|stored| stored.kernel.is_err()).count(), 0);
}
