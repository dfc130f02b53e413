//! A contraction of two values, such as `oi,i->o`: every letter names an axis, and letters that are not in the result
//! are summed over. Its gradients are contractions again.

use super::{
    Call, Documentation, Group, KnownAttribute, Lowered, Lowering, Operator, Value, View, attribute, bounded_products,
    expect_numbers,
};
use crate::compile::{Expression, Operand, Reducer};
use crate::graph::{Attributes, Builder, DataType, Shape, ValueId};
use std::ops::RangeInclusive;

#[derive(Debug)]
pub(super) struct Einsum;

impl Operator for Einsum {
    fn name(&self) -> &'static str {
        "einsum"
    }

    fn arity(&self) -> RangeInclusive<usize> {
        2..=2
    }

    fn documentation(&self) -> Documentation {
        Documentation {
            group: Group::Contraction,
            summary: "A contraction of two values, such as `oi,i->o`: each letter names an axis, and letters that are not in the result are summed over.",
            inputs: &[("a", "numbers"), ("b", "numbers")],
            result: "numbers of the sizes that the letters of the result stand for",
            gradient: "contractions of `g` with the other input",
            cost: "2 times the product of the sizes of all letters",
        }
    }

    fn attributes(&self) -> &'static [KnownAttribute] {
        &[KnownAttribute {
            name: "equation",
            default: None,
            meaning: "`<letters>,<letters>-><letters>`: letters a to z and A to Z, none twice in one of the three",
        }]
    }

    fn infer(&self, inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
        expect_numbers(inputs)?;
        let equation = Equation::parse(attribute::text(attributes, "equation")?)?;
        for (letters, input) in equation.inputs.iter().zip(inputs) {
            if letters.chars().count() != input.shape.rank() {
                return Err(format!("`{letters}` stands for a value of shape {}", input.shape));
            }
        }
        let shapes = [inputs[0].shape, inputs[1].shape];
        let mut products = shapes[0].elements() as u64;
        for (letter, &size) in equation.inputs[1].chars().zip(&shapes[1].0) {
            match axis(equation.inputs[0], letter).map(|axis| shapes[0].0[axis]) {
                Some(other) if other == size => {}
                Some(other) => {
                    return Err(format!(
                        "axis `{letter}` has {other} elements in the first input, {size} in the second"
                    ));
                }
                None => products = products.saturating_mul(size as u64),
            }
        }
        bounded_products(products)?;
        Ok((DataType::F32, equation.shape(equation.output, shapes)))
    }

    /// For `a,b->c`, a gets `c,b->a` of the gradient and b; axes that only a has were summed alone, so there the
    /// gradient is repeated. The same for b.
    fn gradient(&self, builder: &mut Builder, call: &Call<'_>, output_gradient: ValueId) -> Vec<Option<ValueId>> {
        let equation = Equation::known(call.attributes);
        let mut of_input = |own: usize| {
            let (letters, other) = (equation.inputs[own], equation.inputs[1 - own]);
            let shape = builder.shape(call.inputs[own]);
            let shared = |letter: char| equation.output.contains(letter) || other.contains(letter);
            let found: String = letters.chars().filter(|&letter| shared(letter)).collect();
            let contraction = format!("{},{other}->{found}", equation.output);
            let gradient = builder.einsum(contraction, output_gradient, call.inputs[1 - own]);
            let kept = letters.chars().zip(&shape.0).map(|(letter, &size)| if shared(letter) { size } else { 1 });
            let kept = Shape(kept.collect());
            let gradient = if builder.shape(gradient) == kept { gradient } else { builder.reshape(gradient, &kept) };
            Some(builder.broadcast(gradient, &shape))
        };
        vec![of_input(0), of_input(1)]
    }

    fn lower(&self, lowering: &mut Lowering, call: &Lowered<'_>) -> View {
        let equation = Equation::known(call.attributes);
        let mut summed = String::new();
        for letter in equation.inputs.iter().flat_map(|letters| letters.chars()) {
            if !equation.output.contains(letter) && !summed.contains(letter) {
                summed.push(letter);
            }
        }
        let operand = |(letters, view): (&&str, &View)| {
            let stride = |letter: char| axis(letters, letter).map_or(0, |axis| view.strides[axis]);
            let strides = equation.output.chars().chain(summed.chars()).map(stride).collect();
            Operand { strides, ..view.operand() }
        };
        let operands = equation.inputs.iter().zip(call.inputs).map(operand).collect();
        let reduced = equation.shape(&summed, [&call.inputs[0].shape, &call.inputs[1].shape]);
        let product = Expression::Operand(0) * Expression::Operand(1);
        lowering.step(call.shape.clone(), reduced, Reducer::Sum, operands, product)
    }
}

/// The letters of an equation.
struct Equation<'a> {
    inputs: [&'a str; 2],
    output: &'a str,
}

impl<'a> Equation<'a> {
    fn parse(text: &'a str) -> Result<Self, String> {
        let malformed = || format!("the equation {text:?} is not of the form \"ab,bc->ac\"");
        let (inputs, output) = text.split_once("->").ok_or_else(malformed)?;
        let (first, second) = inputs.split_once(',').ok_or_else(malformed)?;
        for letters in [first, second, output] {
            if !letters.chars().all(|letter| letter.is_ascii_alphabetic()) {
                return Err(malformed());
            }
            let twice = letters.char_indices().find(|&(at, letter)| letters[..at].contains(letter));
            if let Some((_, letter)) = twice {
                return Err(format!("`{letter}` stands twice in `{letters}` of {text:?}; diagonals are not supported"));
            }
        }
        if let Some(letter) = output.chars().find(|&letter| !first.contains(letter) && !second.contains(letter)) {
            return Err(format!("`{letter}` of the result is in neither input of {text:?}"));
        }
        Ok(Self { inputs: [first, second], output })
    }

    /// The equation that the shape rule has found right.
    fn known(attributes: &'a Attributes) -> Self {
        let text = attribute::known(attribute::text(attributes, "equation"));
        Self::parse(text).unwrap_or(Self { inputs: ["", ""], output: "" })
    }

    /// The sizes of some letters.
    fn shape(&self, letters: &str, shapes: [&Shape; 2]) -> Shape {
        let size = |letter| {
            let first = axis(self.inputs[0], letter).map(|axis| shapes[0].0[axis]);
            first.or_else(|| axis(self.inputs[1], letter).map(|axis| shapes[1].0[axis]))
        };
        Shape(letters.chars().filter_map(size).collect())
    }
}

/// Where a letter stands.
fn axis(letters: &str, letter: char) -> Option<usize> {
    letters.chars().position(|other| other == letter)
}
