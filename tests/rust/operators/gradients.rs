//! The gradient of every operator, and of operators on operators, against finite differences in f64. On the way, each
//! program must compute the same bits plain and simplified, with no more work, and the same sums from parts of the rows.

use super::numbers::Numbers;
use kasmina::compile::{Program, Step, lower, reference, simplify};
use kasmina::graph::{Attribute, Builder, RowInput, Shape, Target, ValueId, differentiate};

const ROWS: usize = 3;

/// Checks a function of a row and some parameters: the gradient of the weighted sum of its result.
#[track_caller]
fn check(chunk: usize, shapes: &[&[usize]], function: impl Fn(&mut Builder, ValueId, &[ValueId]) -> ValueId) {
    check_at(chunk, shapes, |number| number, function);
}

/// The same, with every input passed through `adjust` first, to keep it where the function is smooth.
#[track_caller]
fn check_at(
    chunk: usize,
    shapes: &[&[usize]],
    adjust: impl Fn(f64) -> f64,
    function: impl Fn(&mut Builder, ValueId, &[ValueId]) -> ValueId,
) {
    let mut offsets = Vec::new();
    let mut slot = 0;
    for shape in shapes {
        offsets.push(slot);
        slot += shape.iter().product::<usize>();
    }
    // The last parameter is the weights; its shape is known when the function is built.
    offsets.push(slot);

    let build = |gradients: bool| {
        let mut builder = Builder::new();
        let x = builder.row(RowInput::X, chunk);
        let parameters: Vec<_> = (shapes.iter().enumerate())
            .map(|(position, shape)| builder.parameter(position, format!("p{position}"), Shape::new(*shape)))
            .collect();
        let y = function(&mut builder, x, &parameters);
        let shape = builder.shape(y);
        let weights = builder.parameter(shapes.len(), "weights", shape.clone());
        let target = builder.row(RowInput::Target, chunk);
        let row_weight = builder.sum(target, &[], false);
        let weights = builder.mul(weights, row_weight);
        if gradients {
            let wanted: Vec<_> = [x].into_iter().chain(parameters.iter().copied()).collect();
            let found = differentiate(&mut builder, y, weights, &wanted);
            builder.output(found[0].unwrap(), Target::Row);
            for (position, gradient) in found[1..].iter().enumerate() {
                // A parameter that is only compared has none.
                if let Some(gradient) = *gradient {
                    builder.output(gradient, Target::ParameterGradient(position));
                }
            }
        } else {
            let weighted = builder.mul(y, weights);
            let axes: Vec<_> = (0..shape.rank()).collect();
            let sum = if axes.is_empty() { weighted } else { builder.sum(weighted, &axes, false) };
            let total = builder.row_sum(sum);
            builder.output(total, Target::Loss);
        }
        (lower(&builder.finish().unwrap(), chunk, &offsets, RowInput::X).unwrap(), shape.elements())
    };
    let ((loss, elements), (gradient, _)) = (build(false), build(true));

    let mut numbers = Numbers::new(chunk as u64);
    let adjusted = |numbers: Vec<f64>| numbers.into_iter().map(&adjust).collect::<Vec<_>>();
    let x = adjusted(numbers.take(ROWS * chunk));
    let mut parameters = adjusted(numbers.take(slot));
    parameters.extend(numbers.take(elements));
    let target = numbers.take(ROWS * chunk);
    let inputs = reference::Inputs {
        rows: ROWS,
        x: &x,
        target: &target,
        parameters: &parameters,
        ..reference::Inputs::default()
    };
    let found = same_when_simplified(&gradient, &inputs);
    same_when_simplified(&loss, &inputs);
    same_from_parts(&gradient, &inputs, chunk);

    let loss_at = |x: &[f64], parameters: &[f64]| {
        reference::run(&loss, &reference::Inputs { x, parameters, ..inputs }).unwrap().loss
    };
    let difference = |numbers: &[f64], position: usize, loss: &dyn Fn(&[f64]) -> f64| {
        let step = 1e-5;
        let mut moved = numbers.to_vec();
        moved[position] += step;
        let above = loss(&moved);
        moved[position] -= 2.0 * step;
        (above - loss(&moved)) / (2.0 * step)
    };
    for position in 0..x.len() {
        let expected = difference(&x, position, &|x| loss_at(x, &parameters));
        near(found.rows[position], expected, &format!("the gradient of x[{position}]"));
    }
    for position in 0..slot {
        let expected = difference(&parameters, position, &|parameters| loss_at(&x, parameters));
        near(found.parameter_gradient[position], expected, &format!("the gradient of parameter element {position}"));
    }
}

#[track_caller]
fn near(found: f64, expected: f64, what: &str) {
    let scale = 1.0 + expected.abs();
    assert!((found - expected).abs() < 1e-7 * scale, "{what} is {found}, by finite differences {expected}");
}

#[track_caller]
fn same_when_simplified(program: &Program, inputs: &reference::Inputs<'_>) -> reference::Outputs {
    let simple = simplify(program.clone()).unwrap();
    let (plain, simple_outputs) = (reference::run(program, inputs).unwrap(), reference::run(&simple, inputs).unwrap());
    assert_eq!(plain, simple_outputs, "simplified, the program computes something else: {simple:#?}");
    let (before, after) = (work(program), work(&simple));
    assert!(after <= before, "simplified, the program evaluates {after} functions instead of {before}");
    simple_outputs
}

/// The epilogue must be linear: run on parts of the rows, its results add up.
#[track_caller]
fn same_from_parts(program: &Program, inputs: &reference::Inputs<'_>, chunk: usize) {
    let whole = reference::run(program, inputs).unwrap();
    let mut sums = vec![0.0; whole.parameter_gradient.len()];
    for row in 0..inputs.rows {
        let of = |rows: usize| row * chunk..(row + rows) * chunk;
        let part = reference::Inputs { rows: 1, x: &inputs.x[of(1)], target: &inputs.target[of(1)], ..*inputs };
        let part = reference::run(program, &part).unwrap();
        sums.iter_mut().zip(part.parameter_gradient).for_each(|(sum, part)| *sum += part);
    }
    for (sum, whole) in sums.iter().zip(&whole.parameter_gradient) {
        assert!((sum - whole).abs() <= 1e-12 * (1.0 + whole.abs()), "the parts add up to {sum}, the whole is {whole}");
    }
}

/// Functions evaluated for one seed and `ROWS` rows.
pub fn work(program: &Program) -> usize {
    let of = |steps: &[Step]| -> usize {
        let once = |step: &Step| step.shape.elements() * step.reduced.elements() * step.expression.functions();
        steps.iter().map(once).sum()
    };
    of(&program.prologue) + ROWS * (of(&program.body) + of(&program.accumulate)) + of(&program.epilogue)
}

fn integers(numbers: &[i64]) -> Attribute {
    Attribute::Integers(numbers.to_vec().into())
}

fn shaped(builder: &mut Builder, value: ValueId, shape: &[usize]) -> ValueId {
    builder.reshape(value, &Shape::new(shape))
}

#[test]
fn arithmetic_on_equal_shapes() {
    for operator in ["add", "sub", "mul", "div"] {
        check(6, &[&[6]], |builder, x, p| builder.apply(operator, &[x, p[0]], &[]));
        check(6, &[&[6]], |builder, x, p| builder.apply(operator, &[p[0], x], &[]));
    }
}

#[test]
fn arithmetic_broadcasts_both_ways() {
    for operator in ["add", "sub", "mul", "div"] {
        for shape in [&[][..], &[1], &[3, 1], &[2, 1, 1], &[1, 1, 4], &[4], &[5, 2, 3, 4]] {
            check(24, &[shape], |builder, x, p| {
                let x = shaped(builder, x, &[2, 3, 4]);
                builder.apply(operator, &[x, p[0]], &[])
            });
        }
        check(4, &[&[3, 1]], |builder, x, p| builder.apply(operator, &[p[0], x], &[]));
    }
}

#[test]
fn a_value_may_meet_itself() {
    for operator in ["add", "sub", "mul", "div"] {
        check(5, &[&[5]], |builder, x, p| {
            let twice = builder.apply(operator, &[x, x], &[]);
            builder.mul(twice, p[0])
        });
    }
}

#[test]
fn functions_of_one_number() {
    for operator in ["neg", "exp", "abs", "erf", "relu", "gelu", "silu", "tanh", "sigmoid"] {
        check(7, &[&[7]], |builder, x, p| {
            let x = builder.mul(x, p[0]);
            builder.apply(operator, &[x], &[])
        });
        check(1, &[&[2, 3]], |builder, x, p| {
            let f = builder.apply(operator, &[p[0]], &[]);
            builder.mul(f, x)
        });
    }
}

#[test]
fn functions_of_a_positive_number() {
    for operator in ["log", "sqrt", "rsqrt"] {
        check_at(
            7,
            &[&[7]],
            |number| number.abs() + 0.2,
            |builder, x, p| {
                let x = builder.mul(x, p[0]);
                builder.apply(operator, &[x], &[])
            },
        );
    }
}

#[test]
fn gelu_by_tanh() {
    let approximate = [("approximate", Attribute::Text("tanh".into()))];
    check(7, &[&[7]], |builder, x, p| {
        let x = builder.mul(x, p[0]);
        builder.apply("gelu", &[x], &approximate)
    });
}

#[test]
fn linear_with_and_without_a_bias() {
    check(5, &[&[3, 5]], |builder, x, p| builder.apply("linear", &[x, p[0]], &[]));
    check(5, &[&[3, 5], &[3]], |builder, x, p| builder.apply("linear", &[x, p[0], p[1]], &[]));
    check(1, &[&[1, 1], &[1]], |builder, x, p| builder.apply("linear", &[x, p[0], p[1]], &[]));
    check(24, &[&[5, 4], &[5]], |builder, x, p| {
        let x = shaped(builder, x, &[2, 3, 4]);
        builder.apply("linear", &[x, p[0], p[1]], &[])
    });
}

#[test]
fn linear_of_a_parameter_by_a_row() {
    check(6, &[&[4, 3], &[2]], |builder, x, p| {
        let weight = shaped(builder, x, &[2, 3]);
        builder.apply("linear", &[p[0], weight, p[1]], &[])
    });
}

#[test]
fn normalisations_with_and_without_parameters() {
    for (operator, most) in [("layer_norm", 3), ("rms_norm", 2)] {
        for count in 1..=most {
            check(6, &[&[6], &[6]], |builder, x, p| {
                let inputs: Vec<_> = [x].iter().chain(p).copied().take(count).collect();
                let y = builder.apply(operator, &inputs, &[("eps", Attribute::Float(1e-2))]);
                let y = builder.mul(y, p[0]);
                builder.mul(y, p[1])
            });
            check(12, &[&[4], &[4]], |builder, x, p| {
                let x = shaped(builder, x, &[3, 4]);
                let inputs: Vec<_> = [x].iter().chain(p).copied().take(count).collect();
                let y = builder.apply(operator, &inputs, &[]);
                let y = builder.mul(y, p[0]);
                builder.mul(y, p[1])
            });
        }
    }
}

#[test]
fn reductions_over_every_choice_of_axes() {
    for operator in ["sum", "mean", "max"] {
        for axes in [&[][..], &[0], &[1], &[-1], &[0, 2], &[2, 0], &[1, 2], &[0, 1, 2]] {
            for keep in [false, true] {
                check(24, &[&[2, 3, 4]], |builder, x, p| {
                    let x = shaped(builder, x, &[2, 3, 4]);
                    let x = builder.mul(x, p[0]);
                    builder.apply(operator, &[x], &[("axes", integers(axes)), ("keep", Attribute::Bool(keep))])
                });
            }
        }
    }
}

#[test]
fn softmax_along_every_axis() {
    for axis in [0, 1, -1] {
        check(24, &[&[2, 3, 4]], |builder, x, p| {
            let x = shaped(builder, x, &[2, 3, 4]);
            let x = builder.mul(x, p[0]);
            builder.apply("softmax", &[x], &[("axis", Attribute::Integer(axis))])
        });
    }
    check(4, &[&[4]], |builder, x, p| {
        let weights = builder.apply("softmax", &[p[0]], &[]);
        builder.mul(x, weights)
    });
}

#[test]
fn views_of_views_of_views() {
    check(24, &[&[4, 1, 6]], |builder, x, p| {
        let x = shaped(builder, x, &[2, 3, 4]);
        let x = builder.apply("permute", &[x], &[("axes", integers(&[2, 0, -2]))]);
        let x = shaped(builder, x, &[4, 6]);
        let x = builder.broadcast(x, &Shape::new([4, 4, 6]));
        let x = builder.mul(x, p[0]);
        let x = builder.apply("permute", &[x], &[("axes", integers(&[2, 1, 0]))]);
        let x = shaped(builder, x, &[3, 2, 8, 2]);
        builder.mul(x, x)
    });
}

#[test]
fn readers_that_cut_rows_of_another_length() {
    for (turned, cut) in [([3, 2], [2, 3]), ([4, 3], [2, 6]), ([4, 3], [6, 2])] {
        check(turned[0] * turned[1], &[&[cut[1]]], |builder, x, p| {
            let x = shaped(builder, x, &[turned[1], turned[0]]);
            let x = builder.apply("permute", &[x], &[("axes", integers(&[1, 0]))]);
            let x = builder.exp(x);
            let x = shaped(builder, x, &cut);
            builder.mul(x, p[0])
        });
    }
}

#[test]
fn choices_by_comparison() {
    for comparison in ["greater", "equal"] {
        check(12, &[&[4], &[3, 1], &[4]], |builder, x, p| {
            let x = shaped(builder, x, &[3, 4]);
            let condition = builder.apply(comparison, &[x, p[0]], &[]);
            let scaled = builder.mul(p[2], x);
            builder.select(condition, p[1], scaled)
        });
    }
}

#[test]
fn contractions_of_every_kind() {
    let cases: [(&str, &[usize], &[usize]); 9] = [
        ("ij,jk->ik", &[2, 6], &[6, 3]),
        ("ij,kj->ki", &[4, 3], &[2, 3]),
        ("bij,bjk->bik", &[2, 2, 3], &[2, 3, 4]),
        ("i,j->ij", &[12], &[3]),
        ("ij,ij->", &[3, 4], &[3, 4]),
        ("ij,ij->ji", &[3, 4], &[3, 4]),
        ("ij,k->k", &[3, 4], &[2]),
        ("ij,jk->", &[3, 4], &[4, 2]),
        ("i,->i", &[12], &[]),
    ];
    for (equation, first, second) in cases {
        check(12, &[second], |builder, x, p| {
            let x = shaped(builder, x, first);
            builder.einsum(equation, x, p[0])
        });
        check(12, &[second], |builder, x, p| {
            let x = shaped(builder, x, first);
            let p = builder.exp(p[0]);
            let product = builder.einsum(equation, x, p);
            builder.tanh(product)
        });
    }
}

#[test]
fn the_gradient_of_a_gradient() {
    check(4, &[&[3, 4], &[3]], |builder, x, p| {
        let y = builder.apply("linear", &[x, p[0], p[1]], &[]);
        let y = builder.apply("gelu", &[y], &[]);
        let y = builder.sum(y, &[0], false);
        let one = builder.constant(1.0);
        differentiate(builder, y, one, &[x])[0].unwrap()
    });
}

#[test]
fn a_network_of_many_operators() {
    check(8, &[&[8], &[8], &[5, 8], &[5], &[8, 5], &[]], |builder, x, p| {
        let normal = builder.apply("layer_norm", &[x, p[0], p[1]], &[]);
        let hidden = builder.apply("linear", &[normal, p[2], p[3]], &[]);
        let hidden = builder.apply("gelu", &[hidden], &[("approximate", Attribute::Text("tanh".into()))]);
        let back = builder.apply("linear", &[hidden, p[4]], &[]);
        let gate = builder.sigmoid(p[5]);
        let back = builder.mul(back, gate);
        let attention = builder.apply("softmax", &[back], &[]);
        let mixed = builder.mul(attention, x);
        builder.add(mixed, back)
    });
}

#[test]
fn one_weight_used_twice() {
    check(4, &[&[4, 4]], |builder, x, p| {
        let once = builder.apply("linear", &[x, p[0]], &[]);
        let once = builder.tanh(once);
        builder.apply("linear", &[once, p[0]], &[])
    });
}

fn integer(number: i64) -> Attribute {
    Attribute::Integer(number)
}

#[test]
fn products_of_matrices_and_batches() {
    let cases: [(&[usize], &[usize]); 7] = [
        (&[3, 4], &[4, 2]),
        (&[12], &[12]),
        (&[12], &[12, 2]),
        (&[3, 4], &[4]),
        (&[2, 2, 3], &[3, 2]),
        (&[3, 4], &[2, 4, 2]),
        (&[2, 1, 2, 3], &[3, 3, 2]),
    ];
    for (first, second) in cases {
        check(12, &[second], |builder, x, p| {
            let x = shaped(builder, x, first);
            let product = builder.apply("matmul", &[x, p[0]], &[]);
            builder.tanh(product)
        });
    }
    check(6, &[&[4, 3]], |builder, x, p| {
        let x = shaped(builder, x, &[3, 2]);
        builder.apply("matmul", &[p[0], x], &[])
    });
}

#[test]
fn parts_put_together_again() {
    check(12, &[&[2, 1]], |builder, x, p| {
        let x = shaped(builder, x, &[2, 6]);
        let odd = [("start", integer(1)), ("step", integer(2))];
        let odd = builder.apply("slice", &[x], &odd);
        let part = builder.apply("split", &[x], &[("parts", integer(2)), ("index", integer(1))]);
        let product = builder.mul(odd, part);
        let whole = builder.apply("concat", &[product, p[0], x], &[]);
        let wide =
            [("axis", integer(0)), ("before", integer(1)), ("behind", integer(2)), ("value", Attribute::Float(0.5))];
        let wide = builder.apply("pad", &[whole], &wide);
        let turned = builder.permute(wide, &[1, 0]);
        builder.mul(turned, turned)
    });
}

#[test]
fn convolutions_of_rows_and_channels() {
    for padding in ["causal", "same", "valid"] {
        for dilation in [1, 2] {
            let attributes = [("padding", Attribute::Text(padding.into())), ("dilation", integer(dilation))];
            check(12, &[&[3, 2, 3], &[3]], |builder, x, p| {
                let x = shaped(builder, x, &[2, 6]);
                builder.apply("conv1d", &[x, p[0], p[1]], &attributes)
            });
            check(8, &[&[3], &[]], |builder, x, p| builder.apply("conv1d", &[x, p[0], p[1]], &attributes));
        }
    }
    check(12, &[&[2]], |builder, x, p| {
        let x = shaped(builder, x, &[3, 4]);
        let windows = [("axis", integer(0)), ("size", integer(2))];
        let windows = builder.apply("unfold", &[x], &windows);
        builder.mul(windows, p[0])
    });
}

#[test]
fn gated_rotated_grouped_and_narrow_layers() {
    for activation in ["sigmoid", "gelu", "silu", "relu", "identity"] {
        check(8, &[&[8]], |builder, x, p| {
            let x = builder.mul(x, p[0]);
            builder.apply("glu", &[x], &[("activation", Attribute::Text(activation.into()))])
        });
    }
    for interleaved in [false, true] {
        check(12, &[&[3, 4]], |builder, x, p| {
            let x = shaped(builder, x, &[3, 4]);
            let x = builder.mul(x, p[0]);
            builder.apply(
                "rope",
                &[x],
                &[("interleaved", Attribute::Bool(interleaved)), ("base", Attribute::Float(50.0))],
            )
        });
    }
    check(12, &[&[4], &[4]], |builder, x, p| {
        let x = shaped(builder, x, &[4, 3]);
        builder.apply("group_norm", &[x, p[0], p[1]], &[("groups", integer(2)), ("eps", Attribute::Float(0.1))])
    });
    check(6, &[&[2, 6], &[5, 2], &[5]], |builder, x, p| builder.apply("low_rank_linear", &[x, p[0], p[1], p[2]], &[]));
}

#[test]
fn the_chosen_and_the_largest() {
    for operator in ["maximum", "minimum"] {
        check(12, &[&[4]], |builder, x, p| {
            let x = shaped(builder, x, &[3, 4]);
            builder.apply(operator, &[x, p[0]], &[])
        });
    }
    for axis in [0, 1] {
        check(12, &[&[12]], |builder, x, p| {
            let x = builder.mul(x, p[0]);
            let x = shaped(builder, x, &[3, 4]);
            let values = builder.apply("top_k", &[x], &[("axis", integer(axis)), ("k", integer(2))]);
            builder.mul(values, values)
        });
    }
    check(12, &[&[12]], |builder, x, p| {
        let x = builder.mul(x, p[0]);
        builder.apply("min", &[x], &[])
    });
}

#[test]
fn powers_and_circles() {
    check_at(6, &[&[6]], |number| number.abs() + 0.2, |builder, x, p| builder.apply("pow", &[x, p[0]], &[]));
    for operator in ["sin", "cos"] {
        check(6, &[&[6]], |builder, x, p| {
            let x = builder.mul(x, p[0]);
            builder.apply(operator, &[x], &[])
        });
    }
}

/// An operator made of others given one value twice: each of the two gets its share once.
#[test]
fn one_value_as_two_inputs_of_an_operator_made_of_others() {
    check(4, &[&[4]], |builder, x, p| {
        let x = builder.mul(x, p[0]);
        builder.apply("conv1d", &[x, x], &[])
    });
    check(4, &[&[4]], |builder, x, p| {
        let square = shaped(builder, p[0], &[2, 2]);
        let x = shaped(builder, x, &[2, 2]);
        builder.apply("low_rank_linear", &[x, square, square], &[])
    });
}
