//! Programs as people read them: `kasmina inspect`, error attachments, tests.

use super::{Binary, Condition, Expression, Operand, Program, Reducer, Source, Step, Unary};
use std::fmt::{Display, Formatter, Result};

impl Display for Program {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        writeln!(formatter, "program for chunks of {}, falling back to {:?}", self.chunk, self.fallback)?;
        for (position, value) in self.values.iter().enumerate() {
            if value.source != Source::Step {
                writeln!(formatter, "  v{position}[{}] is {:?}", value.elements, value.source)?;
            }
        }
        let phases = [
            ("prologue", &self.prologue, "="),
            ("body", &self.body, "="),
            ("accumulate", &self.accumulate, "+="),
            ("epilogue", &self.epilogue, "="),
        ];
        for (name, steps, assigned) in phases.into_iter().filter(|(_, steps, _)| !steps.is_empty()) {
            writeln!(formatter, "{name}")?;
            for step in steps {
                write!(formatter, "  v{}", step.result.0)?;
                if step.offset != 0 {
                    write!(formatter, "+{}", step.offset)?;
                }
                writeln!(formatter, "{} {assigned} {step}", step.shape)?;
            }
        }
        let outputs = self.outputs.iter().map(|output| format!("v{} to {:?}", output.value.0, output.target));
        writeln!(formatter, "outputs {}", outputs.collect::<Vec<_>>().join(", "))?;
        let guards = self.guards.iter().map(|guard| format!("v{}", guard.0));
        writeln!(formatter, "guards {}", guards.collect::<Vec<_>>().join(", "))
    }
}

/// What is combined and computed, without the result.
impl Display for Step {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        if self.reduced.rank() != 0 {
            let reducer = match self.reducer {
                Reducer::Sum => "sum",
                Reducer::Max => "max",
                Reducer::Min => "min",
            };
            write!(formatter, "{reducer}{} ", self.reduced)?;
        }
        self.expression.write(formatter, &self.operands)?;
        match self.condition {
            None => Ok(()),
            Some(Condition { value, holds }) => write!(formatter, " if v{} is {holds}", value.0),
        }
    }
}

impl Display for Operand {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> Result {
        write!(formatter, "v{}", self.value.0)?;
        if self.offset != 0 {
            write!(formatter, "+{}", self.offset)?;
        }
        write!(formatter, "{:?}", self.strides)
    }
}

impl Expression {
    fn write(&self, formatter: &mut Formatter<'_>, operands: &[Operand]) -> Result {
        match self {
            Expression::Operand(position) => match operands.get(*position) {
                Some(operand) => write!(formatter, "{operand}"),
                None => write!(formatter, "operand {position}"),
            },
            Expression::Constant(number) => write!(formatter, "{number}"),
            Expression::Unary(function, of) => {
                let name = match function {
                    Unary::Neg => "-",
                    Unary::Abs => "abs",
                    Unary::Exp => "exp",
                    Unary::Log => "log",
                    Unary::Sqrt => "sqrt",
                    Unary::Rsqrt => "rsqrt",
                    Unary::Tanh => "tanh",
                    Unary::Sigmoid => "sigmoid",
                    Unary::Erf => "erf",
                    Unary::Sin => "sin",
                    Unary::Cos => "cos",
                    Unary::Floor => "floor",
                    Unary::RoundF16 => "f16",
                    Unary::RoundBF16 => "bf16",
                    Unary::Not => "not",
                };
                write!(formatter, "{name}(")?;
                of.write(formatter, operands)?;
                write!(formatter, ")")
            }
            Expression::Binary(function, a, b) => {
                let (before, between) = match function {
                    Binary::Add => ("(", " + "),
                    Binary::Sub => ("(", " - "),
                    Binary::Mul => ("(", " * "),
                    Binary::Div => ("(", " / "),
                    Binary::Max => ("max(", ", "),
                    Binary::Greater => ("(", " > "),
                    Binary::Equal => ("(", " == "),
                    Binary::Min => ("min(", ", "),
                    Binary::Pow => ("pow(", ", "),
                    Binary::GreaterEqual => ("(", " >= "),
                    Binary::And => ("(", " and "),
                    Binary::Or => ("(", " or "),
                };
                write!(formatter, "{before}")?;
                a.write(formatter, operands)?;
                write!(formatter, "{between}")?;
                b.write(formatter, operands)?;
                write!(formatter, ")")
            }
            Expression::Cast(to, of) => {
                write!(formatter, "{}(", to.name())?;
                of.write(formatter, operands)?;
                write!(formatter, ")")
            }
            Expression::Select(condition, a, b) => {
                write!(formatter, "(")?;
                condition.write(formatter, operands)?;
                write!(formatter, " ? ")?;
                a.write(formatter, operands)?;
                write!(formatter, " : ")?;
                b.write(formatter, operands)?;
                write!(formatter, ")")
            }
        }
    }
}
