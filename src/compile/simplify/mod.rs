//! Makes programs fast without changing a bit of what they compute: constants are folded, equal steps become one, steps
//! are put into the steps that read them where that is not more work, and heavy ones that few need are skipped. Each of
//! these is a pass of its own that keeps the bits, and the promise below.
//!
//! "Not more work" means: a function is evaluated no more often than before, counted over all indices of all steps.

mod branch;
mod fold;
mod fuse;
mod share;
mod tidy;

use super::Program;
use super::schedule::Draft;
use crate::Result;

/// Rounds of simplification, at most; few programs need a third one.
const ROUNDS: usize = 16;

/// One of the passes that [`simplify`] is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Simplification {
    /// Computes what only depends on constants.
    Fold,
    /// Brings steps that compute the same into one form.
    Tidy,
    /// Lets equal steps be computed once.
    Share,
    /// Puts steps into the steps that read them.
    Fuse,
    /// Lets heavy steps be skipped where nobody takes the branch that they belong to.
    Branch,
    /// Drops steps that nothing needs. So do the others: what they leave over never gets into a program.
    Drop,
}

impl Simplification {
    /// A round: fusion brings constants together, and sharing leaves steps with one reader, which the next round can put
    /// into it.
    const ROUND: [Simplification; 7] = {
        use Simplification::{Branch, Fold, Fuse, Share, Tidy};
        [Tidy, Share, Fuse, Fold, Tidy, Share, Branch]
    };

    /// The program after this pass alone.
    ///
    /// # Errors
    ///
    /// As of [`simplify`].
    pub fn apply(self, program: Program) -> Result<Program> {
        let mut draft = Draft::from(program);
        self.run(&mut draft);
        draft.schedule()
    }

    fn run(self, draft: &mut Draft) {
        match self {
            Simplification::Fold => draft.steps.iter_mut().for_each(|step| fold::fold(&mut step.expression)),
            Simplification::Tidy => draft.steps.iter_mut().for_each(tidy::tidy),
            Simplification::Share => share::share(draft),
            Simplification::Fuse => fuse::fuse(draft),
            Simplification::Branch => branch::branch(draft),
            Simplification::Drop => {}
        }
    }
}

/// A program that computes the same with fewer steps.
///
/// # Errors
///
/// None for a program that came from [`super::lower()`]; otherwise as there.
pub fn simplify(mut program: Program) -> Result<Program> {
    for _ in 0..ROUNDS {
        let mut draft = Draft::from(program.clone());
        // They are found anew at the end; until then a step is what it computes.
        draft.steps.iter_mut().for_each(|step| step.condition = None);
        Simplification::ROUND.iter().for_each(|pass| pass.run(&mut draft));
        let simpler = draft.schedule()?;
        if simpler == program {
            break;
        }
        program = simpler;
    }
    Ok(program)
}
