//! What only a file of SQLite can suffer.

use super::places::file;
use super::{candidate, features, problem};
use kasmina::store::{Candidate, TuningDatabase, TuningLimits, TuningPlace};
use rusqlite::Connection;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use tempfile::tempdir;

fn at(path: &Path) -> TuningDatabase {
    TuningDatabase::new(TuningPlace::File(path.into()), TuningLimits::default())
}

fn record(database: &TuningDatabase, number: u64) -> Candidate {
    let tried = candidate(&format!("schedule of {number}"), 10);
    database.record(&problem(number), &features("mlp", 64), std::slice::from_ref(&tried)).unwrap();
    tried
}

#[test]
fn the_file_is_private_and_looking_makes_none() {
    let place = file();
    let (database, root) = (place.open(), place.directory.as_ref().unwrap().path());
    assert_eq!((database.best(&problem(1)), database.statistics().problems), (None, 0));
    assert_eq!(fs::read_dir(root).unwrap().count(), 0);
    record(&database, 1);
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&place.named()), mode(place.named().parent().unwrap())), (0o600, 0o700));
    drop(database);
    let files: Vec<_> = fs::read_dir(place.named().parent().unwrap()).unwrap().collect();
    assert_eq!(files.len(), 1, "neither a log nor a lock is left: {files:?}");
}

#[test]
fn a_file_that_is_removed_meanwhile_is_made_again() {
    let place = file();
    let database = place.open();
    record(&database, 1);
    fs::remove_dir_all(place.named().parent().unwrap()).unwrap();
    assert_eq!(database.best(&problem(1)), None);
    let second = record(&database, 2);
    assert_eq!(place.open().best(&problem(2)), Some(second));
    assert_eq!((database.statistics().errors, database.statistics().fault), (0, None));
}

#[test]
fn a_damaged_byte_gives_what_was_recorded_or_nothing_and_never_stops_anybody() {
    let place = file();
    let expected: Vec<_> = (0..12).map(|number| record(&place.open(), number)).collect();
    let bytes = fs::read(place.named()).unwrap();
    let step = bytes.len() / 150;
    let (mut whole, mut aside) = (0, 0);
    for round in 0..150 {
        let mut damaged = bytes.clone();
        let position = if round < 20 { 5 * round } else { round * step + round % 7 };
        damaged[position] ^= 1 << (round % 8);
        fs::write(place.named(), damaged).unwrap();
        let database = place.open();
        for (number, expected) in (0..).zip(&expected) {
            let best = database.best(&problem(number));
            assert!(best.is_none() || best.as_ref() == Some(expected), "byte {position}: {best:?}");
            whole += usize::from(best.is_some());
        }
        database.neighbours(&problem(100), &features("mlp", 64), 0.8);
        let kept = record(&database, 100);
        assert_eq!(database.best(&problem(100)), Some(kept), "byte {position}: {:?}", database.statistics());
        drop(database);
        let set_aside = place.named().with_file_name("tuning.sqlite.damaged");
        aside += usize::from(fs::remove_file(set_aside).is_ok());
        for ending in ["sqlite-wal", "sqlite-shm", "sqlite.damaged-wal"] {
            let _ = fs::remove_file(place.named().with_extension(ending));
        }
    }
    assert!(whole > 150 * 6 && aside > 5, "{whole} answers, {aside} set aside");
}

#[test]
fn a_file_cut_short_or_of_other_bytes_is_set_aside_and_begun_anew() {
    let place = file();
    record(&place.open(), 1);
    let bytes = fs::read(place.named()).unwrap();
    let garbage = vec![0x5A; 10_000];
    for content in [&bytes[..4096], &bytes[..bytes.len() - 4096], &garbage] {
        fs::write(place.named(), content).unwrap();
        let database = place.open();
        let second = record(&database, 2);
        let fault = database.statistics().fault.unwrap();
        assert!(fault.contains("damaged") && fault.contains("tuning.sqlite.damaged"), "{fault}");
        assert_eq!(place.open().best(&problem(2)), Some(second));
        let aside = place.named().with_file_name("tuning.sqlite.damaged");
        assert_eq!(fs::read(&aside).unwrap().len(), content.len(), "what was there can still be looked into");
        drop(database);
        fs::remove_file(place.named()).unwrap();
    }
}

/// That the database works in memory only, why, and that the file is as it was.
#[track_caller]
fn assert_left_alone(path: &Path, words: &str) {
    let before = fs::read(path).ok();
    let database = at(path);
    let kept = record(&database, 1);
    assert_eq!(database.best(&problem(1)), Some(kept));
    let fault = database.statistics().fault.unwrap();
    assert!(fault.contains(words), "{fault}");
    drop(database);
    assert_eq!(fs::read(path).ok(), before);
}

#[test]
fn files_that_are_not_of_this_library_are_left_alone() {
    let directory = tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::write(path("text"), "a text, and no database at all").unwrap();
    assert_left_alone(&path("text"), "no database");
    Connection::open(path("other")).unwrap().execute_batch("CREATE TABLE accounts (name TEXT)").unwrap();
    assert_left_alone(&path("other"), "another program");
    record(&at(&path("newer")), 5);
    Connection::open(path("newer")).unwrap().execute_batch("PRAGMA user_version = 99").unwrap();
    assert_left_alone(&path("newer"), "version 99");
    symlink(path("newer"), path("link")).unwrap();
    assert_left_alone(&path("link"), "symbolic link");
    assert_left_alone(directory.path(), "not a file");
}

#[test]
fn what_was_looked_up_lately_outlives_what_was_recorded_lately() {
    let place = file();
    let database = place.open_with(TuningLimits { problems: 16, candidates: 4 });
    (0..16).for_each(|number| drop(record(&database, number)));
    let yesterday = "UPDATE kasmina_problems SET used_at = used_at - 86400000000";
    Connection::open(place.named()).unwrap().execute_batch(yesterday).unwrap();
    assert!(database.best(&problem(0)).is_some());
    assert_eq!(database.candidates(&problem(1)).len(), 1);
    record(&database, 16);
    let kept: Vec<_> = (0..17).filter(|number| database.best(&problem(*number)).is_some()).collect();
    assert_eq!(kept, [0, 1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]);
}
