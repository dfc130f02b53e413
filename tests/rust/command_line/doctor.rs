//! `kasmina doctor`: it says what there is, and its exit code whether anything is wrong.

use super::cache::{file, filled, key};
use super::{program, tuning};
use kasmina::device::cuda;
use kasmina::store::{Bundle, GENERATOR_VERSION, TuningPlace};
use std::path::Path;
use tempfile::tempdir;

/// The lines of the table, the complaint and the exit code, where the environment says this of the cache.
fn doctor(arguments: &[&str], environment: &[(&str, &Path)]) -> (Vec<String>, String, i32) {
    let mut command = program();
    command.arg("doctor").args(arguments).env_remove("KASMINA_CACHE_DIR");
    command.env_remove("KASMINA_CACHE_BUNDLE").env_remove("KASMINA_TUNING_DB");
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect();
    (lines, String::from_utf8(output.stderr).unwrap(), output.status.code().unwrap())
}

#[track_caller]
fn line<'a>(lines: &'a [String], what: &str) -> &'a str {
    lines.iter().find(|line| line.starts_with(what)).unwrap_or_else(|| panic!("no {what} in {lines:#?}"))
}

/// That this thing and no other is wrong, for these reasons.
#[track_caller]
fn assert_wrong(what: &str, words: &[&str], environment: &[(&str, &Path)]) {
    let (lines, complaint, code) = doctor(&[], environment);
    assert!(line(&lines, what).contains("WRONG"), "{lines:#?}");
    assert!(words.iter().all(|word| line(&lines, what).contains(word)), "{lines:#?}");
    assert_eq!(lines.iter().filter(|line| line.contains("WRONG")).count(), 1, "{lines:#?}");
    assert_eq!((complaint.as_str(), code), ("kasmina: one thing is wrong here\n", 1));
}

#[test]
fn a_machine_with_nothing_wrong_is_exit_code_zero() {
    let (place, cache) = filled();
    let (lines, complaint, code) = doctor(&[], &[("KASMINA_CACHE_DIR", &place.path().join("cache"))]);
    assert_eq!((complaint.as_str(), code), ("", 0), "{lines:#?}");
    assert!(line(&lines, "library").contains(env!("CARGO_PKG_VERSION")));
    assert!(line(&lines, "library").contains(GENERATOR_VERSION));
    assert!(line(&lines, "processor").contains("cores"));
    assert!(line(&lines, "cache").contains(cache.directory().to_str().unwrap()));
    assert!(line(&lines, "cache").contains("3 kernels"));
    assert!(line(&lines, "bundle").contains("absent"));
    assert!(lines.iter().any(|line| line.starts_with("driver")) && lines.iter().any(|line| line.starts_with("NVRTC")));
    assert_eq!(std::fs::read_dir(cache.directory()).unwrap().count(), 3, "nothing is left over from looking");
}

#[test]
fn a_missing_device_is_wrong_where_one_is_asked_for() {
    if cuda::installed().is_ok_and(|installed| installed.devices > 0) {
        return;
    }
    let (lines, _, code) = doctor(&["--cuda"], &[("KASMINA_CACHE_DIR", Path::new("off"))]);
    assert!(line(&lines, "driver").contains("WRONG"), "{lines:#?}");
    assert!(line(&lines, "cache").contains("in memory only"), "{lines:#?}");
    assert_eq!(code, 1);
}

#[test]
fn a_cache_that_is_not_there_yet_is_not_made_by_looking() {
    let place = tempdir().unwrap();
    let (lines, _, code) = doctor(&[], &[("KASMINA_CACHE_DIR", &place.path().join("new/cache"))]);
    assert!(line(&lines, "cache").contains("0 kernels"));
    assert_eq!((code, std::fs::read_dir(place.path()).unwrap().count()), (0, 0));
}

#[test]
fn what_is_wrong_with_the_cache_is_said() {
    let (place, cache) = filled();
    let empty = Path::new("");
    assert_wrong("cache", &["HOME", "set KASMINA_CACHE_DIR"], &[("HOME", empty), ("XDG_CACHE_HOME", empty)]);
    let occupied = place.path().join("file");
    std::fs::write(&occupied, b"").unwrap();
    assert_wrong("cache", &[occupied.to_str().unwrap(), "set KASMINA_CACHE_DIR"], &[("KASMINA_CACHE_DIR", &occupied)]);
    std::fs::write(file(&cache, &key(8, GENERATOR_VERSION)), b"damaged").unwrap();
    let directory = place.path().join("cache");
    assert_wrong("cache", &["1 of 3", "kasmina cache verify"], &[("KASMINA_CACHE_DIR", &directory)]);
    std::fs::rename(cache.directory(), place.path().join("elsewhere")).unwrap();
    std::os::unix::fs::symlink(place.path().join("elsewhere"), cache.directory()).unwrap();
    assert_wrong("cache", &["symbolic link"], &[("KASMINA_CACHE_DIR", &directory)]);
}

#[test]
fn a_named_nvrtc_that_is_not_there_is_wrong_even_without_a_device() {
    let off = ("KASMINA_CACHE_DIR", Path::new("off"));
    assert_wrong("NVRTC", &["/nowhere", "KASMINA_NVRTC"], &[off, ("KASMINA_NVRTC", Path::new("/nowhere"))]);
}

#[test]
fn a_bundle_is_useful_or_wrong() {
    let place = tempdir().unwrap();
    let path = place.path().join("kernels.bundle");
    let environment = [("KASMINA_CACHE_DIR", Path::new("off")), ("KASMINA_CACHE_BUNDLE", &*path)];
    assert_wrong("bundle", &["cannot be read", path.to_str().unwrap()], &environment);
    Bundle::write(&path, [(key(8, "another"), vec![1])]).unwrap();
    assert_wrong("bundle", &["none of 1 kernels is of this version"], &environment);
    Bundle::write(&path, [(key(8, "another"), vec![1]), (key(8, GENERATOR_VERSION), vec![2])]).unwrap();
    let (lines, _, code) = doctor(&[], &environment);
    assert!(line(&lines, "bundle").contains("1 of 2 kernels are of this version"), "{lines:#?}");
    assert_eq!(code, 0);
}

#[test]
fn the_tuning_database_lies_beside_the_cache_or_where_it_is_named() {
    let (place, _) = filled();
    let cache = place.path().join("cache");
    let directory = ("KASMINA_CACHE_DIR", &*cache);
    let found = |environment: &[(&str, &Path)]| line(&doctor(&[], environment).0, "tuning").to_owned();
    assert!(found(&[directory]).contains("tuning/tuning.sqlite, 0 problems"));
    tuning::fill(TuningPlace::Cache(cache.clone()));
    assert!(found(&[directory]).contains("fine") && found(&[directory]).contains("1 problems, 2 candidates"));
    assert!(found(&[("KASMINA_CACHE_DIR", Path::new("off"))]).contains("absent"));
    assert!(found(&[directory, ("KASMINA_TUNING_DB", Path::new("off"))]).contains("absent"));
    let file = place.path().join("file");
    std::fs::write(&file, "no database").unwrap();
    assert_wrong("tuning", &["no database", "remove it"], &[directory, ("KASMINA_TUNING_DB", &file)]);
    let server = Path::new("postgres://user:secret@/db?host=%2Fnowhere");
    assert_wrong("tuning", &["postgres:///db", "error connecting"], &[directory, ("KASMINA_TUNING_DB", server)]);
}
