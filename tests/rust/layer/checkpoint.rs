//! Checkpoints: what comes back, and what is refused.

use crate::bench::{Bench, STREAM, command, device_kind, easy, read};
use kasmina::Status;
use kasmina::graph::DataType;
use kasmina::layer::{Action, Layer, Lifecycle, Settings};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A layer with seeds in many states, a queue, and an epoch half gone.
fn busy() -> Bench {
    let mut settings = Settings { layer_id: r#"a "quoted" \"crc32\":\"00000000\" name"#.to_owned(), ..easy() };
    settings.training.learning_rate = 1.0 / 3.0;
    settings.training.loss_threshold = 1e-12;
    settings.random_seed = u64::MAX;
    let mut bench = Bench::new(22, 4, settings.clone(), &[("bottleneck", 3), ("residual", 2)]);
    bench.bring(1, Lifecycle::Training);
    let germinate = kasmina::layer::Command { blueprint: 1, ..command(3, Action::Germinate) };
    bench.apply(&[germinate]);
    bench.epoch();
    bench.submit(&[command(3, Action::StartTraining), command(0, Action::Germinate)]);
    bench.forward_observed(None);
    bench.train();
    bench
}

pub fn load(bytes: &[u8]) -> kasmina::Result<Layer> {
    Layer::from_bytes(bytes, device_kind())
}

#[test]
fn a_checkpoint_gives_back_every_byte() {
    let bench = busy();
    let bytes = bench.layer.to_bytes(STREAM).unwrap();
    let loaded = load(&bytes).unwrap();
    assert_eq!(loaded.to_bytes(STREAM).unwrap(), bytes);
    assert_eq!(loaded.config().settings, bench.layer.config().settings);
    assert_eq!((loaded.state(), loaded.epoch()), (bench.layer.state(), bench.layer.epoch()));
    for index in 0..2 {
        let (ours, theirs) = (bench.layer.bank(index).unwrap(), loaded.bank(index).unwrap());
        assert_eq!(read::<u8>(&ours.mode), read::<u8>(&theirs.mode));
    }
    assert_eq!(
        loaded.report().seeds.iter().map(|seed| format!("{seed:?}")).collect::<Vec<_>>(),
        bench.layer.report().seeds.iter().map(|seed| format!("{seed:?}")).collect::<Vec<_>>()
    );
}

#[test]
fn training_goes_on_from_a_checkpoint_as_if_nothing_had_happened() {
    let mut original = busy();
    let mut loaded = Bench::around(load(&original.layer.to_bytes(STREAM).unwrap()).unwrap());
    for epoch in 0..6 {
        for bench in [&mut original, &mut loaded] {
            let summary = bench.epoch();
            assert_eq!(summary.refused, []);
            if epoch == 0 {
                assert_eq!(summary.applied.len(), 2);
            }
            if epoch == 3 {
                bench.submit(&[command(0, Action::StartTraining)]);
            }
        }
        assert_eq!(original.forward(), loaded.forward());
        assert!(original.layer.to_bytes(STREAM).unwrap() == loaded.layer.to_bytes(STREAM).unwrap(), "epoch {epoch}");
    }
}

#[test]
fn a_fossilised_seed_computes_the_same_after_a_restart() {
    let mut bench = Bench::in_state(Lifecycle::Fossilized);
    bench.epoch();
    let loaded = Bench::around(load(&bench.layer.to_bytes(STREAM).unwrap()).unwrap());
    assert_ne!(loaded.forward(), loaded.x.read());
    assert_eq!(loaded.forward(), bench.forward());
}

#[test]
fn a_copy_of_the_other_parameter_type_has_the_same_numbers() {
    let bench = busy();
    let wide = bench.layer.copy(device_kind(), DataType::F64, STREAM).unwrap();
    for index in 0..2 {
        let (ours, theirs) = (bench.layer.bank(index).unwrap(), wide.bank(index).unwrap());
        for (ours, theirs) in [
            (ours.parameters, theirs.parameters),
            (ours.first_moment, theirs.first_moment),
            (ours.second_moment, theirs.second_moment),
        ] {
            let ours: Vec<f64> = read::<f32>(&ours).into_iter().map(f64::from).collect();
            assert_eq!(ours, read::<f64>(&theirs));
        }
    }
    let back = wide.copy(device_kind(), DataType::F32, STREAM).unwrap();
    assert!(back.to_bytes(STREAM).unwrap() == bench.layer.to_bytes(STREAM).unwrap(), "there and back loses nothing");
    let error = bench.layer.copy(device_kind(), DataType::F16, STREAM).err().unwrap();
    assert_eq!(error.status(), Status::TypeMismatch);
}

#[test]
fn a_checkpoint_with_any_one_byte_changed_is_refused() {
    let bytes = Bench::new(4, 2, easy(), &[("residual", 1)]).layer.to_bytes(STREAM).unwrap();
    for position in 0..bytes.len() {
        for change in [0x01, 0x20, 0xff] {
            let mut damaged = bytes.clone();
            damaged[position] ^= change;
            let error = load(&damaged).err().unwrap_or_else(|| panic!("byte {position} ^ {change:#x} was accepted"));
            assert_eq!(error.status(), Status::FileCorrupted, "{error}");
        }
    }
}

#[test]
fn a_checkpoint_cut_short_or_with_something_behind_it_is_refused() {
    let bytes = Bench::new(4, 2, easy(), &[("residual", 1)]).layer.to_bytes(STREAM).unwrap();
    for length in 0..bytes.len() {
        assert_eq!(load(&bytes[..length]).err().unwrap().status(), Status::FileCorrupted, "{length}");
    }
    assert_eq!(load(&[&bytes[..], b"x"].concat()).err().unwrap().status(), Status::FileCorrupted);
}

/// The checkpoint with a piece of its document replaced by one of the same length, and a checksum that matches.
pub fn forged(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let escape = |text: &str| text.replace('"', "\\\"").into_bytes();
    let (from, to) = (escape(from), escape(to));
    assert_eq!(from.len(), to.len());
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what).unwrap();
    let mut bytes = bytes.to_vec();
    let place = find(&bytes, &from);
    bytes[place..place + to.len()].copy_from_slice(&to);
    reseal(bytes)
}

/// Writes the checksum that the bytes ought to have.
pub fn reseal(mut bytes: Vec<u8>) -> Vec<u8> {
    let mark = br#"\"crc32\":\""#;
    let place = bytes.windows(mark.len()).position(|window| window == mark).unwrap() + mark.len();
    bytes[place..place + 8].copy_from_slice(b"00000000");
    let checksum = format!("{:08x}", crc32fast::hash(&bytes));
    bytes[place..place + 8].copy_from_slice(checksum.as_bytes());
    bytes
}

#[test]
fn a_newer_format_is_refused_as_newer() {
    let bytes = busy().layer.to_bytes(STREAM).unwrap();
    let error = load(&forged(&bytes, r#""format":1"#, r#""format":2"#)).err().unwrap();
    assert_eq!(error.status(), Status::FileTooNew);
    assert!(error.message().contains("format 2"), "{error}");
}

#[test]
fn checkpoints_that_contradict_themselves_are_refused_although_their_checksum_matches() {
    let bytes = busy().layer.to_bytes(STREAM).unwrap();
    assert_eq!(reseal(bytes.clone()), bytes);
    for (from, to) in [
        (r#""seeds":4"#, r#""seeds":5"#),
        (r#""seeds":4"#, r#""seeds":0"#),
        (r#""hidden":22"#, r#""hidden":99"#),
        (r#""capacity":3"#, r#""capacity":9"#),
        (r#""capacity":2"#, r#""capacity":1"#),
        (r#""parameter_type":"f32""#, r#""parameter_type":"f64""#),
        (r#""ramp_steps":2"#, r#""ramp_steps":0"#),
        (r#""layer_id""#, r#""layer_xx""#),
    ] {
        let error = load(&forged(&bytes, from, to)).err().unwrap_or_else(|| panic!("{to} was accepted"));
        assert_ne!(error.status(), Status::Panic, "{to}");
    }
}

#[test]
fn any_damage_under_a_matching_checksum_gives_a_layer_or_an_error_and_never_a_panic() {
    let bytes = busy().layer.to_bytes(STREAM).unwrap();
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mark = br#"\"crc32\":\""#;
    let place = bytes.windows(mark.len()).position(|window| window == mark).unwrap();
    let (mut accepted, mut refused) = (0, 0);
    for position in (0..bytes.len()).filter(|position| !(place..place + mark.len() + 8).contains(position)) {
        // The header at every byte, the tensors here and there.
        if position >= header && position % 7 != 0 {
            continue;
        }
        let mut damaged = bytes.clone();
        damaged[position] ^= 0x04;
        if position < 8 {
            continue;
        }
        match load(&reseal(damaged)) {
            Ok(mut layer) => {
                accepted += 1;
                if let Err(error) = layer.end_epoch(STREAM) {
                    panic!("a layer that was accepted (byte {position}) cannot end an epoch: {error}");
                }
            }
            Err(_) => refused += 1,
        }
    }
    assert!(accepted > 0 && refused > 0, "{accepted} accepted, {refused} refused");
}

#[test]
fn a_file_is_written_and_read_and_a_missing_one_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layer.safetensors");
    let bench = busy();
    bench.layer.save(&path, STREAM).unwrap();
    bench.layer.save(&path, STREAM).unwrap();
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no temporary file is left");
    let loaded = Layer::load(&path, device_kind()).unwrap();
    assert_eq!(loaded.to_bytes(STREAM).unwrap(), bench.layer.to_bytes(STREAM).unwrap());

    let missing = directory.path().join("none").join("layer.safetensors");
    for error in
        [bench.layer.save(&missing, STREAM).err().unwrap(), Layer::load(&missing, device_kind()).err().unwrap()]
    {
        assert_eq!(error.status(), Status::StorageFailed);
        assert!(error.message().contains("none/layer.safetensors"), "{error}");
    }
}

/// A file that may not grow beyond so many bytes: whoever writes more is killed at that byte.
#[test]
#[cfg(target_os = "linux")]
fn a_save_that_is_killed_at_any_byte_leaves_the_checkpoint_before() {
    use std::os::unix::process::ExitStatusExt;
    const PATH: &str = "KASMINA_TEST_SAVE_ONCE";
    const FILE_TOO_LARGE: i32 = 25;
    if let Some(path) = std::env::var_os(PATH) {
        let mut layer = Layer::load(path.as_ref(), device_kind()).unwrap();
        layer.end_epoch(STREAM).unwrap();
        layer.save(path.as_ref(), STREAM).unwrap();
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layer.safetensors");
    let bench = Bench::new(8, 2, easy(), &[("residual", 2)]);
    bench.layer.save(&path, STREAM).unwrap();
    let before = std::fs::read(&path).unwrap();
    let save = |most: usize| {
        Command::new("prlimit")
            .arg(format!("--fsize={most}"))
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "checkpoint::a_save_that_is_killed_at_any_byte_leaves_the_checkpoint_before"])
            .env(PATH, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .unwrap()
    };
    let others = || std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().path());
    let half_written = || others().find(|other| *other != path);
    for most in (0..before.len()).step_by(before.len() / 40).chain([before.len() - 1]) {
        assert_eq!(save(most).signal(), Some(FILE_TOO_LARGE), "at byte {most}");
        let left = half_written().unwrap();
        assert_eq!(left.metadata().unwrap().len(), most as u64, "it was killed elsewhere");
        std::fs::remove_file(left).unwrap();
        assert!(std::fs::read(&path).unwrap() == before, "at byte {most}");
        assert_eq!(Layer::load(&path, device_kind()).unwrap().epoch(), 0);
    }
    assert!(save(2 * before.len()).success());
    assert_eq!((Layer::load(&path, device_kind()).unwrap().epoch(), half_written()), (1, None));
}

#[test]
fn whoever_is_killed_while_saving_leaves_a_checkpoint_that_loads() {
    const PATH: &str = "KASMINA_TEST_SAVE_FOR_EVER";
    if let Some(path) = std::env::var_os(PATH) {
        let path = std::path::PathBuf::from(path);
        let mut layer = match Layer::load(&path, device_kind()) {
            Ok(layer) => layer,
            Err(_) => Bench::new(2048, 4, easy(), &[("bottleneck", 4)]).layer,
        };
        loop {
            layer.end_epoch(STREAM).unwrap();
            layer.save(&path, STREAM).unwrap();
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("layer.safetensors");
    let this = "checkpoint::whoever_is_killed_while_saving_leaves_a_checkpoint_that_loads";
    let mut epoch = 0;
    for round in 0..8u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", this])
            .env(PATH, &path)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        // It goes on from where the one before it was killed, and what lies there can be loaded at any moment.
        let deadline = Instant::now() + Duration::from_secs(60);
        let enough = epoch + 2;
        while epoch < enough {
            assert!(Instant::now() < deadline, "the child does not get on");
            std::thread::sleep(Duration::from_millis(3 * round + 1));
            if path.exists() {
                epoch = Layer::load(&path, device_kind()).unwrap().epoch();
            }
        }
        child.kill().unwrap();
        child.wait().unwrap();
        let left = Layer::load(&path, device_kind()).unwrap().epoch();
        assert!(left >= epoch);
        epoch = left;
    }
}
