//! Random valid blueprints: a pure function from bytes to JSON over all operators of the registry.
//!
//! Every choice reads one byte, and the first option is the simplest one, so that proptest shrinks what it finds and
//! libFuzzer can steer: other bytes, another graph; no bytes left, the shortest way to an end.
//!
//! The graphs are numerically tame, so that results and gradients can be compared. For elements of x in [-2, 2] and
//! parameters as their (always uniform) initializers say, every value stays within [`growth::LARGEST`]; logarithms,
//! roots and divisions see numbers well away from zero; there are few kinks and steps, and they lie apart from where
//! rounding would decide.
//!
//! It knows nothing of the library, so that tests, the fuzz targets and an example can share it.

// Each of those who share it takes what it needs.
#![allow(dead_code, unused_imports)]

mod calls;
mod choices;
mod elementwise;
mod growth;
mod layers;
mod movement;
mod structure;

pub use calls::operators;
pub use choices::Choices;
pub use growth::LARGEST;

use growth::Growth;

/// The blueprint that these choices lead to, as JSON on one line.
pub fn blueprint(bytes: &[u8]) -> String {
    let mut growth = Growth::new(Choices::new(bytes));
    let operators = operators();
    for _ in 0..growth.steps() {
        let number = growth.choices.below(operators.len());
        // What does not fit here leaves its turn to the next.
        let turns = operators.iter().cycle().skip(number).take(operators.len());
        for operator in turns {
            if (operator.call)(&mut growth).is_some() {
                break;
            }
        }
    }
    growth.finish()
}
