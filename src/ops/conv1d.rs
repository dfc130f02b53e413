//! A convolution along the last axis, as `torch.nn.functional.conv1d` has it: taps are not turned round.

use super::{
    Composite, Documentation, Group, KnownAttribute, Value, attribute, bounded_products, expect_numbers, unfold,
};
use crate::graph::{Attribute, Attributes, Builder, DataType, Shape, ValueId};
use std::borrow::Cow;

pub(super) static CONV1D: Composite = Composite {
    name: "conv1d",
    documentation: Documentation {
        group: Group::Contraction,
        summary: "A convolution along the last axis: `y[o, l] = bias[o] + sum over i, k of weight[o, i, k] \
                  a[i, l + k dilation - left]`, with zeros outside of a. One row of taps alone is applied to every row of a.",
        inputs: &[
            ("a", "numbers [in, length], or [.., length] if the weight is one row of taps"),
            ("weight", "numbers [out, in, taps], or one row of [taps]; 1 to 64 taps"),
            ("bias", "numbers [out], or [] for one row of taps"),
        ],
        result: "numbers [out, length], or the shape of a; the length is less with `padding` valid",
        gradient: "the same taps turned round on `g` to a; windows of a times `g` to the weight; the sum of `g` to the bias",
        cost: "(2 in taps + 1) |y|",
    },
    arity: 2..=3,
    attributes: &[
        KnownAttribute {
            name: "padding",
            default: Some(Attribute::Text(Cow::Borrowed("causal"))),
            meaning: "`causal`: all zeros before, so that y[l] sees a up to l; `same`: half of them, as in PyTorch; \
                      `valid`: none",
        },
        KnownAttribute {
            name: "dilation",
            default: Some(Attribute::Integer(1)),
            meaning: "from one tap to the next, at least 1",
        },
    ],
    infer,
    normalise: |_, _| {},
    build,
};

fn infer(inputs: &[Value<'_>], attributes: &Attributes) -> Result<(DataType, Shape), String> {
    expect_numbers(inputs)?;
    let (a, weight) = (inputs[0].shape, inputs[1].shape);
    let (Some(&length), Some(&taps)) = (a.0.last(), weight.0.last()) else {
        return Err(format!("the input has shape {a} and the weight {weight}; each needs at least one axis"));
    };
    let (outputs, inputs_per_output) = match (a.0.as_slice(), weight.0.as_slice()) {
        (_, [_]) => (None, 1),
        ([channels, _], [outputs, ins, _]) if channels == ins => (Some(*outputs), *ins),
        _ => {
            return Err(format!(
                "the input has shape {a} and the weight {weight}; they must be [in, length] and [out, in, taps], or any and [taps]"
            ));
        }
    };
    if taps > unfold::LARGEST {
        return Err(format!("the weight has {taps} taps; at most {} are allowed", unfold::LARGEST));
    }
    let wanted: Vec<_> = outputs.into_iter().collect();
    if let Some(bias) = inputs.get(2).filter(|bias| bias.shape.0 != wanted) {
        return Err(format!("the bias has shape {}; the weight {weight} asks for {wanted:?}", bias.shape));
    }
    let taps = Taps::read(attributes, taps, length)?;
    let padded = length + taps.sides.iter().sum::<usize>();
    let Some(found) = padded.checked_sub(taps.reach()).filter(|&found| found > 0) else {
        return Err(format!("the taps reach over {} elements; the last axis of {a} has {length}", taps.reach() + 1));
    };
    let mut shape = a.clone();
    shape.0[a.rank() - 1] = found;
    if let Some(outputs) = outputs {
        shape.0[0] = outputs;
    }
    bounded_products(
        [&shape.0[..], &[inputs_per_output, taps.count]].concat().iter().map(|&size| size as u64).product(),
    )?;
    Ok((DataType::F32, shape))
}

fn build(builder: &mut Builder, inputs: &[ValueId], attributes: &Attributes) -> ValueId {
    let (shape, weight) = (builder.shape(inputs[0]), builder.shape(inputs[1]));
    let (last, count) = (shape.rank() - 1, weight.0[weight.rank() - 1]);
    let taps = attribute::known(Taps::read(attributes, count, shape.0[last]));
    let padded = builder.pad(inputs[0], last, taps.sides[0], taps.sides[1]);
    let windows = builder.apply(
        "unfold",
        &[padded],
        &[
            ("axis", Attribute::Integer(last as i64)),
            ("size", Attribute::Integer(count as i64)),
            ("dilation", Attribute::Integer(taps.dilation as i64)),
        ],
    );
    let result = if weight.rank() == 1 {
        let outer: String = ('a'..'i').take(shape.rank()).collect();
        builder.einsum(format!("{outer}k,k->{outer}"), windows, inputs[1])
    } else {
        builder.einsum("ilk,oik->ol", windows, inputs[1])
    };
    match inputs.get(2) {
        None => result,
        Some(&bias) if weight.rank() == 1 => builder.add(result, bias),
        Some(&bias) => {
            let column = builder.reshape(bias, &Shape::new([weight.0[0], 1]));
            builder.add(result, column)
        }
    }
}

/// How taps lie over the last axis.
#[derive(Default)]
struct Taps {
    count: usize,
    dilation: usize,
    /// Zeros before and behind.
    sides: [usize; 2],
}

impl Taps {
    fn read(attributes: &Attributes, count: usize, length: usize) -> Result<Self, String> {
        let dilation = attribute::count(attributes, "dilation", 1, length)?;
        let reach = (count - 1) * dilation;
        let sides = match attribute::text(attributes, "padding")? {
            "causal" => [reach, 0],
            "same" => [reach / 2, reach - reach / 2],
            "valid" => [0, 0],
            other => return Err(format!("`padding` is {other:?}; it must be \"causal\", \"same\" or \"valid\"")),
        };
        Ok(Self { count, dilation, sides })
    }

    /// From the first tap to the last.
    fn reach(&self) -> usize {
        (self.count - 1) * self.dilation
    }
}
