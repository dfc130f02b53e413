//! What a kernel of a layer is for.

use crate::compile::Pass;
use crate::graph::DataType;

/// Kinds of kernels: four row types, and for each a forward, two backward and a training kernel.
pub(super) const KINDS: usize = 16;

/// What a kernel of a set is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kind {
    pub pass: Pass,
    pub data_type: DataType,
    pub alpha_gradient: bool,
}

impl Kind {
    /// Forward over rows of a type.
    pub fn forward(data_type: DataType) -> Kind {
        Kind { pass: Pass::Forward, data_type, alpha_gradient: false }
    }

    /// Backward, with or without the gradient of alpha.
    pub fn backward(data_type: DataType, alpha_gradient: bool) -> Kind {
        Kind { pass: Pass::Backward, data_type, alpha_gradient }
    }

    /// Isolated training.
    pub fn train(data_type: DataType) -> Kind {
        Kind { pass: Pass::Train, data_type, alpha_gradient: false }
    }

    /// A number below [`KINDS`].
    pub fn index(self) -> usize {
        let data_type = match self.data_type {
            DataType::F16 => 1,
            DataType::BF16 => 2,
            DataType::F64 => 3,
            _ => 0,
        };
        let pass = match (self.pass, self.alpha_gradient) {
            (Pass::Forward, _) => 0,
            (Pass::Backward, false) => 1,
            (Pass::Backward, true) => 2,
            (Pass::Train, _) => 3,
        };
        4 * data_type + pass
    }

    /// Every kind.
    pub fn all() -> impl Iterator<Item = Kind> {
        [DataType::F32, DataType::F16, DataType::BF16, DataType::F64].into_iter().flat_map(|data_type| {
            [
                Kind::forward(data_type),
                Kind::backward(data_type, false),
                Kind::backward(data_type, true),
                Kind::train(data_type),
            ]
        })
    }
}
