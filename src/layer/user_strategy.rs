//! Strategies of the user's own: what they are asked about each seed at the end of an epoch, and what becomes of the
//! answers.
//!
//! They are asked before the layer is changed, and the answers are given to it afterwards: so whoever keeps the layer
//! behind a lock need not hold it while foreign code runs. Foreign code that fails holds alpha, and is reported.

use super::grafting::{GraftingInput, Step};
use super::state::SeedState;
use crate::{Result, fail};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Says by how much a seed's alpha rises, not below 0; more than what is left to 1 is 1. The number is what the strategy
/// remembers of the seed: 0 when it germinates, kept in checkpoints, and only changed by an answer that is taken.
pub type UserStrategy = Arc<dyn Fn(&GraftingInput, &mut f64) -> Result<f64> + Send + Sync>;

/// The seeds that the user's strategy must be asked about.
#[derive(Default)]
pub struct Inquiry {
    pub(super) strategy: Option<UserStrategy>,
    pub(super) questions: Vec<Question>,
}

/// One seed, as it was when the question was put.
pub(super) struct Question {
    pub input: GraftingInput,
    pub memory: f64,
    pub germinations: u32,
}

/// What the user's strategy said.
#[derive(Default)]
pub struct Answers(BTreeMap<u32, Answer>);

struct Answer {
    alpha: f32,
    germinations: u32,
    step: Step,
}

impl Inquiry {
    /// Whether there is nothing to ask.
    pub fn is_empty(&self) -> bool {
        self.questions.is_empty()
    }

    /// Asks about each seed. Foreign code runs in here.
    pub fn ask(&self) -> Answers {
        let answer = |question: &Question| {
            let &Question { ref input, memory, germinations } = question;
            let step = match self.answer(input, memory) {
                Ok(step) => step,
                Err(reason) => Step::hold(memory, reason.to_string()),
            };
            (input.seed, Answer { alpha: input.alpha, germinations, step })
        };
        Answers(self.questions.iter().map(answer).collect())
    }

    fn answer(&self, input: &GraftingInput, memory: f64) -> Result<Step> {
        let Some(strategy) = &self.strategy else {
            fail!(NotReady, "its strategy is the user's own, and none is set");
        };
        let mut memory = memory;
        let increment = match catch_unwind(AssertUnwindSafe(|| strategy(input, &mut memory))) {
            Ok(increment) => increment.map_err(|cause| cause.context("the user's strategy failed"))?,
            Err(_) => fail!(Panic, "the user's strategy panicked"),
        };
        if !(increment.is_finite() && increment >= 0.0) {
            fail!(
                InvalidArgument,
                "the user's strategy gave the increment {increment}; it must be a number not below 0"
            );
        }
        if !memory.is_finite() {
            fail!(InvalidArgument, "the user's strategy wants to remember {memory}; it must be a finite number");
        }
        Ok(Step { increment, memory, held: None })
    }
}

impl Answers {
    /// The answer about a seed, if it still is as it was when the question was put.
    pub(super) fn about(&self, seed: u32, state: &SeedState) -> Step {
        let same = |answer: &&Answer| answer.alpha == state.alpha && answer.germinations == state.germinations;
        match self.0.get(&seed).filter(same) {
            Some(answer) => answer.step.clone(),
            None => Step::hold(state.strategy_memory, "the seed changed while its strategy was being asked".to_owned()),
        }
    }
}
