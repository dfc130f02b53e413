//! Many processes at one tuning database, and a forked one. The test program runs itself: see `crate::processes`.

use super::places::{self, Place};
use super::{candidate, features, problem};
use crate::processes::{answer, command, completed, this_program};
use kasmina::store::TuningDatabase;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

const PROBLEMS: u64 = 8;
const NOBODY: u32 = 65534;

/// What a child does.
pub fn scenario(name: &str) {
    let database = TuningDatabase::from_environment().unwrap();
    let record = |number, schedule: &str| {
        database.record(&problem(number), &features("mlp", 64), &[candidate(schedule, 10)]).unwrap();
    };
    match name {
        "tune" => {
            std::thread::scope(|scope| {
                for thread in 0..2 {
                    let name = format!("{} {thread}", std::process::id());
                    scope.spawn(move || (0..PROBLEMS).for_each(|number| record(number, &name)));
                }
            });
            println!("errors {}", database.statistics().errors);
        }
        "tune without end" => (0..u64::MAX).for_each(|number| record(number, "a")),
        "tune and fork" => fork_between(&database, &record),
        "tune on a bad disk" => {
            println!("loaded {}", database.best(&problem(0)).is_some());
            (1..20).for_each(|number| record(number, &"long".repeat(10_000)));
            println!("loaded {}", database.best(&problem(0)).is_some());
            println!("errors {}", if database.statistics().errors > 0 { "some" } else { "none" });
        }
        other => panic!("no scenario {other}"),
    }
}

fn fork_between(database: &TuningDatabase, record: &dyn Fn(u64, &str)) {
    unsafe extern "C" {
        safe fn fork() -> i32;
    }
    record(0, "parent, before");
    match fork() {
        0 => {
            println!("loaded {}", database.best(&problem(0)).is_some());
            record(1, "child");
            println!("errors {}", database.statistics().errors);
            std::process::exit(0);
        }
        _ => {
            while database.best(&problem(1)).is_none() {
                std::thread::sleep(Duration::from_millis(5));
            }
            record(2, "parent, after");
            println!("errors {}", database.statistics().errors);
        }
    }
}

fn child(place: &Place, scenario: &str) -> Command {
    command(&this_program(), scenario, &[("KASMINA_TUNING_DB", &place.named())])
}

fn lasting() -> impl Iterator<Item = Place> {
    places::all().into_iter().filter(Place::lasts)
}

#[test]
fn processes_that_record_at_once_lose_nothing() {
    for place in lasting() {
        let lines: Vec<_> = std::thread::scope(|scope| {
            let children: Vec<_> = (0..4).map(|_| scope.spawn(|| answer(child(&place, "tune")))).collect();
            children.into_iter().map(|child| child.join().unwrap()).collect()
        });
        assert_eq!(lines, vec![["errors 0"]; 4], "in {}", place.name);
        let database = place.open();
        (0..PROBLEMS).for_each(|number| assert_eq!(database.candidates(&problem(number)).len(), 8));
        assert_eq!(database.statistics().problems, PROBLEMS);
    }
}

#[test]
fn killed_processes_leave_what_they_had_recorded_and_nothing_half() {
    for place in lasting() {
        let mut recorded = 0;
        for round in 0..6 {
            let mut child = child(&place, "tune without end").spawn().unwrap();
            std::thread::sleep(Duration::from_millis(60 + 10 * round));
            child.kill().unwrap();
            child.wait().unwrap();
            let (database, mut seen) = (place.open(), 0);
            database
                .each(|tuned| {
                    seen += 1;
                    assert_eq!(tuned.candidates.len(), 1);
                    Ok(())
                })
                .unwrap();
            assert!(seen >= recorded, "{seen} problems, but {recorded} before");
            assert_eq!(database.statistics().fault, None);
            recorded = seen;
        }
        println!("in {}: {recorded} problems", place.name);
    }
}

#[test]
fn a_forked_child_has_a_connection_of_its_own() {
    for place in lasting() {
        let mut lines = answer(child(&place, "tune and fork"));
        lines.sort();
        assert_eq!(lines, ["errors 0", "errors 0", "loaded true"], "in {}", place.name);
        let database = place.open();
        (0..3).for_each(|number| assert!(database.best(&problem(number)).is_some(), "{number}"));
    }
}

/// What a child says that finds one problem there and can write nothing or not enough: what is there, and why, once.
#[track_caller]
fn assert_serves(command: Command) {
    let lines = answer(command);
    let (logged, rest): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line.starts_with("log "));
    assert_eq!(rest, ["loaded true", "loaded true", "errors some"]);
    assert_eq!(logged.len(), 1, "{lines:?}");
    assert!(logged[0].contains("the tuning database"), "{lines:?}");
}

#[test]
fn a_full_disk_still_answers() {
    let place = places::file();
    place.open().record(&problem(0), &features("mlp", 64), &[candidate("a", 10)]).unwrap();
    let mut shell = Command::new("/bin/sh");
    shell.args(["-c", "trap '' XFSZ; ulimit -f 400; exec \"$@\"", "sh"]).arg(this_program());
    assert_serves(completed(shell, "tune on a bad disk", &[("KASMINA_TUNING_DB", &place.named())]));
    assert!(place.open().best(&problem(0)).is_some());
}

#[test]
fn a_read_only_directory_still_answers() {
    let place = places::file();
    place.open().record(&problem(0), &features("mlp", 64), &[candidate("a", 10)]).unwrap();
    let (file, whole) = (place.named(), place.directory.as_ref().unwrap().path());
    let directory = file.parent().unwrap();
    let mut program = this_program();
    let root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    if root {
        // Root may write anywhere, so somebody else reads; who must be able to reach the program and the place.
        program = whole.join("program");
        std::fs::copy(this_program(), &program).unwrap();
        for path in [whole, directory.parent().unwrap(), directory, &file] {
            chown(path, Some(NOBODY), None).unwrap();
        }
    }
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o555)).unwrap();
    let mut child = command(&program, "tune on a bad disk", &[("KASMINA_TUNING_DB", Path::new(&file))]);
    if root {
        child.uid(NOBODY);
    }
    assert_serves(child);
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).unwrap();
}
