//! `kasmina cache`: what it says of a cache is what is in it, and what it carries elsewhere arrives.

use super::{printed, program, refused};
use kasmina::compile::{Architecture, Pass, kernel_class};
use kasmina::graph::{Attributes, DataType, library};
use kasmina::store::{DiskCache, DiskLimits, GENERATOR_VERSION, Key};
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

/// The key of a kernel as a layer of `chunk` channels would ask for it.
pub fn key(chunk: usize, generator: &str) -> Key {
    let blueprint = library("mlp", chunk, &Attributes::new()).unwrap();
    let class = kernel_class(Pass::Backward, DataType::BF16, false, &[&blueprint]).unwrap();
    Key::new(&class, Architecture::Cuda(80), generator, "nvrtc 13.0").unwrap()
}

/// A cache with a kernel of 8, one of 16, and one of 8 that another version of the library made.
pub fn filled() -> (TempDir, DiskCache) {
    let place = tempdir().unwrap();
    let cache = DiskCache::new(place.path().join("cache"), DiskLimits::default());
    cache.save(&key(8, GENERATOR_VERSION), &[1; 1000]);
    cache.save(&key(16, GENERATOR_VERSION), &[2; 2000]);
    cache.save(&key(8, "another"), &[3; 3000]);
    (place, cache)
}

pub fn file(cache: &DiskCache, key: &Key) -> PathBuf {
    cache.directory().join(format!("{key}.kernel"))
}

/// A call for the cache of `filled`.
fn call<'a>(place: &'a TempDir, arguments: &[&'a str]) -> Vec<String> {
    let directory = place.path().join("cache").into_os_string().into_string().unwrap();
    let arguments = arguments.iter().map(|argument| argument.to_string());
    ["cache".to_string()].into_iter().chain(arguments).chain(["--directory".into(), directory]).collect()
}

#[track_caller]
fn said(place: &TempDir, arguments: &[&str]) -> String {
    printed(&call(place, arguments).iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn ls_lists_every_kernel_with_what_it_is_of() {
    let (place, cache) = filled();
    std::fs::write(file(&cache, &key(16, GENERATOR_VERSION)), b"damaged").unwrap();
    let text = said(&place, &["ls"]);
    let row = |key: &Key| {
        let short = &key.to_string()[..12];
        let found = text.lines().find(|line| line.starts_with(short)).unwrap_or_else(|| panic!("no {short} in {text}"));
        found.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    let size = std::fs::metadata(file(&cache, &key(8, GENERATOR_VERSION))).unwrap().len();
    assert!(row(&key(8, GENERATOR_VERSION)).starts_with(&format!("backward bf16 8 2 best sm_80 {size} ")), "{text}");
    assert!(row(&key(8, "another")).starts_with("of another version sm_80 "), "{text}");
    assert!(row(&key(16, GENERATOR_VERSION)).starts_with("damaged 7 "), "{text}");
    assert!(text.lines().last().unwrap().contains("v2: 3 kernels of at most 65536"), "{text}");
}

#[test]
fn ls_as_json_has_everything_that_is_known() {
    let (place, cache) = filled();
    std::fs::write(file(&cache, &key(16, GENERATOR_VERSION)), b"damaged").unwrap();
    let entries: Vec<serde_json::Value> = serde_json::from_str(&said(&place, &["ls", "--json"])).unwrap();
    let entry = |key: &Key| entries.iter().find(|entry| entry["key"] == key.to_string()).unwrap();
    let ours = entry(&key(8, GENERATOR_VERSION));
    assert_eq!((&ours["pass"], &ours["type"], &ours["chunk"]), (&"backward".into(), &"bf16".into(), &8.into()));
    assert_eq!((&ours["machine_code_bytes"], &ours["compiler"]), (&1000.into(), &"nvrtc 13.0".into()));
    assert!(ours["damage"].is_null() && ours["last_use"].as_u64().unwrap() > 1_700_000_000);
    assert_eq!(entry(&key(8, "another"))["generator"], "another");
    assert!(entry(&key(8, "another"))["pass"].is_null());
    assert!(entry(&key(16, GENERATOR_VERSION))["damage"].as_str().unwrap().contains("cut short"));
    assert_eq!(entries.len(), 3);
}

#[test]
fn verify_names_what_is_damaged_and_removes_it_when_asked() {
    let (place, cache) = filled();
    assert!(said(&place, &["verify"]).ends_with("3 kernels are whole\n"));
    let damaged = file(&cache, &key(16, GENERATOR_VERSION));
    let mut bytes = std::fs::read(&damaged).unwrap();
    bytes[100] ^= 1;
    std::fs::write(&damaged, bytes).unwrap();
    let output = program().args(call(&place, &["verify"])).output().unwrap();
    let (text, complaint) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(text, format!("{}: its checksum is wrong\n", damaged.display()));
    assert!(complaint.contains("1 of 3 kernels") && complaint.contains("--remove"), "{complaint}");
    assert_eq!((output.status.code(), damaged.exists()), (Some(1), true));
    assert!(said(&place, &["verify", "--remove"]).ends_with("2 kernels are whole, and 1 that were not are removed\n"));
    assert!(said(&place, &["verify"]).ends_with("2 kernels are whole\n"));
}

#[test]
fn gc_keeps_to_the_limits_it_is_given() {
    let (place, cache) = filled();
    let left = || std::fs::read_dir(cache.directory()).unwrap().count();
    assert!(said(&place, &["gc"]).contains(": 0 kernels and 0 abandoned files removed; 3 kernels, "));
    let old = std::fs::File::options().write(true).open(file(&cache, &key(8, "another"))).unwrap();
    old.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(10 * 24 * 3600)).unwrap();
    assert!(said(&place, &["gc", "--days", "11"]).contains(": 0 kernels"));
    assert!(said(&place, &["gc", "--days", "9"]).contains(": 1 kernels and 0 abandoned files removed; 2 kernels, "));
    assert_eq!(left(), 2);
    said(&place, &["gc", "--entries", "1"]);
    assert_eq!(left(), 1);
    assert!(said(&place, &["gc", "--bytes", "0"]).ends_with("0 kernels, 0 bytes are left\n"));
    assert_eq!(left(), 0);
}

#[test]
fn export_and_import_carry_the_kernels_of_this_version_or_all() {
    let (place, cache) = filled();
    let (bundle, other) = (place.path().join("kernels.bundle"), tempdir().unwrap());
    let path = bundle.to_str().unwrap();
    assert!(said(&place, &["export", path]).contains(": 2 kernels; left out are 0 damaged and 1 of other versions"));
    assert!(said(&other, &["import", path]).ends_with("2 kernels added, 0 were there already\n"));
    std::fs::write(file(&cache, &key(16, GENERATOR_VERSION)), b"damaged").unwrap();
    assert!(said(&place, &["export", path, "--all"]).contains(": 2 kernels; left out are 1 damaged and 0 of other"));
    assert!(said(&other, &["import", path]).ends_with("1 kernels added, 1 were there already\n"));
    let carried = DiskCache::new(other.path().join("cache"), DiskLimits::default());
    for (key, code) in [(key(8, GENERATOR_VERSION), [1; 1000].to_vec()), (key(8, "another"), [3; 3000].to_vec())] {
        assert_eq!(carried.load(&key).as_deref(), Some(&code[..]));
    }
}

#[test]
fn what_cannot_be_done_is_one_sentence_with_the_remedy() {
    let (place, _cache) = filled();
    let garbage = place.path().join("garbage");
    std::fs::write(&garbage, b"not a bundle at all, but long enough to be one by its length alone").unwrap();
    let nowhere = place.path().join("no/such/folder");
    let occupied = tempdir().unwrap();
    std::fs::write(occupied.path().join("cache"), b"a file").unwrap();
    let paths = [garbage.to_str().unwrap(), nowhere.to_str().unwrap()];
    let cases: [(&TempDir, &[&str], &str); 5] = [
        (&place, &["import", paths[0]], "it is not a bundle"),
        (&place, &["import", paths[1]], "cannot be read"),
        (&place, &["export", paths[1]], "cannot be written"),
        (&occupied, &["ls"], "KASMINA_CACHE_DIR"),
        (&occupied, &["gc"], "KASMINA_CACHE_DIR"),
    ];
    for (place, arguments, reason) in cases {
        let said = refused(&program().args(call(place, arguments)).output().unwrap(), 1);
        assert!(said.contains(reason) && said.lines().count() == 1, "{arguments:?}: {said}");
    }
    let off = program().args(["cache", "ls"]).env("KASMINA_CACHE_DIR", "off").output().unwrap();
    assert!(refused(&off, 1).contains("--directory"));
}

#[test]
fn a_cache_that_is_not_there_is_empty_and_stays_away() {
    let place = tempdir().unwrap();
    let bundle = place.path().join("kernels.bundle");
    assert!(said(&place, &["ls"]).contains(": 0 kernels of at most"));
    assert_eq!(said(&place, &["ls", "--json"]), "[]\n");
    said(&place, &["verify"]);
    said(&place, &["gc"]);
    said(&place, &["export", bundle.to_str().unwrap()]);
    assert!(!Path::new(&place.path().join("cache")).exists());
}
