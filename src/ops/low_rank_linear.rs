//! A linear layer whose weight is the product of two narrow ones.

use super::{Composite, Documentation, Group, expect_numbers};
use crate::graph::DataType;

pub(super) static LOW_RANK_LINEAR: Composite = Composite {
    name: "low_rank_linear",
    documentation: Documentation {
        group: Group::Contraction,
        summary: "`linear(linear(a, down), up, bias)`: a linear layer whose weight `up down` has a low rank.",
        inputs: &[
            ("a", "numbers [.., in]"),
            ("down", "numbers [rank, in]"),
            ("up", "numbers [out, rank]"),
            ("bias", "numbers [out]"),
        ],
        result: "numbers [.., out]",
        gradient: "as of the two linear layers",
        cost: "2 rank |a| + (2 rank + 1) |y|",
    },
    arity: 3..=4,
    attributes: &[],
    infer: |inputs, _| {
        expect_numbers(inputs)?;
        let (a, down, up) = (inputs[0].shape, inputs[1].shape, inputs[2].shape);
        let (Some(&last), &[rank, ins], &[outputs, taken]) = (a.0.last(), down.0.as_slice(), up.0.as_slice()) else {
            return Err(format!(
                "the inputs have shapes {a}, {down} and {up}; they must be [.., in], [rank, in] and [out, rank]"
            ));
        };
        if last != ins || rank != taken {
            return Err(format!("{a} does not go through {down} and then {up}"));
        }
        if let Some(bias) = inputs.get(3).filter(|bias| bias.shape.0 != [outputs]) {
            return Err(format!("the bias has shape {}; the weight {up} asks for [{outputs}]", bias.shape));
        }
        let mut shape = a.clone();
        shape.0[a.rank() - 1] = outputs;
        Ok((DataType::F32, shape))
    },
    normalise: |_, _| {},
    build: |builder, inputs, _| {
        let inner = builder.apply("linear", &[inputs[0], inputs[1]], &[]);
        let outer: Vec<_> = [inner].into_iter().chain(inputs[2..].iter().copied()).collect();
        builder.apply("linear", &outer, &[])
    },
};
