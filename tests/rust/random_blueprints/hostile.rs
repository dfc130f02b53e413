//! Bytes that want to do harm: each is refused, with the words of `tests/data/hostile/expected.txt`.

use kasmina::graph::{Blueprint, Limits};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Every file of the corpus.
pub fn corpus() -> BTreeMap<String, Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/hostile");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_string();
    files
        .filter(|path| path.extension().is_some_and(|it| it == "json"))
        .map(|it| (name(&it), std::fs::read(it).unwrap()))
        .collect()
}

#[track_caller]
fn refused(name: &str, bytes: &[u8], fragment: &str) {
    let started = Instant::now();
    let error = Blueprint::from_json(bytes).expect_err(name).to_string();
    assert!(error.contains(fragment), "{name}: `{error}` does not say `{fragment}`");
    assert!(error.len() < 2000, "{name}: the message has {} letters", error.len());
    assert!(started.elapsed() < Duration::from_secs(5), "{name} took {:?}", started.elapsed());
}

#[test]
fn hostile_bytes_are_refused_with_the_reason() {
    let mut corpus = corpus();
    let expected = include_str!("../../data/hostile/expected.txt");
    for line in expected.lines().filter(|line| !line.starts_with('#')) {
        let (name, fragment) = line.split_once(": ").unwrap();
        let bytes = corpus.remove(name).unwrap_or_else(|| panic!("there is no {name}"));
        refused(name, &bytes, fragment);
    }
    assert!(corpus.is_empty(), "nothing is expected of {:?}", corpus.keys());
}

/// What is too large to keep in the repository.
#[test]
fn huge_inputs_are_refused_at_once() {
    let megabytes = |text: &str| text.repeat((20 << 20) / text.len());
    let limit = Limits::DEFAULT.bytes;
    for (name, bytes) in
        [("20 MB of [", megabytes("[")), ("20 MB of blanks", megabytes(" ")), ("20 MB of a", megabytes("a"))]
    {
        refused(name, bytes.as_bytes(), &format!("at most {limit} are allowed"));
    }
    refused("a megabyte of nesting", "{\"a\":".repeat(1 << 18).as_bytes(), "EOF");
    let digits = format!("{{\"ir_version\": {}}}", "9".repeat(1 << 19));
    refused("half a million digits", digits.as_bytes(), "out of range");
}
