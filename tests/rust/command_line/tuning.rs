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

#[test]
fn a_tuned_kernel_is_in_the_database_with_all_that_was_tried() {
    let directory = tempdir().unwrap();
    let database = directory.path().join("tuned.sqlite");
    let shape = ["--chunk", "8", "--rows", "64", "--seeds", "4"];
    let tune = |more: &[&str], place: &Path| {
        let mut call = program();
        call.args(["tune", "library:residual", "--pass", "forward"]).args(shape).args(more);
        call.env("KASMINA_TUNING_DB", place).env("KASMINA_CACHE_DIR", directory.path()).output().unwrap()
    };
    let output = tune(&["--json"], &database);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let found = &found[0];
    assert_eq!((found["pass"].as_str(), found["finished"].as_bool()), (Some("forward"), Some(true)));
    assert_eq!((found["planned"]["tiling"]["rows"].as_u64(), found["timed"].as_u64()), (Some(32), Some(3)));
    assert!(found["best"]["seconds"].as_f64() <= found["planned"]["seconds"].as_f64());
    let kept = TuningDatabase::new(TuningPlace::File(database.clone()), TuningLimits::default());
    assert_eq!((kept.statistics().problems, kept.statistics().candidates), (1, 3));

    assert!(refused(&tune(&[], Path::new("off")), 1).contains("KASMINA_TUNING_DB is `off`"));
    assert!(refused(&tune(&["--seconds=-1"], &database), 1).contains("-1"));
    assert!(refused(&tune(&["--running", "5"], &database), 1).contains("5 running seeds of 4"));
    assert!(refused(&tune(&["--device", "gpu"], &database), 2).contains("`cuda:` and a number"));
}
