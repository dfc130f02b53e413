//! `kasmina tuning`: what it says is in the database, and what it carries elsewhere arrives.

use super::{printed, program, refused};
use kasmina::graph::Features;
use kasmina::store::{Candidate, Problem, TuningDatabase, TuningLimits, TuningPlace};
use std::path::Path;
use tempfile::tempdir;

pub fn problem() -> Problem {
    Problem {
        class: [0xAB; 32],
        kind: "backward bf16".into(),
        device: "a device, sm_90".into(),
        generator: "1".into(),
        compiler: "nvrtc 13.0".into(),
        rows: 8192,
        seeds: 64,
    }
}

pub fn fill(place: TuningPlace) {
    let tried = [Candidate::new("{\"warps\":4}", 12e-6, 1e-6, 20), Candidate::new("{\"warps\":8}", 34e-6, 1e-6, 20)];
    let database = TuningDatabase::new(place, TuningLimits::default());
    database.record(&problem(), &Features::default(), &tried).unwrap();
}

#[test]
fn what_is_listed_exported_imported_and_cleared_is_what_is_there() {
    let directory = tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).into_os_string().into_string().unwrap();
    let [from, to, text] = [path("from.sqlite"), path("to.sqlite"), path("tuned.jsonl")];
    fill(TuningPlace::File(from.clone().into()));
    let call = |arguments: &[&str], database: &str| printed(&[&["tuning", "--database", database], arguments].concat());
    let listed = call(&["ls"], &from);
    for words in ["abababababab", "backward bf16", "a device, sm_90", "8192", "12.0", "{\"warps\":4}", ": 1 problems"] {
        assert!(listed.contains(words), "{words} in {listed}");
    }
    assert!(call(&["export", &text], &from).contains("1 problems"));
    assert!(call(&["import", &text], &to).contains("2 candidates are new, of 1 lines"));
    assert!(call(&["import", &text], &to).contains("0 candidates are new"));
    assert_eq!(call(&["ls"], &to).replace(&to, ""), listed.replace(&from, ""));
    assert!(call(&["clear"], &to).contains("1 problems removed"));
    assert!(call(&["ls"], &to).contains(": 0 problems"));
}

#[test]
fn what_cannot_be_done_is_said_in_a_sentence() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "no database").unwrap();
    let said = |arguments: &[&str], place: &Path| {
        refused(&program().arg("tuning").args(arguments).env("KASMINA_TUNING_DB", place).output().unwrap(), 1)
    };
    assert!(said(&["ls"], Path::new("off")).contains("set KASMINA_TUNING_DB"));
    assert!(said(&["ls"], &file).contains("no database"));
    assert!(said(&["import", "/nowhere"], &directory.path().join("new")).contains("/nowhere cannot be read"));
    assert!(said(&["import", file.to_str().unwrap()], &directory.path().join("new")).contains("line 1"));
    assert!(said(&["clear"], Path::new("postgres://user:secret@/db?host=%2Fnowhere")).contains("error connecting"));
}
