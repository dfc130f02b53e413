//! What an operator says about itself to people: `docs/operators.md` and the command line are made of this.
//!
//! In these texts `y` is the result and `g` the gradient of the loss with respect to it; |a| is the number of elements of
//! `a`.

use crate::graph::Attribute;

/// The description of an operator, each text in Markdown without line breaks.
#[derive(Clone, Copy, Debug)]
pub struct Documentation {
    /// Where it stands among the others.
    pub group: Group,
    /// What it computes, in one sentence.
    pub summary: &'static str,
    /// The inputs in order, each with its name and what it may be. [`Operator::arity`](super::Operator::arity) says how
    /// many of the last ones may be left out, or how often the last one may stand.
    pub inputs: &'static [(&'static str, &'static str)],
    /// Shape and type of the result.
    pub result: &'static str,
    /// The gradients, or why there are none.
    pub gradient: &'static str,
    /// How many operations it takes, as a formula; [`operations`](crate::compile::operations) gives the number.
    pub cost: &'static str,
}

/// Operators of a kind, in the order in which they are documented.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Group {
    /// Numbers that come from nowhere else.
    Source,
    /// Arithmetic, element by element.
    Arithmetic,
    /// Functions of one number, element by element.
    Function,
    /// Truth values and what is chosen by them.
    Choice,
    /// Elements combined over axes.
    Reduction,
    /// Values brought to a scale.
    Normalisation,
    /// Sums of products.
    Contraction,
    /// Elements moved and left as they are.
    Movement,
    /// What only the library itself puts into a graph.
    Internal,
}

impl Group {
    /// The heading.
    pub fn title(self) -> &'static str {
        match self {
            Group::Source => "Sources",
            Group::Arithmetic => "Arithmetic",
            Group::Function => "Functions",
            Group::Choice => "Truth and choice",
            Group::Reduction => "Reductions",
            Group::Normalisation => "Normalisation",
            Group::Contraction => "Contractions",
            Group::Movement => "Movement",
            Group::Internal => "Internal",
        }
    }
}

/// An attribute that an operator knows.
#[derive(Clone, Debug)]
pub struct KnownAttribute {
    /// Its name.
    pub name: &'static str,
    /// What it is if it is left out; `None` means it must be given.
    pub default: Option<Attribute>,
    /// What it does.
    pub meaning: &'static str,
}
