//! Every field alone changes the key.

use crate::samples::{class, program};
use kasmina::compile::*;
use kasmina::graph::{DataType, RowInput, Scalar, Shape};
use kasmina::store::Key;

fn key_of(class: &KernelClass) -> Key {
    Key::new(class, Architecture::Cuda(90), "generator", "compiler").unwrap()
}

#[test]
fn equal_content_gives_equal_keys() {
    let (one, other) = (key_of(&class(64)), key_of(&class(64)));
    assert_eq!(one, other);
    assert_eq!(one.digest(), other.digest());
    assert_eq!(one.to_string().len(), 64);
    assert_eq!(one.digest(), blake3::hash(one.preimage()).as_bytes());
}

#[test]
fn every_field_of_a_class_changes_the_key() {
    type Change = fn(&mut KernelClass);
    let changes: [(&str, Change); 29] = [
        ("pass", |class| class.pass = Pass::Train),
        ("data type", |class| class.data_type = DataType::BF16),
        ("chunk", |class| class.chunk += 1),
        ("no programs", |class| class.programs.clear()),
        ("one more program", |class| class.programs.push(program(64))),
        ("a frozen program", |class| class.frozen.push(program(64))),
        ("frozen instead of not", |class| std::mem::swap(&mut class.programs, &mut class.frozen)),
        ("program chunk", |class| class.programs[0].chunk = 32),
        ("elements of a value", |class| class.programs[0].values[1].elements = 63),
        ("type of a value", |class| class.programs[0].values[1].data_type = DataType::Bool),
        ("uniform value", |class| class.programs[0].values[1].per_row = false),
        ("row input", |class| class.programs[0].values[0].source = Source::Row(RowInput::Target)),
        ("parameter", |class| class.programs[0].values[0].source = Source::Parameter(0)),
        ("parameter offset", |class| class.programs[0].values[0].source = Source::Parameter(1)),
        ("scalar", |class| class.programs[0].values[0].source = Source::Scalar(Scalar::Alpha)),
        ("step in the prologue", |class| {
            let step = class.programs[0].body.remove(0);
            class.programs[0].prologue.push(step);
        }),
        ("step in accumulate", |class| {
            let step = class.programs[0].body.remove(0);
            class.programs[0].accumulate.push(step);
        }),
        ("step in the epilogue", |class| {
            let step = class.programs[0].body.remove(0);
            class.programs[0].epilogue.push(step);
        }),
        ("result of a step", |class| class.programs[0].body[0].result = ValueId(0)),
        ("shape of a step", |class| class.programs[0].body[0].shape = Shape::new([8, 8])),
        ("reduced shape", |class| class.programs[0].body[0].reduced = Shape::new([1])),
        ("reducer", |class| class.programs[0].body[0].reducer = Reducer::Max),
        ("operand", |class| class.programs[0].body[0].operands[0].value = ValueId(1)),
        ("offset", |class| class.programs[0].body[0].operands[0].offset = 1),
        ("stride", |class| class.programs[0].body[0].operands[0].strides[0] = 0),
        ("expression", |class| class.programs[0].body[0].expression = Expression::Operand(0)),
        ("output", |class| class.programs[0].outputs[0].target = Destination::AlphaGradient),
        ("guards", |class| class.programs[0].guards.clear()),
        ("fallback", |class| class.programs[0].fallback = RowInput::OutputGradient),
    ];
    let mut keys = vec![("unchanged", key_of(&class(64)))];
    for (name, change) in changes {
        let mut changed = class(64);
        change(&mut changed);
        let key = key_of(&changed);
        for (other, seen) in &keys {
            assert_ne!(seen.digest(), key.digest(), "{name} gives the key of {other}");
        }
        keys.push((name, key));
    }
}

#[test]
fn constants_that_differ_in_one_bit_change_the_key() {
    let numbers = [0.0, -0.0, 0.5, f64::from_bits(0.5f64.to_bits() + 1), f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
    let keys: Vec<Key> = numbers
        .map(|number| {
            let mut class = class(64);
            class.programs[0].body[0].expression = Expression::Constant(number);
            key_of(&class)
        })
        .into();
    for (position, key) in keys.iter().enumerate() {
        assert!(!keys[..position].contains(key), "{} has the key of another number", numbers[position]);
    }
}

#[test]
fn architecture_and_versions_each_change_the_key() {
    let class = class(64);
    let of = |architecture, generator, compiler| Key::new(&class, architecture, generator, compiler).unwrap();
    let keys = [
        of(Architecture::Cpu, "1", "2"),
        of(Architecture::Cuda(80), "1", "2"),
        of(Architecture::Cuda(90), "1", "2"),
        of(Architecture::Cuda(90), "2", "2"),
        of(Architecture::Cuda(90), "1", "3"),
        // Where one version ends and the next begins counts as well.
        of(Architecture::Cuda(90), "12", ""),
        of(Architecture::Cuda(90), "", "12"),
    ];
    for (position, key) in keys.iter().enumerate() {
        assert!(!keys[..position].contains(key), "key {position} is that of another");
    }
}
