//! The page on reports lists the fields that reports have.

use crate::bench::{Bench, STREAM, command};
use kasmina::layer::{Action, EpochSummary, Held, Lifecycle, Refusal};
use serde_json::Value;
use std::collections::BTreeSet;

/// The fields in the table below a heading.
fn documented(heading: &str) -> BTreeSet<String> {
    let page = include_str!("../../../docs/reports.md");
    let lines = page.lines().skip_while(|line| line.trim_start_matches('#') != format!(" {heading}")).skip(1);
    let rows = lines.take_while(|line| !line.starts_with('#')).filter_map(|line| line.strip_prefix("| `"));
    rows.map(|row| row.split_once('`').unwrap().0.to_owned()).collect()
}

#[test]
fn the_documentation_lists_every_field_of_every_report() {
    let mut bench = Bench::in_state(Lifecycle::Grafting);
    let snapshot = bench.layer.snapshot(STREAM).unwrap();
    bench.submit(&[command(0, Action::Pause)]);
    bench.layer.roll_back(0, "a test", STREAM).unwrap();
    let restoration = bench.layer.restore(&snapshot, "a test", STREAM).unwrap();
    let summary = EpochSummary {
        applied: restoration.undone.clone(),
        refused: vec![Refusal { commands: restoration.dropped[0].clone(), reason: String::new() }],
        held: vec![Held { seed: 0, reason: String::new() }],
        restored: vec![restoration],
        ..EpochSummary::default()
    };
    let summary = serde_json::to_value(summary).unwrap();
    let report: Value = serde_json::from_str(&bench.layer.report().to_json().unwrap()).unwrap();
    for (heading, object) in [
        ("Summary", &summary),
        ("Transition", &summary["applied"][0]),
        ("Command", &summary["refused"][0]["commands"][0]),
        ("Evidence", &summary["applied"][0]["evidence"]),
        ("Refusal", &summary["refused"][0]),
        ("Held", &summary["held"][0]),
        ("Restoration", &summary["restored"][0]),
        ("Report", &report),
        ("Seed", &report["seeds"][0]),
        ("Metrics", &report["seeds"][0]["metrics"]),
        ("Totals", &report["totals"]),
        ("Kernel", &report["kernels"][0]),
        ("Breaker", &report["breakers"]["layer"]),
    ] {
        let fields = object.as_object().unwrap_or_else(|| panic!("there is no {heading}: {object}"));
        assert_eq!(fields.keys().cloned().collect::<BTreeSet<_>>(), documented(heading), "{heading}");
    }
}
