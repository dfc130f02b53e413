//! Whatever happens to the files, a load gives what was saved or nothing.

use crate::samples::{incompressible, key};
use kasmina::store::{DiskCache, DiskLimits};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};
use tempfile::{TempDir, tempdir};

const CODE: &[u8] = b"machine code of a kernel";

/// Saves and then cleans up, as the pipeline does.
fn save_and_clean_up(cache: &DiskCache, chunk: usize, code: &[u8]) {
    cache.save(&key(chunk), code);
    cache.clean_up();
}

/// An empty cache in a new place.
fn empty() -> (TempDir, DiskCache) {
    let place = tempdir().unwrap();
    let cache = DiskCache::new(place.path().join("cache"), DiskLimits::default());
    (place, cache)
}

/// Every file under the cache's directory.
fn files(cache: &DiskCache) -> Vec<PathBuf> {
    fs::read_dir(cache.directory()).map_or(vec![], |entries| entries.map(|entry| entry.unwrap().path()).collect())
}

/// The one file there is after saving one kernel.
fn saved(cache: &DiskCache) -> PathBuf {
    cache.save(&key(64), CODE);
    let files = files(cache);
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

/// The entry is a miss, the file is gone, and a new save works.
fn assert_removed(cache: &DiskCache, file: &Path, what: &str) {
    assert_eq!(cache.load(&key(64)), None, "{what}");
    assert!(fs::symlink_metadata(file).is_err(), "{what}: the file is still there");
}

fn set_age(file: &Path, age: Duration) {
    fs::File::options().write(true).open(file).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

#[test]
fn what_is_saved_is_loaded_by_this_and_by_another_cache() {
    let (place, cache) = empty();
    assert_eq!(cache.load(&key(64)), None);
    for code in [CODE, b"", &[0; 100_000]] {
        cache.save(&key(64), code);
        assert_eq!(cache.load(&key(64)).as_deref(), Some(code));
        let other = DiskCache::new(place.path().join("cache"), DiskLimits::default());
        assert_eq!(other.load(&key(64)).as_deref(), Some(code));
        assert_eq!(other.load(&key(65)), None);
    }
    assert_eq!((cache.errors(), files(&cache).len()), (0, 1));
}

#[test]
fn directory_and_entries_are_private_to_the_user() {
    let (place, cache) = empty();
    let file = saved(&cache);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.path().join("cache")), 0o700);
    assert_eq!(mode(cache.directory()), 0o700);
    assert_eq!(mode(&file), 0o600);
}

#[test]
fn a_directory_that_others_may_write_is_closed_to_them() {
    let (_place, cache) = empty();
    saved(&cache);
    fs::set_permissions(cache.directory(), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(cache.load(&key(64)).as_deref(), Some(CODE));
    assert_eq!(fs::metadata(cache.directory()).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn every_flipped_byte_is_a_miss_and_removes_the_file() {
    let (_place, cache) = empty();
    let file = saved(&cache);
    let good = fs::read(&file).unwrap();
    for position in 0..good.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bad = good.clone();
            bad[position] ^= flip;
            fs::write(&file, &bad).unwrap();
            assert_removed(&cache, &file, &format!("byte {position} of {}", good.len()));
        }
    }
    fs::write(&file, &good).unwrap();
    assert_eq!(cache.load(&key(64)).as_deref(), Some(CODE));
    assert_eq!(cache.errors(), 0);
}

#[test]
fn every_prefix_and_every_longer_file_is_a_miss_and_removes_the_file() {
    let (_place, cache) = empty();
    let file = saved(&cache);
    let good = fs::read(&file).unwrap();
    for length in 0..good.len() {
        fs::write(&file, &good[..length]).unwrap();
        assert_removed(&cache, &file, &format!("{length} bytes of {}", good.len()));
    }
    for more in [&b"\0"[..], &good] {
        fs::write(&file, [&good, more].concat()).unwrap();
        assert_removed(&cache, &file, "appended bytes");
    }
}

#[test]
fn damage_with_a_matching_checksum_is_a_miss_too() {
    let (_place, cache) = empty();
    let file = saved(&cache);
    let good = fs::read(&file).unwrap();
    let checksum = good.len() - 36;
    // Magic, version, both lengths, the preimage, the machine code.
    for position in [0, 8, 12, 20, 28, checksum - 1] {
        let mut bad = good.clone();
        bad[position] ^= 1;
        let recomputed = crc32fast::hash(&bad[..checksum]).to_le_bytes();
        bad[checksum..checksum + 4].copy_from_slice(&recomputed);
        fs::write(&file, &bad).unwrap();
        assert_removed(&cache, &file, &format!("byte {position}"));
    }
}

#[test]
fn the_entry_of_another_kernel_is_a_miss_and_removed() {
    let (_place, cache) = empty();
    let file = saved(&cache);
    let name = key(65).to_string();
    let other =
        cache.directory().join(file.file_name().unwrap().to_str().unwrap().replace(&key(64).to_string(), &name));
    fs::rename(&file, &other).unwrap();
    assert_eq!(cache.load(&key(65)), None);
    assert!(!other.exists());
}

#[test]
fn a_linked_entry_is_removed_and_its_target_is_not() {
    let (place, cache) = empty();
    let file = saved(&cache);
    let target = place.path().join("elsewhere");
    fs::rename(&file, &target).unwrap();
    symlink(&target, &file).unwrap();
    assert_removed(&cache, &file, "symbolic link");
    assert!(target.exists());
}

#[test]
fn a_linked_directory_is_refused_and_left_alone() {
    let (place, cache) = empty();
    let file = saved(&cache);
    let target = place.path().join("elsewhere");
    fs::rename(cache.directory(), &target).unwrap();
    symlink(&target, cache.directory()).unwrap();
    assert_eq!(cache.load(&key(64)), None);
    cache.save(&key(65), CODE);
    assert_eq!(cache.errors(), 2);
    assert!(file.exists() && fs::read_dir(&target).unwrap().count() == 1);
}

#[test]
fn what_is_not_a_file_is_a_miss() {
    let (_place, cache) = empty();
    let file = saved(&cache);
    fs::remove_file(&file).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, &file, rustix::fs::Mode::RUSR).unwrap();
    assert_removed(&cache, &file, "pipe");
    fs::create_dir(&file).unwrap();
    assert_eq!(cache.load(&key(64)), None);
    cache.save(&key(64), CODE);
    assert_eq!((cache.errors(), files(&cache)), (2, vec![file]), "neither removed nor replaced, and nothing left over");
}

#[test]
fn entries_and_directories_of_another_user_are_refused() {
    let (_place, cache) = empty();
    let file = saved(&cache);
    let mine = fs::metadata(&file).unwrap().uid();
    if std::os::unix::fs::chown(&file, Some(mine + 1), None).is_err() {
        return; // Only root can give files away.
    }
    assert_removed(&cache, &file, "foreign owner");
    let file = saved(&cache);
    std::os::unix::fs::chown(cache.directory(), Some(mine + 1), None).unwrap();
    assert_eq!(cache.load(&key(64)), None);
    cache.save(&key(65), CODE);
    assert_eq!((cache.errors(), files(&cache)), (2, vec![file]));
}

#[test]
fn the_oldest_entries_go_when_there_are_too_many() {
    let place = tempdir().unwrap();
    let cache = DiskCache::new(place.path(), DiskLimits { entries: 8, bytes: 1 << 20, ..DiskLimits::default() });
    for chunk in 1..=8 {
        save_and_clean_up(&cache, chunk, CODE);
        set_age(&cache.directory().join(format!("{}.kernel", key(chunk))), Duration::from_secs(1000 - chunk as u64));
    }
    // Loading counts as a use, so the first is not the oldest any more.
    assert!(cache.load(&key(1)).is_some());
    save_and_clean_up(&cache, 9, CODE);
    let left: Vec<usize> = (1..=9).filter(|chunk| cache.load(&key(*chunk)).is_some()).collect();
    assert_eq!(left, [1, 4, 5, 6, 7, 8, 9]);
    for chunk in 10..40 {
        save_and_clean_up(&cache, chunk, CODE);
        assert!(files(&cache).len() <= 8);
        assert!(cache.load(&key(chunk)).is_some(), "what was just saved must stay");
    }
}

#[test]
fn bytes_are_bounded_and_larger_entries_are_not_kept() {
    let place = tempdir().unwrap();
    let cache = DiskCache::new(place.path(), DiskLimits { entries: 1000, bytes: 20_000, ..DiskLimits::default() });
    for chunk in 1..40 {
        save_and_clean_up(&cache, chunk, &incompressible(3000));
        let bytes: u64 = files(&cache).iter().map(|file| fs::metadata(file).unwrap().len()).sum();
        assert!(bytes <= 20_000, "{bytes} bytes after {chunk}");
    }
    let before = files(&cache);
    save_and_clean_up(&cache, 64, &incompressible(20_000));
    assert_eq!((cache.load(&key(64)), cache.errors()), (None, 0));
    assert_eq!(files(&cache), before);
}

#[test]
fn what_nobody_used_for_too_long_goes_and_what_is_from_the_future_stays() {
    let place = tempdir().unwrap();
    let limits = DiskLimits { age: Duration::from_secs(1000), ..DiskLimits::default() };
    let cache = DiskCache::new(place.path(), limits);
    for chunk in 1..=4 {
        cache.save(&key(chunk), CODE);
    }
    let file = |chunk| cache.directory().join(format!("{}.kernel", key(chunk)));
    set_age(&file(1), Duration::from_secs(1100));
    set_age(&file(2), Duration::from_secs(900));
    set_age(&file(3), Duration::from_secs(1100));
    let tomorrow = SystemTime::now() + Duration::from_secs(86_400);
    fs::File::options().write(true).open(file(4)).unwrap().set_modified(tomorrow).unwrap();
    assert!(cache.load(&key(3)).is_some(), "it is there until the clean-up, and this is a use");
    cache.clean_up();
    assert_eq!([1, 2, 3, 4].map(|chunk| file(chunk).exists()), [false, true, true, true]);
}

#[test]
fn machine_code_is_compressed() {
    let (_place, cache) = empty();
    let code = b"mov.b32 r1, r2; ".repeat(1000);
    cache.save(&key(64), &code);
    let (preimage, size) = (key(64).preimage().len(), fs::metadata(&files(&cache)[0]).unwrap().len() as usize);
    assert!(size < preimage + code.len() / 10, "{size} bytes");
    assert_eq!(cache.load(&key(64)).as_deref(), Some(&code[..]));
}

#[test]
fn an_entry_that_unpacks_to_more_or_less_than_it_says_is_a_miss() {
    let (_place, cache) = empty();
    for length in [0, CODE.len() as u64 - 1, CODE.len() as u64 + 1, u64::MAX] {
        let file = saved(&cache);
        let mut bytes = fs::read(&file).unwrap();
        bytes[20..28].copy_from_slice(&length.to_le_bytes());
        let checksum = bytes.len() - 36;
        let recomputed = crc32fast::hash(&bytes[..checksum]).to_le_bytes();
        bytes[checksum..checksum + 4].copy_from_slice(&recomputed);
        fs::write(&file, &bytes).unwrap();
        assert_removed(&cache, &file, &format!("length {length}"));
    }
}

#[test]
fn what_other_caches_wrote_counts() {
    let place = tempdir().unwrap();
    let limits = DiskLimits { entries: 10, bytes: 1 << 20, ..DiskLimits::default() };
    for chunk in 1..=30 {
        save_and_clean_up(&DiskCache::new(place.path(), limits), chunk, CODE);
    }
    assert!(files(&DiskCache::new(place.path(), limits)).len() <= 10);
}

#[test]
fn abandoned_temporary_files_go_and_all_else_stays() {
    let (_place, cache) = empty();
    fs::create_dir_all(cache.directory()).unwrap();
    let [abandoned, fresh, foreign] =
        ["1-0-1.temporary", "1-1-1.temporary", "notes.txt"].map(|name| cache.directory().join(name));
    for file in [&abandoned, &fresh, &foreign] {
        fs::write(file, b"half an entry").unwrap();
    }
    set_age(&abandoned, Duration::from_secs(7200));
    set_age(&foreign, Duration::from_secs(7200));
    save_and_clean_up(&cache, 64, CODE);
    assert!(!abandoned.exists() && fresh.exists() && foreign.exists());
}

#[test]
fn a_directory_removed_meanwhile_is_made_again() {
    let (place, cache) = empty();
    saved(&cache);
    fs::remove_dir_all(place.path().join("cache")).unwrap();
    assert_eq!(cache.load(&key(64)), None);
    cache.save(&key(64), CODE);
    assert_eq!(cache.load(&key(64)).as_deref(), Some(CODE));
    assert_eq!(cache.errors(), 0);
}

#[test]
fn a_directory_that_cannot_be_made_is_counted_and_otherwise_a_miss() {
    let place = tempdir().unwrap();
    fs::write(place.path().join("cache"), b"a file").unwrap();
    let cache = DiskCache::new(place.path().join("cache"), DiskLimits::default());
    cache.save(&key(64), CODE);
    assert_eq!(cache.load(&key(64)), None);
    assert_eq!(cache.errors(), 2);
}

#[test]
fn threads_that_save_and_load_one_key_see_all_of_it_or_nothing() {
    let (_place, cache) = empty();
    let codes = [vec![1; 50_000], vec![2; 70_000], vec![3; 10]];
    std::thread::scope(|scope| {
        for code in &codes {
            let (cache, codes) = (&cache, &codes);
            scope.spawn(move || {
                for _ in 0..30 {
                    cache.save(&key(64), code);
                    let found = cache.load(&key(64)).expect("an entry once written is never missing");
                    assert!(codes.iter().any(|code| code[..] == found[..]));
                }
            });
        }
    });
    assert_eq!((cache.errors(), files(&cache).len()), (0, 1));
}
