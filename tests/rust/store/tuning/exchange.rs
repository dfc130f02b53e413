//! Export and import: everything comes back, and any bytes may come.

use super::places::{Place, file, memory};
use super::{candidate, features, problem};
use kasmina::Status;
use kasmina::store::{Candidate, TuningDatabase, TuningImported};

fn exported(database: &TuningDatabase) -> Vec<u8> {
    let mut text = Vec::new();
    database.export(&mut text).unwrap();
    text
}

/// A database with some problems, one of them of many candidates.
fn filled(place: &Place) -> TuningDatabase {
    let database = place.open();
    for number in 0..100 {
        let tried = [candidate("a", 10), candidate("b", 20), Candidate::invalid("c")];
        database.record(&problem(number), &features("bottleneck", 64), &tried).unwrap();
    }
    let many: Vec<_> = (0..200).map(|number| candidate(&format!("schedule {number}"), number)).collect();
    database.record(&problem(7), &features("bottleneck", 64), &many).unwrap();
    database
}

#[test]
fn what_is_exported_is_imported_whole_and_only_once() {
    let (file, memory) = (file(), memory());
    let (from, to) = (filled(&file), memory.open());
    let text = exported(&from);
    assert_eq!(to.import(&mut &*text).unwrap(), TuningImported { lines: 103, candidates: 500 });
    assert_eq!(exported(&to), text);
    assert_eq!(to.candidates(&problem(7)), from.candidates(&problem(7)));
    assert_eq!(to.import(&mut &*text).unwrap(), TuningImported { lines: 103, candidates: 0 });
}

#[test]
fn of_two_measurements_the_later_stays_and_none_is_of_the_future() {
    let place = memory();
    let database = place.open();
    let measured = |microseconds, measured_at| Candidate { measured_at, ..candidate("a", microseconds) };
    let text = |tried: Candidate| {
        let place = memory();
        let other = place.open();
        other.record(&problem(1), &features("mlp", 64), &[tried]).unwrap();
        exported(&other)
    };
    database.import(&mut &*text(measured(10, 1000))).unwrap();
    database.import(&mut &*text(measured(20, 999))).unwrap();
    assert_eq!(database.best(&problem(1)), Some(measured(10, 1000)));
    database.import(&mut &*text(measured(30, 1001))).unwrap();
    assert_eq!(database.best(&problem(1)), Some(measured(30, 1001)));
    database.import(&mut &*text(measured(40, 1 << 60))).unwrap();
    let best = database.best(&problem(1)).unwrap();
    assert!(best.seconds > 35e-6 && best.measured_at < 1 << 40, "{best:?}");
    database.record(&problem(1), &features("mlp", 64), &[measured(5, 500)]).unwrap();
    assert_eq!(database.best(&problem(1)), Some(measured(5, 500)), "what is measured here counts");
}

#[test]
fn what_is_no_export_is_refused_with_the_line() {
    let place = memory();
    let database = place.open();
    let refused = |text: &[u8], status, words: &str| {
        let error = database.import(&mut &*text).unwrap_err();
        assert_eq!(error.status(), status, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    refused(b"", Status::FileCorrupted, "line 1");
    refused(b"\xFF\xFE\n", Status::FileCorrupted, "line 1");
    refused(b"{\"kasmina_tuning\":2}\n", Status::FileTooNew, "version 2");
    refused(b"{\"kasmina_tuning\":1}", Status::FileCorrupted, "cut short");
    refused(b"{\"kasmina_tuning\":1}\nnull\n", Status::FileCorrupted, "line 2");
    refused(&[b"{\"kasmina_tuning\":1}\n".to_vec(), vec![b'['; 1 << 20]].concat(), Status::FileCorrupted, "line 2");
    refused(&[b"{\"kasmina_tuning\":1}\n".to_vec(), vec![b' '; 1 << 25]].concat(), Status::FileCorrupted, "more than");
    let line = exported(&filled(&memory()));
    let line = std::str::from_utf8(&line).unwrap().lines().nth(1).unwrap().to_owned();
    for (from, to) in [
        ("\"rows\":8192", "\"rows\":-1"),
        ("\"rows\":8192", "\"rows\":18446744073709551615"),
        ("\"class\":\"", "\"class\":\"0"),
        ("\"seconds\":", "\"seconds\":1e999,\"x\":"),
        ("\"seconds\":", "\"seconds\":-"),
        ("\"schedule\":\"a\"", "\"schedule\":\"\\u0000\""),
        ("\"calls\":", "\"calls\":4294967296,\"y\":"),
        ("\"kind\":", "\"unknown\":1,\"kind\":"),
    ] {
        assert!(line.contains(from), "{from} in {line}");
        let text = format!("{{\"kasmina_tuning\":1}}\n{}\n", line.replacen(from, to, 1));
        refused(text.as_bytes(), Status::FileCorrupted, "line 2");
    }
    assert_eq!(database.statistics().problems, 0);
}

#[test]
fn an_export_cut_short_anywhere_or_with_any_byte_changed_is_read_or_refused() {
    let place = memory();
    let from = place.open();
    from.record(&problem(1), &features("mlp", 64), &[candidate("a", 1), Candidate::invalid("b")]).unwrap();
    let text = exported(&from);
    let to = memory().open();
    for length in 0..text.len() {
        let _ = to.import(&mut &text[..length]);
    }
    assert_eq!(to.statistics().problems, 0, "only a whole line counts");
    for position in 0..text.len() {
        let mut changed = text.clone();
        changed[position] ^= 1 << (position % 8);
        let _ = to.import(&mut &*changed);
    }
    assert_eq!(to.statistics().errors, 0);
    to.each(|tuned| {
        tuned.candidates.iter().try_for_each(|tried| {
            assert!(tried.seconds.is_finite());
            Ok(())
        })
    })
    .unwrap();
}
