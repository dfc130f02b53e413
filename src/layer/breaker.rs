//! A circuit breaker: whether something that failed of late may be begun anew.
//!
//! Closed, it counts failures. With too many of them within a window it opens, and nothing begins. After a while it is half
//! open: a few trials may begin, as many that pass close it, and one that fails opens it again. It never stops what runs.
//!
//! Time is a number of seconds that the caller gives, on any clock that does not go back. Nothing here knows what fails.

use super::BreakerSettings;
use crate::{ErrorClass, Result, fail};
use serde::Serialize;
use std::collections::VecDeque;

/// How a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Everything may begin.
    Closed,
    /// Nothing may.
    Open,
    /// A few trials may.
    HalfOpen,
}

/// What is known of a breaker.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct BreakerReport {
    /// How it stands.
    pub state: BreakerState,
    /// Failures within the window that ends now; no more than open it are counted.
    pub recent_failures: u32,
    /// Failures ever.
    pub failures: u64,
    /// How often it opened.
    pub opened: u64,
    /// While it is open: seconds until trials may begin.
    pub seconds_until_trials: f64,
    /// While it is half open: trials that passed.
    pub trials_passed: u32,
    /// The class of the last failure.
    pub last_class: Option<ErrorClass>,
    /// And what it was.
    pub last_failure: Option<String>,
}

/// A breaker.
#[derive(Clone, Debug)]
pub(super) struct Breaker {
    settings: BreakerSettings,
    phase: Phase,
    /// When the failures within the window were.
    recent: VecDeque<f64>,
    failures: u64,
    opened: u64,
    last: Option<(ErrorClass, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Phase {
    Closed,
    Open { until: f64 },
    HalfOpen { passed: u32 },
}

impl Breaker {
    /// Closed.
    pub fn new(settings: BreakerSettings) -> Breaker {
        Breaker { settings, phase: Phase::Closed, recent: VecDeque::new(), failures: 0, opened: 0, last: None }
    }

    /// Counts a failure. Whether it opened the breaker.
    pub fn fail(&mut self, now: f64, class: ErrorClass, what: &str) -> bool {
        self.forget(now);
        self.failures += 1;
        self.last = Some((class, what.to_owned()));
        self.recent.push_back(now);
        let most = self.settings.failures as usize;
        if self.recent.len() > most.max(1) {
            // However many come, no more are remembered than open it.
            self.recent.pop_front();
        }
        let opens = match self.phase(now) {
            Phase::Closed => most > 0 && self.recent.len() >= most,
            Phase::Open { .. } => false,
            Phase::HalfOpen { .. } => true,
        };
        if opens {
            self.phase = Phase::Open { until: now + self.settings.open_seconds };
            self.opened += 1;
        }
        opens
    }

    /// Counts a trial that passed.
    pub fn pass(&mut self, now: f64) {
        if let Phase::HalfOpen { passed } = self.phase(now) {
            let closes = passed + 1 >= self.settings.trials;
            self.phase = if closes { Phase::Closed } else { Phase::HalfOpen { passed: passed + 1 } };
            if closes {
                self.recent.clear();
            }
        }
    }

    /// Whether one more may begin, when so many are trying. `name` is what the sentence calls the breaker.
    ///
    /// # Errors
    ///
    /// `TransitionRefused` with the last failure, and when trials may begin.
    pub fn check(&self, now: f64, trying: u32, name: impl Fn() -> String) -> Result<()> {
        let last = || self.last.as_ref().map_or("", |(_, what)| what);
        match self.phase(now) {
            Phase::Open { until } => fail!(
                TransitionRefused,
                "the circuit breaker of {} is open after {} failures, the last one: {}; trials may begin in {:.1} s",
                name(),
                self.failures,
                last(),
                until - now
            ),
            Phase::HalfOpen { .. } if trying >= self.settings.trials => fail!(
                TransitionRefused,
                "the circuit breaker of {} is half open, and {trying} seeds are trying (breakers.trials); its last failure \
                 was: {}",
                name(),
                last()
            ),
            _ => Ok(()),
        }
    }

    /// Whether everything may begin.
    pub fn is_closed(&self, now: f64) -> bool {
        self.phase(now) == Phase::Closed
    }

    /// What is known of it.
    pub fn report(&self, now: f64) -> BreakerReport {
        let (state, seconds_until_trials, trials_passed) = match self.phase(now) {
            Phase::Closed => (BreakerState::Closed, 0.0, 0),
            Phase::Open { until } => (BreakerState::Open, until - now, 0),
            Phase::HalfOpen { passed } => (BreakerState::HalfOpen, 0.0, passed),
        };
        BreakerReport {
            state,
            recent_failures: self.recent.iter().filter(|time| self.is_recent(**time, now)).count() as u32,
            failures: self.failures,
            opened: self.opened,
            seconds_until_trials,
            trials_passed,
            last_class: self.last.as_ref().map(|(class, _)| *class),
            last_failure: self.last.as_ref().map(|(_, what)| what.clone()),
        }
    }

    fn phase(&self, now: f64) -> Phase {
        match self.phase {
            Phase::Open { until } if now >= until => Phase::HalfOpen { passed: 0 },
            phase => phase,
        }
    }

    fn is_recent(&self, time: f64, now: f64) -> bool {
        now - time <= self.settings.window_seconds
    }

    fn forget(&mut self, now: f64) {
        while self.recent.front().is_some_and(|time| !self.is_recent(*time, now)) {
            self.recent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPEN: fn(&Breaker, f64) -> bool = |breaker, now| breaker.report(now).state == BreakerState::Open;

    fn breaker() -> Breaker {
        Breaker::new(BreakerSettings::default())
    }

    fn fail_at(breaker: &mut Breaker, times: &[f64]) -> bool {
        times.iter().fold(false, |_, time| breaker.fail(*time, ErrorClass::Execute, "it was not finite"))
    }

    #[test]
    fn three_failures_within_sixty_seconds_open_it_and_three_in_more_do_not() {
        for (times, opens) in [
            (vec![0.0, 30.0, 60.0], true),
            (vec![5.0, 5.0, 5.0], true),
            (vec![0.0, 30.0, 60.1], false),
            (vec![0.0, 30.0, 60.1, 89.9], true),
            (vec![0.0, 100.0, 200.0, 300.0, 400.0], false),
        ] {
            let mut breaker = breaker();
            assert_eq!(fail_at(&mut breaker, &times), opens, "{times:?}");
            assert_eq!(OPEN(&breaker, times[times.len() - 1]), opens);
            assert_eq!(breaker.report(1000.0).failures, times.len() as u64);
        }
    }

    #[test]
    fn open_it_refuses_with_the_reason_and_the_time_and_lets_trials_through_later() {
        let mut breaker = breaker();
        fail_at(&mut breaker, &[1.0, 2.0, 3.0]);
        let refusal = breaker.check(10.5, 0, || "blueprint 4".to_owned()).unwrap_err();
        assert_eq!(
            refusal.message(),
            "the circuit breaker of blueprint 4 is open after 3 failures, the last one: it was not finite; trials may \
             begin in 52.5 s"
        );
        assert!(breaker.check(62.9, 0, String::new).is_err());
        for trying in 0..3 {
            breaker.check(63.0, trying, String::new).unwrap();
        }
        let refusal = breaker.check(63.0, 3, String::new).unwrap_err();
        assert!(refusal.message().contains("half open, and 3 seeds are trying"), "{refusal}");
    }

    #[test]
    fn as_many_trials_as_are_wanted_close_it_and_it_has_forgotten_the_failures() {
        let mut breaker = breaker();
        fail_at(&mut breaker, &[0.0, 0.0, 0.0]);
        breaker.pass(59.0);
        assert!(OPEN(&breaker, 59.0), "what ran on while it was open proves nothing");
        for passed in 0..3 {
            assert_eq!(breaker.report(60.0).trials_passed, passed);
            assert_eq!(breaker.report(60.0).state, BreakerState::HalfOpen);
            breaker.pass(60.0);
        }
        assert_eq!(breaker.report(60.0).state, BreakerState::Closed);
        assert!(!fail_at(&mut breaker, &[60.0, 60.0]) && fail_at(&mut breaker, &[60.0]));
    }

    #[test]
    fn any_failure_of_a_trial_opens_it_again_for_the_whole_time() {
        let mut breaker = breaker();
        fail_at(&mut breaker, &[0.0, 0.0, 0.0]);
        breaker.pass(60.0);
        breaker.pass(60.0);
        assert!(fail_at(&mut breaker, &[70.0]));
        assert!(OPEN(&breaker, 129.9) && !OPEN(&breaker, 130.0));
        assert_eq!(breaker.report(130.0).trials_passed, 0, "trials begin anew");
        assert_eq!(breaker.report(130.0).opened, 2);
    }

    #[test]
    fn a_failure_while_it_is_open_neither_opens_it_again_nor_prolongs_it() {
        let mut breaker = breaker();
        fail_at(&mut breaker, &[0.0, 0.0, 0.0]);
        assert!(!fail_at(&mut breaker, &[50.0]));
        assert!(!OPEN(&breaker, 60.0));
    }

    #[test]
    fn with_no_failures_to_open_it_it_stays_closed_and_a_million_failures_take_no_room() {
        let mut never = Breaker::new(BreakerSettings { failures: 0, ..BreakerSettings::default() });
        assert!(!fail_at(&mut never, &[0.0; 100]));
        never.check(0.0, 1000, String::new).unwrap();
        let mut breaker = breaker();
        fail_at(&mut breaker, &[0.0; 1000]);
        assert!(breaker.recent.len() <= 3 && never.recent.len() <= 1);
    }
}
