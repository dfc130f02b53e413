//! Grafting strategies: each against its recurrence, written out here once more, and what interrupts them.

use crate::bench::{Bench, STREAM, command, device_kind, easy, read, write};
use kasmina::layer::{Action, Answers, Command, EpochSummary, GraftingInput, Layer, Lifecycle, Settings, UserStrategy};
use kasmina::{Error, Result, Status};
use std::sync::Arc;

const BASE_RATE: f64 = 1.0 / 30.0;
const FIXED: i32 = 0;
const PERFORMANCE: i32 = 1;
const DRIFT: i32 = 2;
const GRADIENT: i32 = 3;
const USER: i32 = 4;

/// A layer whose seed 1 has just begun to graft by a strategy.
fn grafting(strategy: i32) -> Bench {
    let settings = Settings { ramp_steps: 30, ..easy() };
    let mut bench = Bench::new(8, 2, settings, &[("residual", 2)]);
    bench.apply(&[Command { strategy, ..command(1, Action::Germinate) }]);
    start(&mut bench);
    bench
}

/// Takes seed 1 from GERMINATED to GRAFTING.
fn start(bench: &mut Bench) {
    for action in [Action::StartTraining, Action::StartGrafting] {
        bench.epoch();
        bench.epoch();
        bench.apply(&[command(1, action)]);
    }
    assert_eq!((bench.state(1), bench.alpha(1), memory(bench)), (Lifecycle::Grafting, 0.0, 0.0));
}

/// What the strategy of seed 1 remembers.
fn memory(bench: &Bench) -> f64 {
    read::<f64>(&bench.layer.array("strategy_memory").unwrap().buffer)[1]
}

/// Ends an epoch that measured this of every seed: a metric, the root mean square, the gradient norm.
fn end(bench: &mut Bench, [metric, root_mean_square, gradient_norm]: [f64; 3]) -> EpochSummary {
    measure(bench, [metric, root_mean_square, gradient_norm]);
    bench.layer.end_epoch(STREAM).unwrap()
}

fn measure(bench: &mut Bench, [metric, root_mean_square, gradient_norm]: [f64; 3]) {
    let seen = f64::from(!root_mean_square.is_nan());
    let squares = if seen > 0.0 { root_mean_square * root_mean_square } else { 0.0 };
    // One element seen, or none.
    let row = [seen, 0.0, squares, 0.0, 0.0, 0.0, 0.0, 0.0, gradient_norm * gradient_norm, 0.0];
    write(&bench.layer.array("telemetry").unwrap().buffer, &row.repeat(2));
    bench.layer.set_metric(metric);
}

/// Numbers of epochs that are good, bad and missing, in no order; positive, between 0.05 and 1.25.
fn epochs(count: u64) -> Vec<[f64; 3]> {
    let wave = |epoch: u64, step: f64| 0.65 + 0.6 * (epoch as f64 * step).sin();
    let odd = |epoch: u64, number: f64| match epoch % 11 {
        4 => f64::NAN,
        7 => f64::INFINITY,
        9 => 0.0,
        _ => number,
    };
    (0..count)
        .map(|epoch| {
            let steady = 1.0 + 0.2 * wave(epoch, 0.9);
            [odd(epoch, wave(epoch, 1.7)), odd(epoch + 3, steady), odd(epoch + 6, wave(epoch, 0.3))]
        })
        .collect()
}

/// spec.md, section 8, in plain numbers: alpha, what the strategy remembers, and the last metric.
struct Expected {
    strategy: i32,
    alpha: f64,
    memory: Option<f64>,
    last_metric: f64,
}

impl Expected {
    fn new(strategy: i32, last_metric: f64) -> Expected {
        Expected { strategy, alpha: 0.0, memory: None, last_metric }
    }

    fn epoch(&mut self, [metric, w, g]: [f64; 3]) {
        let improvement = metric - self.last_metric;
        if metric.is_finite() {
            self.last_metric = metric;
        }
        let before = self.memory;
        match self.strategy {
            _ if self.alpha == 1.0 => {}
            // Rounding may fall short of the end, where a fixed ramp arrives all the same.
            FIXED if self.alpha > 0.95 => self.alpha = 1.0,
            FIXED => self.alpha += 1.0 / 30.0,
            PERFORMANCE if improvement.is_finite() => {
                let v = 0.9 * before.unwrap_or(0.0) + 0.1 * if improvement > 0.0 { improvement } else { 0.0 };
                self.alpha += BASE_RATE * (1.0 + 10.0 * v);
                self.memory = Some(v);
            }
            DRIFT if w.is_finite() && (w > 0.0 || before.is_some()) => {
                let ema = before.unwrap_or(w);
                if (w - ema).abs() / ema.abs() <= 0.12 {
                    self.alpha += BASE_RATE;
                }
                self.memory = Some(0.9 * ema + 0.1 * w);
            }
            GRADIENT if g.is_finite() && g != 0.0 => {
                let ema = before.map_or(g, |ema| 0.9 * ema + 0.1 * g);
                if (0.1..=1.0).contains(&g) {
                    let factor = 1.0 - (g - ema).abs() / ema;
                    self.alpha += BASE_RATE * if factor > 0.0 { factor } else { 0.0 };
                }
                self.memory = Some(ema);
            }
            _ => {}
        }
        // Alpha is kept as f32.
        self.alpha = f64::from(if self.alpha > 1.0 { 1.0 } else { self.alpha as f32 });
    }

    fn check(&self, bench: &Bench, when: &str) {
        let (alpha, remembered) = (f64::from(bench.alpha(1)), memory(bench));
        assert!((alpha - self.alpha).abs() < 1e-6, "{when}: alpha is {alpha} and should be {}", self.alpha);
        let expected = self.memory.unwrap_or(0.0);
        assert!((remembered - expected).abs() < 1e-9, "{when}: it remembers {remembered} and not {expected}");
        assert!(bench.alpha(0) == 0.0, "seed 0 is dormant");
    }
}

#[test]
fn each_strategy_follows_its_recurrence_and_says_when_it_holds() {
    for strategy in [FIXED, PERFORMANCE, DRIFT, GRADIENT] {
        let mut bench = grafting(strategy);
        bench.layer.set_metric(0.5);
        bench.layer.end_epoch(STREAM).unwrap();
        let mut expected = Expected::new(strategy, f64::NAN);
        expected.epoch([0.5, f64::NAN, 0.0]);
        let mut holds = 0;
        for (epoch, measured) in epochs(200).into_iter().enumerate() {
            let before = bench.alpha(1);
            let summary = end(&mut bench, measured);
            expected.epoch(measured);
            expected.check(&bench, &format!("strategy {strategy}, epoch {epoch}, {measured:?}"));
            assert!(bench.alpha(1) >= before);
            if before == 1.0 {
                assert_eq!(summary.held, [], "a ramp that is complete waits for nothing");
                break;
            }
            let held = summary.held.len();
            assert_eq!(held == 0, bench.alpha(1) > before, "strategy {strategy}, epoch {epoch}: {summary:?}");
            assert!(summary.held.iter().all(|held| held.seed == 1 && !held.reason.is_empty()));
            holds += held;
        }
        assert_eq!(holds > 0, strategy != FIXED, "strategy {strategy}");
        assert_eq!(bench.alpha(1), 1.0, "strategy {strategy}");
        bench.apply(&[command(1, Action::Stabilise)]);
    }
}

#[test]
fn a_pause_resumes_where_it_stopped_and_what_happens_meanwhile_is_not_remembered() {
    for strategy in [FIXED, PERFORMANCE, DRIFT, GRADIENT] {
        let mut bench = grafting(strategy);
        let mut expected = Expected::new(strategy, f64::NAN);
        for (epoch, measured) in epochs(30).into_iter().enumerate() {
            if epoch == 8 {
                bench.submit(&[command(1, Action::Pause)]);
            }
            if epoch == 15 {
                bench.submit(&[command(1, Action::Resume)]);
            }
            end(&mut bench, measured);
            // The command takes effect after the epoch at whose end it is applied.
            match epoch {
                9..=15 if measured[0].is_finite() => expected.last_metric = measured[0],
                9..=15 => {}
                _ => expected.epoch(measured),
            }
            expected.check(&bench, &format!("strategy {strategy}, epoch {epoch}"));
        }
    }
}

#[test]
fn epochs_in_which_nothing_is_known_hold_for_ever() {
    for strategy in [PERFORMANCE, DRIFT, GRADIENT, USER] {
        let mut bench = grafting(strategy);
        for _ in 0..50 {
            let summary = end(&mut bench, [f64::NAN, f64::NAN, 0.0]);
            assert_eq!(summary.held.len(), 1, "strategy {strategy}");
        }
        assert_eq!((bench.alpha(1), memory(&bench)), (0.0, 0.0), "strategy {strategy}");
    }
}

#[test]
fn a_graft_goes_on_from_a_checkpoint_bit_for_bit() {
    for strategy in [FIXED, PERFORMANCE, DRIFT, GRADIENT, USER] {
        let mut bench = grafting(strategy);
        bench.layer.set_strategy(Some(remembering()));
        let epochs = epochs(24);
        for measured in &epochs[..6] {
            end(&mut bench, *measured);
        }
        // In the middle of an epoch whose metric is known already.
        measure(&mut bench, epochs[6]);
        let mut loaded =
            Bench::around(Layer::from_bytes(&bench.layer.to_bytes(STREAM).unwrap(), device_kind()).unwrap());
        loaded.layer.set_strategy(Some(remembering()));
        for (epoch, measured) in epochs.into_iter().enumerate().skip(6) {
            for bench in [&mut bench, &mut loaded] {
                if epoch > 6 {
                    measure(bench, measured);
                }
                bench.layer.end_epoch(STREAM).unwrap();
            }
            let bytes = [&bench, &loaded].map(|bench| bench.layer.to_bytes(STREAM).unwrap());
            assert!(bytes[0] == bytes[1], "strategy {strategy}, epoch {epoch}");
        }
        assert!(bench.alpha(1) > 0.0 && (memory(&bench) > 0.0 || strategy == FIXED), "strategy {strategy}");
    }
}

#[test]
fn a_checkpoint_from_before_strategies_loads_and_its_fixed_ramp_goes_on() {
    let bytes = include_bytes!("../../data/checkpoints/before-strategies.safetensors");
    let mut bench = Bench::around(Layer::from_bytes(bytes, device_kind()).unwrap());
    assert_eq!((bench.state(1), bench.alpha(1), memory(&bench)), (Lifecycle::Grafting, 0.5, 0.0));
    assert_eq!(bench.epoch().held, []);
    assert_eq!(bench.alpha(1), 1.0);
}

#[test]
fn a_new_germination_remembers_nothing_of_the_one_before() {
    let mut bench = grafting(GRADIENT);
    end(&mut bench, [f64::NAN, 1.0, 0.5]);
    assert_eq!(memory(&bench), 0.5);
    bench.layer.roll_back(1, "test", STREAM).unwrap();
    bench.apply(&[command(1, Action::Reset), Command { strategy: PERFORMANCE, ..command(1, Action::Germinate) }]);
    assert_eq!((memory(&bench), bench.alpha(1)), (0.0, 0.0));
    start(&mut bench);
}

#[test]
fn an_epoch_that_is_only_planned_promises_no_rise_that_has_to_be_measured() {
    let mut bench = grafting(DRIFT);
    while bench.alpha(1) < 0.95 {
        end(&mut bench, [f64::NAN, 1.0, 0.0]);
    }
    measure(&mut bench, [f64::NAN, 1.0, 0.0]);
    assert_eq!(bench.refusal(&[command(1, Action::Stabilise)]).status(), Status::TransitionRefused);
    while bench.alpha(1) < 1.0 {
        end(&mut bench, [f64::NAN, 1.0, 0.0]);
    }
    bench.apply(&[command(1, Action::Stabilise)]);
}

/// A strategy that counts in its memory, and rises the slower the longer it goes on.
fn remembering() -> UserStrategy {
    Arc::new(|seen: &GraftingInput, memory: &mut f64| {
        *memory += 1.0;
        assert!(seen.alpha < 1.0 && seen.seed == 1);
        Ok(0.25 / *memory)
    })
}

#[test]
fn a_users_strategy_is_told_what_was_measured_and_its_increments_are_integrated() {
    let mut bench = grafting(USER);
    bench.layer.set_metric(0.25);
    bench.layer.end_epoch(STREAM).unwrap();
    let seen = Arc::new(std::sync::Mutex::new(Vec::new()));
    let sink = seen.clone();
    bench.layer.set_strategy(Some(Arc::new(move |input: &GraftingInput, _: &mut f64| {
        sink.lock().unwrap().push(*input);
        Ok(0.375)
    })));
    let first = bench.layer.epoch() + 1;
    for alpha in [0.375, 0.75, 1.0, 1.0] {
        end(&mut bench, [1.0, 3.0, 0.5]);
        assert_eq!(bench.alpha(1), alpha);
    }
    let seen = seen.lock().unwrap();
    let told = |index: u32, alpha, improvement| GraftingInput {
        seed: 1,
        epoch: first + index,
        epochs_in_state: 2 + index as i16,
        alpha,
        metric: 1.0,
        improvement,
        root_mean_square: 3.0,
        gradient_norm: 0.5,
    };
    assert_eq!(*seen, [told(0, 0.0, 0.75), told(1, 0.375, 0.0), told(2, 0.75, 0.0)], "at alpha 1 it is not asked");
}

#[test]
fn a_users_strategy_that_fails_panics_or_gives_no_number_holds_and_is_reported() {
    type Fails = fn(&mut f64) -> Result<f64>;
    let failures: [(Fails, &str); 6] = [
        (|_| Err(Error::new(Status::NotReady, "no data yet")), "the user's strategy failed: no data yet"),
        (|_| panic!("on purpose"), "the user's strategy panicked"),
        (|_| Ok(f64::NAN), "gave the increment NaN"),
        (|_| Ok(f64::INFINITY), "gave the increment inf"),
        (|_| Ok(-0.1), "gave the increment -0.1"),
        (
            |memory| {
                *memory = f64::NAN;
                Ok(0.1)
            },
            "wants to remember NaN",
        ),
    ];
    let mut bench = grafting(USER);
    bench.layer.set_strategy(Some(remembering()));
    end(&mut bench, [0.0, 1.0, 1.0]);
    let before = (bench.alpha(1), memory(&bench));
    assert_eq!(before, (0.25, 1.0));
    for (fails, words) in failures {
        bench.layer.set_strategy(Some(Arc::new(move |_: &GraftingInput, memory: &mut f64| {
            *memory = 7.0;
            fails(memory)
        })));
        let summary = end(&mut bench, [0.0, 1.0, 1.0]);
        assert_eq!((bench.alpha(1), memory(&bench)), before, "{words}");
        let [held] = &summary.held[..] else { panic!("{summary:?}") };
        assert!(held.seed == 1 && held.reason.contains(words), "{held:?}");
    }
    bench.layer.set_strategy(None);
    assert!(end(&mut bench, [0.0, 1.0, 1.0]).held[0].reason.contains("none is set"));
    bench.layer.set_strategy(Some(remembering()));
    assert_eq!(end(&mut bench, [0.0, 1.0, 1.0]).held, []);
    assert_eq!((bench.alpha(1), memory(&bench)), (0.375, 2.0), "and goes on where it stopped");
}

#[test]
fn an_answer_about_a_seed_that_changed_meanwhile_is_not_taken() {
    let answers = |bench: &Bench| bench.layer.inquire(STREAM).unwrap().ask();
    let mut bench = grafting(USER);
    bench.layer.set_strategy(Some(remembering()));

    // Somebody else ended the epoch.
    let late = answers(&bench);
    bench.epoch();
    assert_eq!(bench.alpha(1), 0.25);
    let summary = bench.layer.end_epoch_with(&late, STREAM).unwrap().summary();
    assert_eq!((bench.alpha(1), memory(&bench)), (0.25, 1.0));
    assert!(summary.held[0].reason.contains("changed"), "{summary:?}");

    // Nobody was asked.
    let summary = bench.layer.end_epoch_with(&Answers::default(), STREAM).unwrap().summary();
    assert_eq!((bench.alpha(1), summary.held.len()), (0.25, 1));

    // It was taken out.
    let late = answers(&bench);
    bench.layer.roll_back(1, "test", STREAM).unwrap();
    let summary = bench.layer.end_epoch_with(&late, STREAM).unwrap().summary();
    assert_eq!((bench.alpha(1), summary.held), (0.25, Vec::new()));
}
