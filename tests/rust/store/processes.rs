//! What takes a process of its own: several at one directory, a killed one, another user, a full disk, the environment.
//! The test binary runs itself; `child` is the other side.

use crate::pipeline::{Fake, SLOW, UNHURRIED, machine_code, on_disk};
use crate::samples::{class, incompressible, key};
use crate::{torture, tuning};
use kasmina::compile::{Architecture, Pipeline, nvrtc, pipeline};
use kasmina::store::{Bundle, DiskCache, DiskLimits, MemoryCache};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::tempdir;

const KERNELS: usize = 60;
const NOBODY: u32 = 65534;

/// What child processes do, by the variable `SCENARIO`; the lines they print are the answer.
#[test]
#[ignore = "run by the other tests in a process of its own"]
fn child() {
    let place = || PathBuf::from(std::env::var_os("PLACE").unwrap());
    let cache = || DiskCache::new(place(), DiskLimits::default());
    log::set_logger(&Printer).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    match std::env::var("SCENARIO").unwrap().as_str() {
        "fill" => fill(&cache()),
        "save and load" => {
            let cache = cache();
            for chunk in 1..=3 {
                println!("loaded {}", cache.load(&key(chunk)).is_some());
                cache.save(&key(chunk), &incompressible(if chunk == 2 { 100_000 } else { 100 }));
            }
            println!("errors {}", cache.errors());
        }
        "environment" => {
            let disk = DiskCache::from_environment();
            println!("directory {:?}", disk.as_ref().map(DiskCache::directory));
            let bundle = Bundle::from_environment().map(Result::unwrap);
            let pipeline = Pipeline::new(MemoryCache::new(10, 1 << 20), disk, bundle, Fake::default());
            println!("origin {:?}", pipeline.compile(class(64), Architecture::Cpu).unwrap().origin);
        }
        "slow compile" => {
            log::set_max_level(log::LevelFilter::Info);
            let pipeline = Pipeline::new(MemoryCache::new(10, 1 << 20), None, None, Fake::default());
            println!("origin {:?}", pipeline.compile(class(SLOW), Architecture::Cpu).unwrap().origin);
        }
        "compile" => {
            let pipeline = on_disk(&place(), &Fake::default());
            println!("begun");
            println!("origin {:?}", pipeline.compile(class(UNHURRIED), Architecture::Cpu).unwrap().origin);
            println!("errors {}", pipeline.statistics().disk_errors);
        }
        "fork" => fork_and_end(),
        "torture" => torture::work(&place()),
        "full disk" => torture::fill_the_disk(&place()),
        "compiler" => println!("origin {}", nvrtc::version().unwrap()),
        other => tuning::processes::scenario(other),
    }
}

struct Printer;

impl log::Log for Printer {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        println!("log {}", record.args());
    }

    fn flush(&self) {}
}

/// Saves and loads the same kernels as the other processes, each in an order of its own.
fn fill(cache: &DiskCache) {
    let first = std::process::id() as usize;
    for position in 0..KERNELS {
        let chunk = 1 + (first + position * 7) % KERNELS;
        let expected = machine_code(&class(chunk));
        if let Some(found) = cache.load(&key(chunk)) {
            assert_eq!(found[..], expected);
        }
        cache.save(&key(chunk), &expected);
        assert_eq!(cache.load(&key(chunk)).as_deref(), Some(&expected[..]));
    }
    println!("errors {}", cache.errors());
}

/// A command that runs `child` with nothing in its environment but this.
pub fn command(program: &Path, scenario: &str, environment: &[(&str, &Path)]) -> Command {
    completed(Command::new(program), scenario, environment)
}

/// The same for a command that has its program and the first arguments already.
pub fn completed(mut command: Command, scenario: &str, environment: &[(&str, &Path)]) -> Command {
    command.args(["processes::child", "--exact", "--ignored", "--nocapture"]).env_clear();
    command.env("SCENARIO", scenario).envs(environment.iter().copied());
    // Should a relative path be taken for a place, it is a temporary one.
    command.current_dir(std::env::temp_dir()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn this_program() -> PathBuf {
    std::env::current_exe().unwrap()
}

/// The lines that a child printed for its parent.
pub fn answer(mut command: Command) -> Vec<String> {
    let output = command.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let words = ["loaded ", "errors ", "directory ", "origin ", "log "];
    text.lines().filter(|line| words.iter().any(|word| line.starts_with(word))).map(str::to_owned).collect()
}

/// How many of the kernels are there, and whether anything else is.
fn inspect(place: &Path) -> (usize, usize) {
    let cache = DiskCache::new(place, DiskLimits::default());
    let files = fs::read_dir(cache.directory()).map_or(0, Iterator::count);
    let valid = (1..=KERNELS).filter(|chunk| cache.load(&key(*chunk)).is_some()).count();
    (valid, files)
}

#[test]
fn processes_that_fill_one_directory_at_once_leave_only_valid_entries() {
    let place = tempdir().unwrap();
    let children: Vec<_> =
        (0..4).map(|_| command(&this_program(), "fill", &[("PLACE", place.path())]).spawn().unwrap()).collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && text.contains("errors 0"), "{text}");
        assert!(!text.contains("log "), "{text}");
    }
    assert_eq!(inspect(place.path()), (KERNELS, KERNELS));
}

#[test]
fn killed_processes_leave_valid_entries_and_at_most_one_temporary_file_each() {
    let place = tempdir().unwrap();
    for round in 0..12 {
        let mut child = command(&this_program(), "fill", &[("PLACE", place.path())]).spawn().unwrap();
        std::thread::sleep(Duration::from_millis(3 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        let cache = DiskCache::new(place.path(), DiskLimits::default());
        let files = fs::read_dir(cache.directory()).map_or(0, Iterator::count);
        let (valid, left) = inspect(place.path());
        assert_eq!(files, left, "every entry was valid, so none was removed");
        assert!(files - valid <= round as usize + 1, "{files} files, {valid} valid");
    }
}

/// How many of the lines of children say each thing.
fn count(lines: &[Vec<String>], what: &str) -> usize {
    lines.iter().flatten().filter(|line| *line == what).count()
}

#[test]
fn processes_that_want_one_kernel_compile_it_once() {
    let place = tempdir().unwrap();
    let lines: Vec<_> = std::thread::scope(|scope| {
        let child = || answer(command(&this_program(), "compile", &[("PLACE", place.path())]));
        let children: Vec<_> = (0..6).map(|_| scope.spawn(child)).collect();
        children.into_iter().map(|child| child.join().unwrap()).collect()
    });
    assert_eq!((count(&lines, "origin Compiled"), count(&lines, "origin Disk")), (1, 5), "{lines:?}");
    assert_eq!(count(&lines, "errors 0"), 6);
    let cache = DiskCache::new(place.path(), DiskLimits::default());
    assert_eq!(fs::read_dir(cache.directory()).unwrap().count(), 1, "no lock is left");
}

#[test]
fn the_lock_of_a_killed_process_is_in_nobodys_way() {
    let place = tempdir().unwrap();
    let mut first = command(&this_program(), "compile", &[("PLACE", place.path())]).spawn().unwrap();
    let cache = DiskCache::new(place.path(), DiskLimits::default());
    let files = || fs::read_dir(cache.directory()).map_or(0, Iterator::count);
    while files() == 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
    first.kill().unwrap();
    first.wait().unwrap();
    assert_eq!(files(), 1, "it has left its lock");
    let lines = [answer(command(&this_program(), "compile", &[("PLACE", place.path())]))];
    assert_eq!((count(&lines, "origin Compiled"), count(&lines, "errors 0")), (1, 1), "{lines:?}");
    assert_eq!(files(), 1, "only the kernel is left");
}

/// Forks while it has the lock of a kernel, and ends without giving it back. Its child asks for the kernel.
fn fork_and_end() {
    unsafe extern "C" {
        safe fn fork() -> i32;
        safe fn getppid() -> u32;
    }
    let cache = DiskCache::from_environment().unwrap();
    let compiled = pipeline().compile(class(1), Architecture::Cpu).unwrap();
    cache.remove(&compiled.key);
    let turn = cache.take_turn(&compiled.key, Duration::ZERO);
    let parent = std::process::id();
    assert!(turn.is_some() && cache.take_turn(&compiled.key, Duration::ZERO).is_none());
    match fork() {
        0 => {
            while getppid() == parent {
                std::thread::sleep(Duration::from_millis(5));
            }
            println!("origin {:?}", pipeline().compile(class(1), Architecture::Cpu).unwrap().origin);
            println!("errors {}", pipeline().statistics().disk_errors);
            std::process::exit(0);
        }
        _ => std::process::exit(0), // The turn is not dropped.
    }
}

#[test]
fn a_forked_child_does_not_wait_for_a_lock_that_it_inherited_from_a_parent_that_ended() {
    let place = tempdir().unwrap();
    let started = Instant::now();
    let environment = [("KASMINA_CACHE_DIR", place.path()), ("KASMINA_COMPILE_SECONDS", Path::new("100"))];
    let lines = [answer(command(&this_program(), "fork", &environment))];
    assert_eq!((count(&lines, "origin Compiled"), count(&lines, "errors 0")), (1, 1), "{lines:?}");
    assert!(started.elapsed() < Duration::from_secs(50), "it waited for itself");
}

#[test]
fn where_the_file_system_has_no_locks_each_process_compiles_and_it_is_said() {
    let place = tempdir().unwrap();
    let (source, library) = (place.path().join("flock.c"), place.path().join("flock.so"));
    // As NFS without its lock daemon.
    fs::write(&source, "#include <errno.h>\nint flock(int file, int how) { errno = ENOLCK; return -1; }\n").unwrap();
    let compiler = std::env::var("CC").unwrap_or("cc".into());
    let built = Command::new(compiler).args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
    assert!(built.success());
    let environment = [("PLACE", place.path()), ("LD_PRELOAD", &library)];
    let children = [0; 2].map(|_| command(&this_program(), "compile", &environment));
    let lines = children.map(|child| std::thread::spawn(|| answer(child))).map(|child| child.join().unwrap());
    assert_eq!((count(&lines, "origin Compiled"), count(&lines, "errors 1")), (2, 2), "{lines:?}");
    let logged = lines[0].iter().find(|line| line.starts_with("log ")).unwrap();
    assert!(logged.contains("cannot lock in the kernel cache"), "{logged}");
    let cache = DiskCache::new(place.path(), DiskLimits::default());
    assert_eq!(fs::read_dir(cache.directory()).unwrap().count(), 1, "no lock is left");
}

#[test]
fn a_read_only_directory_is_read_and_said_to_be_so_once() {
    let place = tempdir().unwrap();
    let root = rustix::process::geteuid().is_root();
    // Root may write anywhere, so there the child is somebody else, with a copy of this program it may run.
    let program = if root { place.path().join("program") } else { this_program() };
    let cache = DiskCache::new(place.path(), DiskLimits::default());
    cache.save(&key(1), b"there before");
    if root {
        fs::copy(this_program(), &program).unwrap();
        let entry = fs::read_dir(cache.directory()).unwrap().next().unwrap().unwrap().path();
        for path in [place.path(), cache.directory(), &entry] {
            chown(path, Some(NOBODY), None).unwrap();
        }
    }
    fs::set_permissions(cache.directory(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut child = command(&program, "save and load", &[("PLACE", place.path())]);
    if root {
        child.uid(NOBODY);
    }
    let lines = answer(child);
    fs::set_permissions(cache.directory(), fs::Permissions::from_mode(0o755)).unwrap();
    let logged: Vec<_> = lines.iter().filter(|line| line.starts_with("log ")).collect();
    assert_eq!(logged.len(), 1, "{lines:?}");
    assert!(logged[0].contains("cannot write") && logged[0].contains("KASMINA_CACHE_DIR"), "{lines:?}");
    let rest: Vec<_> = lines.iter().filter(|line| !line.starts_with("log ")).collect();
    assert_eq!(rest, ["loaded true", "loaded false", "loaded false", "errors 3"]);
    assert_eq!(fs::read_dir(cache.directory()).unwrap().count(), 1);
}

#[test]
fn a_full_disk_leaves_nothing_half_written() {
    let place = tempdir().unwrap();
    // No file may grow over some kilobytes: writing the second, large entry fails half-way, as on a full disk.
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$@\"", "sh"]).arg(this_program());
    let lines = answer(completed(shell, "save and load", &[("PLACE", place.path())]));
    assert!(lines.iter().any(|line| line.starts_with("log cannot write")), "{lines:?}");
    assert!(lines.contains(&"errors 1".to_owned()), "{lines:?}");
    assert_eq!(inspect(place.path()), (2, 2));
}

#[test]
fn the_environment_says_where_the_cache_is() {
    let place = tempdir().unwrap();
    let path = |name: &str| place.path().join(name);
    let (home, xdg, own) = (path("home"), path("xdg"), path("own"));
    let (empty, relative) = (PathBuf::new(), PathBuf::from("relative"));
    let cases: [(&[(&str, &Path)], PathBuf); 5] = [
        (&[("HOME", &home)], home.join(".cache/kasmina/v2")),
        (&[("HOME", &home), ("XDG_CACHE_HOME", &xdg)], xdg.join("kasmina/v2")),
        (&[("HOME", &home), ("XDG_CACHE_HOME", &relative)], home.join(".cache/kasmina/v2")),
        (&[("HOME", &home), ("XDG_CACHE_HOME", &empty)], home.join(".cache/kasmina/v2")),
        (&[("HOME", &home), ("XDG_CACHE_HOME", &xdg), ("KASMINA_CACHE_DIR", &own)], own.join("v2")),
    ];
    for (environment, expected) in cases {
        let _ = fs::remove_dir_all(&expected);
        for origin in ["Compiled", "Disk"] {
            let lines = answer(command(&this_program(), "environment", environment));
            let directory = format!("directory Some({expected:?})");
            assert_eq!(lines, [directory, format!("origin {origin}")], "{environment:?}");
        }
        assert_eq!(fs::read_dir(&expected).unwrap().count(), 1);
    }
}

#[test]
fn the_cache_can_be_turned_off_and_no_directory_appears() {
    let place = tempdir().unwrap();
    for off in ["", "off"] {
        let environment = [("KASMINA_CACHE_DIR", Path::new(off)), ("HOME", place.path())];
        for _ in 0..2 {
            let lines = answer(command(&this_program(), "environment", &environment));
            assert_eq!(lines, ["directory None", "origin Compiled"]);
        }
    }
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
}

#[test]
fn the_environment_names_a_bundle_which_serves_without_a_cache() {
    let place = tempdir().unwrap();
    let path = place.path().join("kernels.bundle");
    let pipeline = Pipeline::new(MemoryCache::new(10, 1 << 20), None, None, Fake::default());
    let made = pipeline.compile(class(64), Architecture::Cpu).unwrap();
    Bundle::write(&path, [(made.key.clone(), made.machine_code.to_vec())]).unwrap();
    let environment = [("KASMINA_CACHE_DIR", Path::new("off")), ("KASMINA_CACHE_BUNDLE", &path)];
    assert_eq!(answer(command(&this_program(), "environment", &environment)), ["directory None", "origin Disk"]);
}

#[test]
fn the_log_says_what_is_compiled_and_what_takes_long() {
    let lines = answer(command(&this_program(), "slow compile", &[]));
    let name = format!("Forward f32 chunk {SLOW} programs 1 schedule best for cpu");
    assert!(lines[0].starts_with(&format!("log still compiling {name} after 2 s")), "{lines:?}");
    assert!(lines[1].starts_with(&format!("log compiled {name} in 2.")), "{lines:?}");
    assert_eq!(lines[2..], ["origin Compiled"]);
}

#[test]
fn without_a_home_kernels_stay_in_memory_and_the_log_says_so() {
    let lines = answer(command(&this_program(), "environment", &[]));
    assert!(lines[0].starts_with("log kernels are kept in memory only"), "{lines:?}");
    assert_eq!(lines[1..], ["directory None", "origin Compiled"]);
}

#[test]
fn what_the_environment_asks_of_nvrtc_is_in_its_version() {
    if std::env::var("KASMINA_TEST_WITHOUT_NVRTC").is_ok_and(|value| value == "1") {
        return;
    }
    let library = nvrtc::find().unwrap().path;
    let version = |lines| {
        let environment = [("KASMINA_NVRTC", &*library), ("KASMINA_LINE_INFORMATION", Path::new(lines))];
        answer(command(&this_program(), "compiler", &environment))
    };
    assert_eq!(version("0"), version("no"));
    assert_ne!(version("0"), version("1"));
}
