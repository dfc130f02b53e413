//! Kernels carried from one machine to another: what comes out is what went in, or an error, or nothing.

use crate::pipeline::{Fake, machine_code};
use crate::samples::{class, key};
use kasmina::Status;
use kasmina::compile::{Architecture, Origin, Pipeline};
use kasmina::store::{Bundle, DiskCache, DiskLimits, Imported, Key, MemoryCache};
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use tempfile::{TempDir, tempdir};

/// Some kernels, of different sizes, none empty but one.
fn kernels() -> Vec<(Key, Vec<u8>)> {
    [(64, 5000), (65, 0), (66, 300), (67, 1)]
        .map(|(chunk, length)| (key(chunk), (0..length).map(|number| (number % 251) as u8).collect()))
        .into()
}

fn written() -> (TempDir, PathBuf) {
    let place = tempdir().unwrap();
    let path = place.path().join("kernels.bundle");
    assert_eq!(Bundle::write(&path, kernels()).unwrap(), 4);
    (place, path)
}

fn cache(place: &Path) -> DiskCache {
    DiskCache::new(place.join("cache"), DiskLimits::default())
}

fn status(path: &Path) -> Status {
    let error = Bundle::open(path).unwrap_err();
    assert!(error.message().contains(path.to_str().unwrap()), "{error}");
    error.status()
}

#[test]
fn every_kernel_of_a_bundle_is_found_and_no_other() {
    let (place, path) = written();
    let bundle = Bundle::open(&path).unwrap();
    assert_eq!((bundle.len(), bundle.path()), (4, &*path));
    for (key, machine_code) in kernels() {
        assert_eq!(bundle.load(&key).as_deref(), Some(&machine_code[..]));
    }
    assert_eq!(bundle.load(&key(63)), None);
    let mut all: Vec<_> = bundle.kernels().map(Result::unwrap).collect();
    all.sort_by_key(|(_, machine_code)| machine_code.len());
    let mut expected = kernels();
    expected.sort_by_key(|(_, machine_code)| machine_code.len());
    assert_eq!(all, expected);
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 1, "nothing is left over from writing");
    assert!(Bundle::write(&path, []).unwrap() == 0 && Bundle::open(&path).unwrap().is_empty());
    assert_eq!(bundle.load(&key(64)).map(|code| code.len()), Some(5000), "an open bundle outlives its name");
}

#[test]
fn what_one_cache_exports_another_imports_once() {
    let place = tempdir().unwrap();
    let (from, to) = (cache(&place.path().join("one")), cache(&place.path().join("other")));
    for (key, machine_code) in kernels() {
        from.save(&key, &machine_code);
    }
    let path = place.path().join("kernels.bundle");
    Bundle::write(&path, from.stored().unwrap().map(|stored| stored.kernel.unwrap())).unwrap();
    let bundle = Bundle::open(&path).unwrap();
    to.save(&key(66), &kernels()[2].1);
    assert_eq!(to.import(&bundle).unwrap(), Imported { added: 3, present: 1 });
    assert_eq!(to.import(&bundle).unwrap(), Imported { added: 0, present: 4 });
    for (key, machine_code) in kernels() {
        assert_eq!(to.load(&key).as_deref(), Some(&machine_code[..]));
    }
    let other = Path::new(&place.path().join("file")).to_owned();
    fs::write(&other, b"").unwrap();
    assert_eq!(cache(&other).import(&bundle).unwrap_err().status(), Status::StorageFailed);
}

#[test]
fn a_pipeline_takes_from_a_bundle_what_the_cache_has_not_and_writes_nothing() {
    let place = tempdir().unwrap();
    let path = place.path().join("kernels.bundle");
    let compiler = Fake::default();
    let pipeline = |disk, bundle| Pipeline::new(MemoryCache::new(10, 1 << 20), disk, bundle, compiler.clone());
    let made = pipeline(None, None).compile(class(64), Architecture::Cpu).unwrap();
    Bundle::write(&path, [(made.key.clone(), made.machine_code.to_vec())]).unwrap();
    let empty = cache(place.path());
    let directory = empty.directory().to_owned();
    let warm = pipeline(Some(empty), Some(Bundle::open(&path).unwrap()));
    let found = warm.compile(class(64), Architecture::Cpu).unwrap();
    assert_eq!((found.origin, &found.machine_code[..]), (Origin::Disk, &machine_code(&class(64))[..]));
    assert!(!directory.exists(), "there is no need for a second copy");
    assert_eq!(warm.compile(class(65), Architecture::Cpu).unwrap().origin, Origin::Compiled);
    assert_eq!(warm.statistics().disk_hits, 1);
}

#[test]
fn no_flipped_byte_and_no_prefix_of_a_bundle_gives_another_kernel() {
    let (_place, path) = written();
    let good = fs::read(&path).unwrap();
    let flipped =
        (0..good.len()).flat_map(|position| [0x01, 0xff].map(|flip| (position, flip))).map(|(position, flip)| {
            let mut bad = good.clone();
            bad[position] ^= flip;
            (bad, format!("byte {position}"))
        });
    let cut = (0..good.len()).map(|length| (good[..length].to_vec(), format!("{length} bytes")));
    let (mut refused, mut missed) = (0, 0);
    for (bad, what) in flipped.chain(cut) {
        fs::write(&path, &bad).unwrap();
        let Ok(bundle) = Bundle::open(&path) else {
            refused += 1;
            continue;
        };
        let mut misses = 0;
        for (key, machine_code) in kernels() {
            let found = bundle.load(&key);
            assert!(found.as_deref().is_none_or(|found| found == machine_code), "{what}");
            misses += usize::from(found.is_none());
        }
        let errors: Vec<_> = bundle.kernels().filter_map(Result::err).collect();
        assert_eq!((misses, errors.len()), (1, 1), "{what}: one entry is damaged, and the others are not");
        assert_eq!(errors[0].status(), Status::FileCorrupted);
        missed += 1;
    }
    assert!(refused > good.len() && missed > 0, "{refused} refused, {missed} missed");
}

#[test]
fn a_bundle_that_shrinks_while_it_is_open_is_a_miss() {
    let (_place, path) = written();
    let bundle = Bundle::open(&path).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(10).unwrap();
    assert!(kernels().iter().all(|(key, _)| bundle.load(key).is_none()));
    assert!(bundle.kernels().all(|kernel| kernel.is_err()));
}

#[test]
fn bundles_of_other_versions_and_other_files_are_named_errors() {
    let (place, path) = written();
    let good = fs::read(&path).unwrap();
    for (version, expected) in [(1u32, Status::Unsupported), (3, Status::FileTooNew)] {
        let mut other = good.clone();
        let position = other.len() - 44;
        other[position..position + 4].copy_from_slice(&version.to_le_bytes());
        fs::write(&path, &other).unwrap();
        assert_eq!(status(&path), expected);
    }
    fs::write(&path, b"{}".repeat(1000)).unwrap();
    assert_eq!(status(&path), Status::FileCorrupted);
    assert_eq!(status(place.path()), Status::StorageFailed);
    assert_eq!(status(&place.path().join("absent")), Status::StorageFailed);
    let nowhere = place.path().join("absent/kernels.bundle");
    assert_eq!(Bundle::write(&nowhere, kernels()).unwrap_err().status(), Status::StorageFailed);
}

#[test]
fn a_bundle_that_somebody_else_could_have_written_is_refused() {
    let (_place, path) = written();
    for mode in [0o664, 0o646] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(status(&path), Status::StorageFailed);
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
    assert!(Bundle::open(&path).is_ok());
    if chown(&path, Some(65534), None).is_ok() {
        assert_eq!(status(&path), Status::StorageFailed);
    }
}

#[test]
fn looking_at_a_cache_names_what_is_damaged_and_changes_nothing() {
    let place = tempdir().unwrap();
    let cache = cache(place.path());
    assert_eq!(cache.stored().unwrap().count(), 0);
    for chunk in 64..=67 {
        cache.save(&key(chunk), b"machine code");
    }
    let file = |chunk| cache.directory().join(format!("{}.kernel", key(chunk)));
    fs::write(file(65), b"damaged").unwrap();
    fs::copy(file(64), file(66)).unwrap();
    fs::write(cache.directory().join("notes.txt"), b"of somebody").unwrap();
    let before = fs::metadata(file(64)).unwrap().modified().unwrap();
    let stored: Vec<_> = cache.stored().unwrap().collect();
    let reason = |chunk| stored.iter().find(|stored| stored.path == file(chunk)).unwrap().kernel.clone();
    assert_eq!(stored.len(), 4);
    assert_eq!(reason(64).unwrap(), (key(64), b"machine code".to_vec()));
    assert!(reason(65).unwrap_err().contains("cut short"));
    assert!(reason(66).unwrap_err().contains("another kernel"));
    assert!(file(65).exists() && file(66).exists());
    assert_eq!(fs::metadata(file(64)).unwrap().modified().unwrap(), before);
}
