//! What every tuning database answers, wherever it is.

use super::places::{self, Place};
use super::{candidate, features, problem};
use kasmina::Status;
use kasmina::store::{Candidate, Problem, TuningLimits};

#[track_caller]
fn everywhere(test: impl Fn(&Place)) {
    for place in places::all() {
        println!("in {}", place.name);
        test(&place);
    }
}

#[test]
fn what_is_recorded_is_there_the_best_first() {
    everywhere(|place| {
        let (database, mlp) = (place.open(), features("mlp", 64));
        assert_eq!((database.best(&problem(1)), database.candidates(&problem(1))), (None, vec![]));
        let tried = [candidate("slow", 30), Candidate::invalid("wrong"), candidate("fast", 10), candidate("fair", 20)];
        database.record(&problem(1), &mlp, &tried).unwrap();
        let [slow, wrong, fast, fair] = tried;
        assert_eq!(database.best(&problem(1)), Some(fast.clone()));
        assert_eq!(database.candidates(&problem(1)), [fast.clone(), fair, slow, wrong]);
        if place.lasts() {
            assert_eq!(place.open().best(&problem(1)), Some(fast));
        }
        let statistics = database.statistics();
        assert_eq!((statistics.problems, statistics.candidates, statistics.errors), (1, 4, 0));
        assert_eq!(statistics.fault, None);
    });
}

#[test]
fn candidates_that_come_later_stand_beside_the_first_and_a_new_measurement_replaces_the_old() {
    everywhere(|place| {
        let (database, mlp) = (place.open(), features("mlp", 64));
        database.record(&problem(1), &mlp, &[candidate("a", 10), candidate("b", 20)]).unwrap();
        database.record(&problem(1), &mlp, &[candidate("c", 15), candidate("a", 30)]).unwrap();
        let schedules: Vec<_> = database.candidates(&problem(1)).into_iter().map(|tried| tried.schedule).collect();
        assert_eq!(schedules, ["c", "b", "a"]);
        database.record(&problem(1), &mlp, &[Candidate::invalid("c")]).unwrap();
        assert_eq!(database.best(&problem(1)).unwrap().schedule, "b");
        assert_eq!(database.statistics().candidates, 3);
    });
}

#[test]
fn a_problem_of_which_nothing_is_valid_has_no_best() {
    everywhere(|place| {
        let (database, mlp) = (place.open(), features("mlp", 64));
        database.record(&problem(1), &mlp, &[Candidate::invalid("a")]).unwrap();
        database.record(&problem(2), &mlp, &[]).unwrap();
        assert_eq!((database.best(&problem(1)), database.best(&problem(2))), (None, None));
        assert_eq!(database.candidates(&problem(1)).len(), 1);
        assert!(database.neighbours(&problem(3), &mlp, 0.8).is_empty());
    });
}

/// The problem with each of its fields changed alone.
fn variations(problem: &Problem) -> Vec<Problem> {
    let change = |edit: &dyn Fn(&mut Problem)| {
        let mut other = problem.clone();
        edit(&mut other);
        other
    };
    vec![
        change(&|other| other.class[31] ^= 1),
        change(&|other| other.kind.push('x')),
        change(&|other| other.device.push('x')),
        change(&|other| other.generator.push('x')),
        change(&|other| other.compiler.push('x')),
        change(&|other| other.rows += 1),
        change(&|other| other.seeds += 1),
        change(&|other| std::mem::swap(&mut other.rows, &mut other.seeds)),
        change(&|other| std::mem::swap(&mut other.generator, &mut other.compiler)),
    ]
}

#[test]
fn a_problem_is_another_one_if_any_of_its_fields_is() {
    everywhere(|place| {
        let (database, mlp) = (place.open(), features("mlp", 64));
        database.record(&problem(1), &mlp, &[candidate("original", 10)]).unwrap();
        for other in variations(&problem(1)) {
            assert_eq!(database.best(&other), None, "{other:?}");
            database.record(&other, &mlp, &[candidate("another", 5)]).unwrap();
        }
        assert_eq!(database.best(&problem(1)).unwrap().schedule, "original");
        assert_eq!(database.statistics().problems, 10);
    });
}

#[test]
fn neighbours_are_the_similar_problems_of_the_same_kind_and_device_the_most_similar_first() {
    everywhere(|place| {
        let database = place.open();
        let record = |problem: &Problem, name, chunk, schedule| {
            database.record(problem, &features(name, chunk), &[candidate(schedule, 9), candidate("x", 99)]).unwrap();
        };
        record(&problem(1), "bottleneck", 64, "equal");
        record(&problem(2), "bottleneck", 256, "wider");
        record(&problem(3), "attention", 64, "unlike");
        record(&Problem { kind: "backward bf16".into(), ..problem(4) }, "bottleneck", 64, "another kind");
        record(&Problem { device: "another".into(), ..problem(5) }, "bottleneck", 64, "another device");
        record(&Problem { rows: 16384, ..problem(6) }, "bottleneck", 64, "equal, but of more rows");
        record(
            &Problem { generator: "older".into(), rows: 10_000, ..problem(7) },
            "bottleneck",
            64,
            "equal, but older",
        );
        let found = database.neighbours(&problem(9), &features("bottleneck", 64), 0.8);
        let schedules: Vec<_> = found.iter().map(|neighbour| &*neighbour.best.schedule).collect();
        assert_eq!(schedules, ["equal", "equal, but older", "equal, but of more rows", "wider"]);
        assert_eq!(found[0].problem, problem(1));
        assert_eq!(found[0].similarity, 1.0);
        assert!((0.8..1.0).contains(&found[3].similarity));
        assert_eq!(database.neighbours(&problem(1), &features("bottleneck", 64), 1.0).len(), 2, "none is its own");
        assert_eq!(database.neighbours(&problem(9), &features("bottleneck", 64), 0.0).len(), 5);
    });
}

#[test]
fn over_the_limits_the_oldest_problems_and_the_slowest_candidates_go() {
    everywhere(|place| {
        let database = place.open_with(TuningLimits { problems: 16, candidates: 4 });
        for number in 0..40 {
            database.record(&problem(number), &features("mlp", 64), &[candidate("a", 10)]).unwrap();
        }
        let kept: Vec<u64> = (0..40).filter(|number| database.best(&problem(*number)).is_some()).collect();
        assert!((14..=16).contains(&kept.len()), "{kept:?}");
        assert_eq!(kept, Vec::from_iter(40 - kept.len() as u64..40), "the last ones");
        assert_eq!(database.statistics().candidates, kept.len() as u64, "candidates go with their problem");
        let mut tried: Vec<_> = (1..=9).map(|number| candidate(&number.to_string(), 10 * number - 5)).collect();
        tried.insert(0, Candidate::invalid("wrong"));
        database.record(&problem(39), &features("mlp", 64), &tried).unwrap();
        let schedules: Vec<_> = database.candidates(&problem(39)).into_iter().map(|tried| tried.schedule).collect();
        assert_eq!(schedules, ["1", "a", "2", "3"]);
    });
}

#[test]
fn what_cannot_be_kept_anywhere_is_refused_and_nothing_of_it_kept() {
    everywhere(|place| {
        let (database, mlp) = (place.open(), features("mlp", 64));
        let refused = |problem: &Problem, bad: Candidate, word: &str| {
            let error = database.record(problem, &mlp, &[candidate("good", 1), bad]).unwrap_err();
            assert_eq!(error.status(), Status::InvalidArgument);
            assert!(error.message().contains(word), "{error}");
        };
        let good = || candidate("a", 10);
        refused(&problem(1), Candidate { seconds: f64::NAN, ..good() }, "seconds");
        refused(&problem(1), Candidate { seconds: -1.0, ..good() }, "seconds");
        refused(&problem(1), Candidate { spread: f64::INFINITY, ..good() }, "spread");
        refused(&problem(1), Candidate { schedule: "x".repeat(1 << 20), ..good() }, "schedule");
        refused(&problem(1), Candidate { schedule: "a\0b".into(), ..good() }, "number 0");
        refused(&problem(1), Candidate { measured_at: u64::MAX, ..good() }, "measured_at");
        refused(&Problem { device: "x".repeat(1000), ..problem(1) }, good(), "device");
        refused(&Problem { rows: u64::MAX, ..problem(1) }, good(), "rows");
        assert_eq!((database.statistics().problems, database.statistics().errors), (0, 0));
    });
}

#[test]
fn texts_and_numbers_come_back_as_they_were() {
    everywhere(|place| {
        let database = place.open();
        let odd =
            Problem { device: "Gerät »ü« 'x'; DROP TABLE kasmina_problems; -- \u{1F600}".into(), ..problem(1) };
        let long = Candidate {
            schedule: format!("{{\"text\":\"{}\"}}", "ä\"\\\n%_".repeat(5000)),
            seconds: f64::MIN_POSITIVE,
            spread: 0.1 + 0.2,
            samples: u32::MAX,
            ..candidate("", 0)
        };
        let largest = Problem { rows: i64::MAX as u64, seeds: 0, compiler: String::new(), ..odd };
        database.record(&largest, &features("attention", 64), std::slice::from_ref(&long)).unwrap();
        assert_eq!(database.best(&largest), Some(long.clone()));
        let mut seen = Vec::new();
        database
            .each(|tuned| {
                seen.push(tuned);
                Ok(())
            })
            .unwrap();
        assert_eq!(seen.len(), 1);
        assert_eq!(seen[0].problem, largest);
        assert_eq!(seen[0].features, features("attention", 64));
        assert_eq!(seen[0].candidates, [long]);
    });
}

#[test]
fn clearing_leaves_an_empty_database_that_works() {
    everywhere(|place| {
        let (database, mlp) = (place.open(), features("mlp", 64));
        assert_eq!(database.clear().unwrap(), 0);
        (0..3).for_each(|number| database.record(&problem(number), &mlp, &[candidate("a", 1)]).unwrap());
        assert_eq!(database.clear().unwrap(), 3);
        assert_eq!((database.statistics().problems, database.statistics().candidates), (0, 0));
        database.record(&problem(1), &mlp, &[candidate("a", 1)]).unwrap();
        assert!(database.best(&problem(1)).is_some());
    });
}

#[test]
fn threads_that_record_at_once_lose_nothing() {
    everywhere(|place| {
        let (database, mlp) = (place.open(), features("mlp", 64));
        std::thread::scope(|scope| {
            for thread in 0..8u64 {
                let (database, mlp) = (&database, &mlp);
                scope.spawn(move || {
                    for number in 0..8 {
                        let own = candidate(&format!("thread {thread}"), 10 + thread as u32);
                        database.record(&problem(number), mlp, &[own]).unwrap();
                        assert!(database.best(&problem(number)).is_some());
                    }
                });
            }
        });
        for number in 0..8 {
            assert_eq!(database.candidates(&problem(number)).len(), 8);
            assert_eq!(database.best(&problem(number)).unwrap().schedule, "thread 0");
        }
        assert_eq!(database.statistics().errors, 0);
    });
}
