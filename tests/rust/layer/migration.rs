//! Checkpoints of every form that there was, each written by the library of its time, and what they become.
//!
//! Whoever changes what a checkpoint holds puts a file of the form before into `tests/data/checkpoints`.

use crate::bench::STREAM;
use crate::checkpoint::{forged, load, reseal};
use kasmina::Status;
use kasmina::graph::Blueprint;
use kasmina::layer::{Action, Lifecycle, Settings};
use safetensors::SafeTensors;
use serde_json::Value;

/// By name, oldest first, and whether seeds are in many states in the middle of an epoch. The forms lacked, up to the name of the
/// next one: the number of training steps; what strategies remember, their settings and metrics; the settings of breakers; what
/// transitions were culled for.
const FIXTURES: [(&str, &[u8], bool); 4] = [
    ("first", include_bytes!("../../data/checkpoints/first.safetensors"), true),
    ("before strategies", include_bytes!("../../data/checkpoints/before-strategies.safetensors"), false),
    ("before breakers", include_bytes!("../../data/checkpoints/before-breakers.safetensors"), true),
    ("since breakers", include_bytes!("../../data/checkpoints/since-breakers.safetensors"), true),
];

/// What is no tensor.
fn document(bytes: &[u8]) -> Value {
    let (_, metadata) = SafeTensors::read_metadata(bytes).unwrap();
    let entry = &metadata.metadata().as_ref().unwrap()["kasmina"];
    serde_json::from_str::<Value>(entry).unwrap()["layer"].clone()
}

/// Checks that all of the old document is in the new one, and that the new one has nothing else but what is expected.
fn compare(path: &str, old: &Value, new: &Value, expected: &dyn Fn(&str) -> Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            assert!(old.keys().all(|key| new.contains_key(key)), "{path} lost something");
            for (key, value) in new {
                let path = format!("{path}/{key}");
                match old.get(key) {
                    Some(before) => compare(&path, before, value, expected),
                    None => assert_eq!(*value, expected(&path), "{path}"),
                }
            }
        }
        (Value::Array(old), Value::Array(new)) => {
            assert_eq!(old.len(), new.len(), "{path}");
            old.iter().zip(new).for_each(|(old, new)| compare(path, old, new, expected));
        }
        (Value::String(old), Value::String(new)) if path.ends_with("/blueprint") => {
            let [old, new] = [old, new].map(|text| Blueprint::from_json(text.as_bytes()).unwrap().hash());
            assert_eq!(old, new, "another blueprint");
        }
        _ => assert_eq!(old, new, "{path}"),
    }
}

#[test]
fn checkpoints_of_every_form_keep_all_they_hold_and_begin_anew_with_what_they_lack() {
    let settings = serde_json::to_value(Settings::default()).unwrap();
    let expected = |path: &str| match path.strip_prefix("/settings/") {
        Some(name) => settings[name].clone(),
        None if path == "/training_steps" => 0.into(),
        None => Value::Null,
    };
    for (name, bytes, _) in FIXTURES {
        let migrated = load(bytes).unwrap_or_else(|error| panic!("{name}: {error}")).to_bytes(STREAM).unwrap();
        compare("", &document(bytes), &document(&migrated), &expected);
        let [old, new] = [bytes, &migrated].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
        for (tensor, view) in new.tensors() {
            match old.tensor(&tensor) {
                Ok(before) => assert!(view == before, "{name}: {tensor} is another"),
                Err(_) => {
                    assert_eq!(tensor, "state.strategy_memory", "{name}");
                    assert!(view.data().iter().all(|byte| *byte == 0), "{name}: what is remembered of nothing");
                }
            }
        }
        assert!(old.names().iter().all(|tensor| new.tensor(tensor).is_ok()), "{name} lost a tensor");
        assert!(load(&migrated).unwrap().to_bytes(STREAM).unwrap() == migrated, "{name}");
    }
}

#[test]
fn what_was_accepted_and_done_before_takes_effect_and_is_reported_after() {
    for (name, bytes, _) in FIXTURES.iter().filter(|(_, _, busy)| *busy) {
        let mut layer = load(bytes).unwrap();
        let states =
            |layer: &kasmina::layer::Layer| layer.report().seeds.iter().map(|seed| seed.state).collect::<Vec<_>>();
        use Lifecycle::{Culled, Dormant, Germinated, Grafting, RolledBack, Training};
        assert_eq!(states(&layer), [Grafting, RolledBack, Culled, Germinated, Dormant, Dormant], "{name}");
        let before = layer.report();
        layer.wait_for_kernels().unwrap();
        let summary = layer.end_epoch(STREAM).unwrap();
        let applied: Vec<_> = summary.applied.iter().map(|record| (record.seed, record.action)).collect();
        let germinate = Action::Germinate;
        assert_eq!(
            applied,
            [(1, Action::RollBack), (4, germinate), (3, Action::StartTraining), (5, germinate)],
            "{name}"
        );
        assert_eq!(summary.applied[0].reason, "to be remembered");
        assert_eq!(states(&layer), [Grafting, RolledBack, Culled, Training, Germinated, Germinated], "{name}");
        let after = layer.report();
        assert_eq!((after.epoch, after.seeds[2].embargo + 1), (before.epoch + 1, before.seeds[2].embargo), "{name}");
        assert!(after.seeds[0].alpha > before.seeds[0].alpha, "{name}");
    }
}

#[test]
fn old_forms_are_refused_when_they_say_they_are_newer_are_damaged_or_are_cut_short() {
    for (name, bytes, _) in FIXTURES {
        let newer = load(&forged(bytes, r#""format":1"#, r#""format":2"#)).err().unwrap();
        assert_eq!(newer.status(), Status::FileTooNew, "{name}");
        for place in (0..bytes.len()).step_by(41) {
            let mut damaged = bytes.to_vec();
            damaged[place] ^= 1;
            assert_eq!(load(&damaged).err().unwrap().status(), Status::FileCorrupted, "{name}, byte {place}");
            assert_eq!(load(&bytes[..place]).err().unwrap().status(), Status::FileCorrupted, "{name}, {place} bytes");
        }
    }
}

#[test]
fn damage_to_an_old_form_under_a_matching_checksum_gives_a_layer_or_an_error() {
    for (name, bytes, _) in FIXTURES {
        let mark = br#"\"crc32\":\""#;
        let checksum = bytes.windows(mark.len()).position(|window| window == mark).unwrap();
        let (mut accepted, mut refused) = (0, 0);
        for place in (8..bytes.len()).step_by(13).filter(|place| !(checksum..checksum + mark.len() + 8).contains(place))
        {
            let mut damaged = bytes.to_vec();
            damaged[place] ^= 0x04;
            match load(&reseal(damaged)) {
                Ok(mut layer) => {
                    accepted += 1;
                    layer.end_epoch(STREAM).unwrap_or_else(|error| panic!("{name}, byte {place}: {error}"));
                }
                Err(_) => refused += 1,
            }
        }
        assert!(accepted > 0 && refused > 0, "{name}: {accepted} accepted, {refused} refused");
    }
}
