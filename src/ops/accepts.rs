//! Which types of elements an operator takes. Nothing is promoted: inputs of two types are an error that says `cast`.

use super::Value;
use crate::graph::DataType;

/// The types that all inputs of an operator, or those that must agree, may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Accepts {
    /// Numbers.
    Numbers,
    /// Numbers or whole numbers.
    Arithmetic,
    /// Truth values.
    Truth,
    /// Anything.
    Any,
}

impl Accepts {
    /// The one type that all of the inputs have, if it is accepted.
    pub fn common(self, inputs: &[Value<'_>]) -> Result<DataType, String> {
        let mut common = None;
        for (position, input) in inputs.iter().enumerate() {
            let own = input.data_type;
            if !self.takes(own) {
                return Err(format!("input {position} is {}, not {}; `cast` it", own.name(), self.name()));
            }
            match common {
                None => common = Some(own),
                Some(first) if first == own => {}
                Some(first) => {
                    let (first, own) = (first.name(), own.name());
                    return Err(format!("input {position} is {own}, but the first is {first}; `cast` one of them"));
                }
            }
        }
        Ok(common.unwrap_or(DataType::F32))
    }

    fn name(self) -> &'static str {
        match self {
            Accepts::Numbers => "a number (f32)",
            Accepts::Arithmetic => "a number or a whole number (f32, i32, i64)",
            Accepts::Truth => "a truth value (bool)",
            Accepts::Any => "any value",
        }
    }

    fn takes(self, data_type: DataType) -> bool {
        match self {
            Accepts::Numbers => data_type == DataType::F32,
            Accepts::Arithmetic => matches!(data_type, DataType::F32 | DataType::I32 | DataType::I64),
            Accepts::Truth => data_type == DataType::Bool,
            Accepts::Any => true,
        }
    }
}

/// Refuses inputs that are not numbers.
pub(super) fn expect_numbers(inputs: &[Value<'_>]) -> Result<(), String> {
    Accepts::Numbers.common(inputs).map(|_| ())
}
