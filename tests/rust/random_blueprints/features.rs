//! What graphs are like: that similarity is worth its name, and that the index over it finds what a scan finds.

use super::{blueprints, identity, numbered};
use kasmina::graph::{Blueprint, Features, library};
use kasmina::store::{Candidate, Problem, TuningDatabase, TuningLimits, TuningPlace};
use proptest::prelude::*;

fn of(blueprint: &Blueprint) -> Features {
    Features::of([&blueprint.graph])
}

fn random(number: u64) -> Features {
    of(&numbered(number))
}

fn named(name: &str, chunk: usize) -> Features {
    of(&library(name, chunk, &Default::default()).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(200) })]

    #[test]
    fn dissimilarity_is_a_metric_between_0_and_1(one in blueprints(), other in blueprints(), third in blueprints()) {
        let [one, other, third] = [one, other, third].map(|json| of(&Blueprint::from_json(json.as_bytes()).unwrap()));
        let distance = one.distance(&other);
        prop_assert!((0.0..=1.0).contains(&distance));
        prop_assert_eq!(one.similarity(&other), other.similarity(&one));
        prop_assert_eq!(one.similarity(&one), 1.0);
        prop_assert!(distance <= one.distance(&third) + third.distance(&other) + 1e-12);
    }
}

#[test]
fn a_graph_that_is_only_written_differently_is_the_same() {
    for number in 0..500 {
        let copy = identity::written_differently(number);
        assert_eq!(random(number), of(&copy), "graph {number}");
    }
}

#[test]
fn the_wider_the_less_similar_and_another_shape_of_graph_is_not_similar() {
    let alike = |chunk| named("bottleneck", 64).similarity(&named("bottleneck", chunk));
    assert!(alike(64) == 1.0 && alike(64) > alike(128) && alike(128) > alike(256) && alike(256) > alike(1024));
    assert!(alike(1024) > 0.8, "width alone makes no stranger: {}", alike(1024));
    assert!(named("mlp", 64).similarity(&named("conv", 64)) < 0.7);
    let chain =
        |calls: u32| Features { calls, depth: calls, operators: [("tanh".into(), calls)].into(), ..named("mlp", 8) };
    let far: Vec<_> = [4, 5, 8, 16, 64].map(|calls| chain(4).similarity(&chain(calls))).into();
    assert!(far.is_sorted_by(|nearer, further| nearer > further), "{far:?}");
    let branches = |choices| Features { choices, ..chain(40) };
    assert!(branches(0).similarity(&branches(1)) > branches(0).similarity(&branches(8)));
}

#[test]
fn several_graphs_of_one_kernel_count_together() {
    let (one, other) = (numbered(1), numbered(2));
    let both = Features::of([&one.graph, &other.graph]);
    assert_eq!(both, Features::of([&other.graph, &one.graph]));
    assert_eq!(both.calls, of(&one).calls + of(&other).calls);
    assert_eq!(both.depth, of(&one).depth.max(of(&other).depth));
}

#[test]
fn the_index_finds_what_a_scan_finds() {
    let problem = |number: u64| Problem {
        class: *blake3::hash(&number.to_le_bytes()).as_bytes(),
        kind: "forward f32".into(),
        device: "cpu".into(),
        generator: "1".into(),
        compiler: String::new(),
        rows: 64,
        seeds: 8,
    };
    let database = TuningDatabase::new(TuningPlace::Memory, TuningLimits::default());
    let all: Vec<Features> = (0..400).map(random).collect();
    for (number, features) in (0..).zip(&all) {
        database.record(&problem(number), features, &[Candidate::new(number.to_string(), 1.0, 0.0, 1)]).unwrap();
    }
    let mut found_all = 0;
    for (number, similarity) in (400..480).zip([0.8, 0.9, 0.7, 0.8, 0.95].into_iter().cycle()) {
        let features = random(number);
        let scan = (0..).zip(&all).filter(|(_, other)| features.similarity(other) >= similarity);
        let expected: Vec<u64> = scan.map(|(number, _)| number).collect();
        let neighbours = database.neighbours(&problem(number), &features, similarity);
        assert!(neighbours.is_sorted_by(|one, next| one.similarity >= next.similarity));
        let mut found: Vec<u64> = neighbours.iter().map(|neighbour| neighbour.best.schedule.parse().unwrap()).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "graph {number}");
        found_all += found.len();
    }
    assert!(found_all > 100, "only {found_all} neighbours, so this shows little");
}

#[test]
fn features_read_back_as_they_were() {
    for number in 0..50 {
        let text = serde_json::to_string(&random(number)).unwrap();
        assert_eq!(serde_json::from_str::<Features>(&text).unwrap(), random(number));
    }
}
