//! Which value a name stands for while a document is read: bodies of loops and branches of conditionals see what is
//! around them, and what they define is gone behind them.

use super::limits::Limits;
use super::verify::{Values, check_name, quoted};
use super::{Attribute, Attributes, ValueId};
use crate::error::Result;
use crate::fail;
use std::collections::{HashMap, HashSet};

/// The name of the chunk that a blueprint is a function of.
pub(super) const X: &str = "x";

/// What a frame is for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Frame {
    /// The document, or the body of a loop: values around it are what they are.
    Plain,
    /// A branch: values around it are seen through `taken`, so that what the branch does where it is not taken never
    /// reaches their gradients.
    Branch {
        /// One truth value, shape `[]`, or one for each element.
        condition: ValueId,
        /// For which of the two the branch is taken.
        when: bool,
    },
}

/// The names that are known, innermost last.
#[derive(Debug)]
pub(super) struct Scopes {
    x: ValueId,
    scopes: Vec<Scope>,
    /// All names that nodes of the flat graph have.
    given: HashSet<String>,
}

#[derive(Debug)]
struct Scope {
    frame: Frame,
    /// What the names of its nodes begin with in the flat graph.
    prefix: String,
    /// `None` for names that are defined later.
    names: HashMap<String, Option<ValueId>>,
    /// Values from around a branch, and what they are inside.
    taken: HashMap<ValueId, ValueId>,
}

impl Scopes {
    /// Nothing is known but the chunk.
    pub fn new(x: ValueId) -> Self {
        Self { x, scopes: Vec::new(), given: HashSet::new() }
    }

    /// Enters a scope in which these names will be defined.
    pub fn enter<'a>(
        &mut self,
        frame: Frame,
        prefix: String,
        names: impl IntoIterator<Item = &'a String>,
    ) -> Result<()> {
        let mut scope = Scope { frame, prefix, names: HashMap::new(), taken: HashMap::new() };
        for name in names {
            check_name(name, false)?;
            if name == X {
                fail!(InvalidBlueprint, "`x` names the chunk, so no parameter and no node can have this name");
            }
            let known = self.scopes.iter().any(|outer| outer.names.contains_key(name));
            if known || scope.names.insert(name.clone(), None).is_some() {
                fail!(InvalidBlueprint, "two values have the name `{name}`");
            }
            if self.scopes.is_empty() {
                self.given.insert(name.clone());
            }
        }
        self.scopes.push(scope);
        Ok(())
    }

    /// Leaves the innermost scope.
    pub fn leave(&mut self) {
        self.scopes.pop();
    }

    /// Says which value a name of the innermost scope stands for.
    pub fn define(&mut self, name: &str, value: ValueId) {
        if let Some(scope) = self.scopes.last_mut() {
            scope.names.insert(name.into(), Some(value));
        }
    }

    /// Whether the name is known, now or later.
    pub fn knows(&self, name: &str) -> bool {
        name == X || self.scopes.iter().any(|scope| scope.names.contains_key(name))
    }

    /// The value of this name, as the innermost scope sees it.
    pub fn find(&mut self, name: &str, values: &mut Values) -> Result<ValueId> {
        let of_scope = |level: usize| Some((level, *self.scopes[level].names.get(name)?));
        let (level, mut value) = match (0..self.scopes.len()).rev().find_map(of_scope) {
            Some((level, Some(value))) => (level, value),
            None if name == X => (0, self.x),
            Some((_, None)) => {
                fail!(InvalidBlueprint, "it uses `{name}`, which is defined later; nodes must stand in order")
            }
            None => fail!(InvalidBlueprint, "it uses {}, but there is no value of this name", quoted(name)),
        };
        for inner in level + 1..self.scopes.len() {
            let Frame::Branch { condition, when } = self.scopes[inner].frame else { continue };
            value = match self.scopes[inner].taken.get(&value) {
                Some(known) => *known,
                None => {
                    let name = self.fresh(inner, &values.builder.node(value).name);
                    let when = Attributes::from([(String::from("when"), Attribute::Bool(when))]);
                    let inside = values.call("taken", &[condition, value], when, name)?;
                    self.scopes[inner].taken.insert(value, inside);
                    inside
                }
            };
        }
        Ok(value)
    }

    /// What a node of the innermost scope is called in the flat graph: a name that no other node has.
    pub fn flat_name(&mut self, name: &str) -> String {
        if self.scopes.len() == 1 { name.into() } else { self.fresh(self.scopes.len() - 1, name) }
    }

    /// Whether a branch is open whose condition is a truth value for each element.
    pub fn are_elementwise(&self, values: &Values) -> bool {
        self.scopes.iter().any(|scope| match scope.frame {
            Frame::Branch { condition, .. } => values.builder.node(condition).shape.rank() > 0,
            Frame::Plain => false,
        })
    }

    fn fresh(&mut self, level: usize, name: &str) -> String {
        let letters = Limits::DEFAULT.letters;
        let whole = format!("{}{name}", self.scopes[level].prefix);
        let numbered = |number: usize| {
            let number = if number == 0 { String::new() } else { format!("_{number}") };
            let kept = whole.len().min(letters - number.len());
            format!("{}{number}", &whole[..kept])
        };
        let free = (0..).map(numbered).find(|candidate| candidate != X && !self.given.contains(candidate));
        let free = free.unwrap_or(whole);
        self.given.insert(free.clone());
        free
    }
}
