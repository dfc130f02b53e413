//! Calls that make no sense, and attributes that somebody wrote to do harm: refused in a sentence that says why.

use kasmina::Status;
use kasmina::graph::{Attribute, Attributes, Builder, DataType, RowInput, Shape, ValueId};

/// Values to call operators on.
struct Given {
    builder: Builder,
    row: ValueId,
    matrix: ValueId,
    cube: ValueId,
    number: ValueId,
    truth: ValueId,
    whole: ValueId,
    long: ValueId,
    taps: ValueId,
}

fn given() -> Given {
    let mut builder = Builder::new();
    let row = builder.row(RowInput::X, 6);
    let matrix = builder.reshape(row, &Shape::new([2, 3]));
    let cube = builder.reshape(row, &Shape::new([1, 2, 3]));
    let number = builder.constant(2.0);
    let truth = builder.greater(row, number);
    let whole = builder.cast(row, DataType::I32);
    let long = builder.parameter(0, "long", Shape::new([1 << 20]));
    let taps = builder.parameter(1, "taps", Shape::new([65]));
    Given { builder, row, matrix, cube, number, truth, whole, long, taps }
}

fn integer(number: i64) -> Attribute {
    Attribute::Integer(number)
}

fn float(number: f64) -> Attribute {
    Attribute::Float(number)
}

fn text(word: &'static str) -> Attribute {
    Attribute::Text(word.into())
}

#[test]
fn calls_that_make_no_sense_are_refused_with_the_reason() {
    let Given { mut builder, row, matrix, cube, number, truth, whole, long, taps } = given();
    let most = i64::from(i32::MAX);
    type Case<'a> = (&'a str, Vec<ValueId>, Vec<(&'a str, Attribute)>, &'a str);
    let cases: Vec<Case<'_>> = vec![
        ("add", vec![row, whole], vec![], "input 1 is i32, but the first is f32; `cast` one of them"),
        ("div", vec![whole, whole], vec![], "input 0 is i32, not a number (f32); `cast` it"),
        ("exp", vec![truth], vec![], "input 0 is bool"),
        ("pow", vec![whole, whole], vec![], "input 0 is i32"),
        ("mean", vec![whole], vec![], "input 0 is i32"),
        ("sum", vec![truth], vec![], "input 0 is bool"),
        ("less", vec![truth, truth], vec![], "input 0 is bool"),
        ("logical_and", vec![truth, row], vec![], "input 1 is f32, not a truth value (bool)"),
        ("logical_not", vec![whole], vec![], "input 0 is i32"),
        ("where", vec![row, row, row], vec![], "the condition is f32"),
        ("where", vec![truth, row, whole], vec![], "choose between f32 and i32"),
        ("taken", vec![row, row], vec![], "the condition is f32"),
        ("matmul", vec![row, number], vec![], "at least one axis"),
        ("matmul", vec![matrix, matrix], vec![], "3 elements of the first and 2 of the second"),
        ("matmul", vec![long, row], vec![], "would sum over 1048576 elements"),
        ("low_rank_linear", vec![row, matrix, matrix], vec![], "does not go through"),
        ("low_rank_linear", vec![row, row, matrix], vec![], "they must be [.., in], [rank, in] and [out, rank]"),
        ("group_norm", vec![row], vec![("groups", integer(4))], "6 channels cannot be cut into 4 equal groups"),
        ("group_norm", vec![row], vec![("groups", integer(0))], "`groups` is 0; it must be 1 to 6"),
        ("group_norm", vec![row], vec![("groups", integer(2)), ("eps", float(-1.0))], "`eps` is -1"),
        ("group_norm", vec![number], vec![("groups", integer(1))], "no channels"),
        ("group_norm", vec![matrix, row], vec![("groups", integer(1))], "the weight has shape [6]"),
        ("glu", vec![matrix], vec![], "axis 1 of [2, 3] has no halves"),
        ("glu", vec![row], vec![("activation", text("exp"))], "`activation` is \"exp\""),
        ("glu", vec![number], vec![], "0 dimensions"),
        ("rope", vec![row], vec![], "[.., positions, n] with an even n"),
        ("rope", vec![matrix], vec![], "with an even n"),
        ("rope", vec![row], vec![("base", float(0.0))], "`base` is 0; it must be more than 0"),
        ("top_k", vec![row], vec![("k", integer(7))], "`k` is 7; it must be 1 to 6"),
        ("top_k", vec![row], vec![("k", integer(-1))], "`k` is -1"),
        ("top_k", vec![row], vec![("k", integer(1)), ("output", text("both"))], "`output` is \"both\""),
        ("top_k", vec![long], vec![("k", integer(1))], "pairs for each row; at most"),
        ("top_k", vec![number], vec![("k", integer(1))], "0 dimensions"),
        ("conv1d", vec![row, taps], vec![], "65 taps; at most 64"),
        ("conv1d", vec![row, matrix], vec![], "they must be [in, length] and [out, in, taps]"),
        ("conv1d", vec![row, row], vec![("padding", text("full"))], "`padding` is \"full\""),
        ("conv1d", vec![row, row], vec![("dilation", integer(0))], "`dilation` is 0"),
        ("conv1d", vec![row, row], vec![("dilation", integer(most))], "`dilation` is 2147483647; it must be 1 to 6"),
        (
            "conv1d",
            vec![row, row],
            vec![("padding", text("valid")), ("dilation", integer(2))],
            "reach over 11 elements",
        ),
        ("conv1d", vec![row, row, row], vec![], "the bias has shape [6]"),
        ("unfold", vec![row], vec![("size", integer(65))], "`size` is 65; it must be 1 to 64"),
        ("unfold", vec![row], vec![("size", integer(4)), ("dilation", integer(2))], "reaches over 7 elements"),
        ("slice", vec![row], vec![("start", integer(6))], "it leaves nothing: elements 6 to before 6 of an axis of 6"),
        ("slice", vec![row], vec![("start", integer(-most)), ("stop", integer(-most))], "it leaves nothing"),
        ("slice", vec![row], vec![("step", integer(0))], "`step` is 0"),
        ("slice", vec![row], vec![("step", integer(-1))], "`step` is -1"),
        ("slice", vec![row], vec![("axis", integer(1))], "names axis 1 of a value with 1 dimensions"),
        ("slice", vec![number], vec![], "0 dimensions"),
        ("split", vec![row], vec![("parts", integer(4)), ("index", integer(0))], "cannot be cut into 4 equal parts"),
        ("split", vec![row], vec![("parts", integer(3)), ("index", integer(3))], "`index` is 3; it must be 0 to 2"),
        ("split", vec![row], vec![("parts", integer(0)), ("index", integer(0))], "`parts` is 0"),
        ("concat", vec![row, whole], vec![], "input 1 is i32"),
        ("concat", vec![matrix, cube], vec![], "only axis 1 may differ"),
        ("concat", vec![number, number], vec![], "0 dimensions"),
        ("concat", vec![row], vec![], "takes 2 to 16 inputs, not 1"),
        ("concat", vec![row; 17], vec![], "takes 2 to 16 inputs, not 17"),
        ("pad", vec![row], vec![("before", integer(-1))], "`before` is -1"),
        ("pad", vec![truth], vec![("before", integer(1))], "input 0 is bool"),
        (
            "pad",
            vec![whole],
            vec![("before", integer(1)), ("value", float(0.5))],
            "`value` is 0.5, and the input is i32",
        ),
        ("index", vec![], vec![("count", integer(0))], "`count` is 0"),
        ("index", vec![], vec![("count", integer(most))], "`count` is 2147483647"),
        ("cast", vec![row], vec![("type", text("u8"))], "`type` is \"u8\""),
        ("dropout", vec![row], vec![("p", float(1.5))], "`p` is 1.5; it must be 0 to 1"),
        ("dropout", vec![whole], vec![], "input 0 is i32"),
    ];
    for (operator, inputs, attributes, reason) in cases {
        let attributes: Attributes = attributes.into_iter().map(|(name, value)| (name.into(), value)).collect();
        let error = builder.call(operator, &inputs, attributes.clone()).unwrap_err();
        assert_eq!(error.status(), Status::InvalidBlueprint, "`{operator}` {attributes:?}: {error}");
        assert!(error.to_string().contains(reason), "`{error}` does not say `{reason}`");
    }
}

#[test]
fn results_over_the_limits_are_refused() {
    let Given { mut builder, row, long, .. } = given();
    let most = 1 << 22;
    let attribute = |name: &str, value: i64| Attributes::from([(String::from(name), integer(value))]);
    let six = builder.reshape(row, &Shape::new([1, 1, 1, 1, 1, 6]));
    let cases = [
        ("pad", vec![row], attribute("before", most), "more than 4194304 elements"),
        ("concat", vec![long; 5], Attributes::new(), "more than 4194304 elements"),
        ("unfold", vec![long], attribute("size", 64), "more than 4194304 elements"),
        ("unfold", vec![six], attribute("size", 2), "7 dimensions; at most 6"),
    ];
    for (operator, inputs, attributes, reason) in cases {
        let error = builder.call(operator, &inputs, attributes).unwrap_err();
        assert_eq!(error.status(), Status::BlueprintTooLarge, "`{operator}`: {error}");
        assert!(error.to_string().contains(reason), "`{error}` does not say `{reason}`");
    }
}

/// One form for calls that mean the same, so that they hash alike.
#[test]
fn attributes_that_mean_the_same_are_one() {
    let Given { mut builder, matrix, cube, .. } = given();
    type Named<'a> = &'a [(&'a str, i64)];
    let pairs: [(&str, ValueId, Named<'_>, Named<'_>); 6] = [
        ("slice", matrix, &[("axis", -1), ("start", -2)], &[("axis", 1), ("start", 1), ("stop", 3), ("step", 1)]),
        ("slice", matrix, &[("axis", 1), ("start", 2), ("step", 5)], &[("start", 2), ("stop", 3)]),
        ("slice", matrix, &[("stop", 3), ("step", 2)], &[("stop", 100), ("step", 2)]),
        ("split", cube, &[("axis", -1), ("parts", 3), ("index", 1)], &[("axis", 2), ("parts", 3), ("index", 1)]),
        ("unfold", cube, &[("axis", -2), ("size", 2)], &[("axis", 1), ("size", 2), ("dilation", 1)]),
        ("pad", cube, &[("axis", -3), ("before", 1)], &[("axis", 0), ("before", 1), ("value", 0)]),
    ];
    for (operator, input, one, other) in pairs {
        let mut found = |attributes: &[(&str, i64)]| {
            let attributes = attributes.iter().map(|(name, value)| (String::from(*name), integer(*value))).collect();
            let value = builder.call(operator, &[input], attributes).unwrap();
            match &builder.node(value).source {
                kasmina::graph::Source::Operator { attributes, .. } => attributes.clone(),
                _ => unreachable!(),
            }
        };
        assert_eq!(found(one), found(other), "`{operator}`");
    }
}
