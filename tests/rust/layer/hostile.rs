//! Checkpoints that want to do harm: each is refused at once, with the words of `tests/data/hostile_checkpoints/expected.txt`.

use crate::checkpoint::load;
use kasmina::Status;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[test]
fn hostile_checkpoints_are_refused_with_the_reason() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/data/hostile_checkpoints");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
    let mut corpus: BTreeMap<String, Vec<u8>> = files
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()))
        .collect();
    let expected = include_str!("../../data/hostile_checkpoints/expected.txt");
    for line in expected.lines().filter(|line| !line.starts_with('#')) {
        let (name, words) = line.split_once(": ").unwrap();
        let bytes = corpus.remove(name).unwrap_or_else(|| panic!("there is no {name}"));
        let started = Instant::now();
        let error = load(&bytes).err().unwrap_or_else(|| panic!("{name} was taken for a checkpoint"));
        assert!(error.to_string().contains(words), "{name}: `{error}` does not say `{words}`");
        assert!(error.to_string().len() < 2000, "{name}: {error}");
        assert_ne!(error.status(), Status::Panic, "{name}");
        assert!(started.elapsed() < Duration::from_secs(5), "{name} took {:?}", started.elapsed());
    }
    assert!(corpus.is_empty(), "nothing is expected of {:?}", corpus.keys());
}
