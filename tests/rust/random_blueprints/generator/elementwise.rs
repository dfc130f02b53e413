//! Calls that work element by element, with broadcasting.

use super::growth::{Growth, Kind, Value};
use serde_json::{Value as Json, json};

/// A function of one number, on a value in its domain.
pub fn unary(growth: &mut Growth, name: &str) -> Option<Value> {
    let a = growth.number()?;
    if matches!(name, "abs" | "relu") && !growth.take_kink() {
        return None;
    }
    let a = match name {
        "exp" if a.largest() > 3.0 => squash(growth, &a),
        "log" | "sqrt" | "rsqrt" => positive(growth, &a),
        _ => a,
    };
    let (low, high) = image(name, a.low, a.high);
    Some(growth.call(name, &[&a], Json::Null, &a.shape, low, high))
}

/// Within what the function keeps an interval.
fn image(name: &str, low: f64, high: f64) -> (f64, f64) {
    let rising = |function: fn(f64) -> f64| (function(low), function(high));
    match name {
        "neg" => (-high, -low),
        "exp" => rising(f64::exp),
        "log" => rising(f64::ln),
        "sqrt" => rising(f64::sqrt),
        "rsqrt" => (1.0 / high.sqrt(), 1.0 / low.sqrt()),
        "abs" => (0.0, low.abs().max(high.abs())),
        "relu" => (low.max(0.0), high.max(0.0)),
        "silu" => (low.clamp(-0.3, 0.0), high.max(0.0)),
        "sigmoid" => (0.0, 1.0),
        "tanh" | "erf" | "sin" | "cos" => (-1.0, 1.0),
        _ => (low, high),
    }
}

pub fn gelu(growth: &mut Growth) -> Option<Value> {
    let a = growth.number()?;
    let attributes = growth.choices.pick(&[Json::Null, json!({"approximate": "tanh"}), json!({"approximate": "none"})]);
    Some(growth.call("gelu", &[&a], attributes, &a.shape, a.low.clamp(-0.2, 0.0), a.high.max(0.0)))
}

/// `+ - *` of two values that broadcast.
pub fn binary(growth: &mut Growth, name: &str) -> Option<Value> {
    let a = growth.number()?;
    let (b, shape) = partner(growth, &a)?;
    let (a, b) = if growth.choices.once_in(2) { (b, a) } else { (a, b) };
    let (low, high) = match name {
        "add" => (a.low + b.low, a.high + b.high),
        "sub" => (a.low - b.high, a.high - b.low),
        _ => product(&a, &b),
    };
    Some(growth.call(name, &[&a, &b], Json::Null, &shape, low, high))
}

pub fn div(growth: &mut Growth) -> Option<Value> {
    let a = growth.number()?;
    let (b, shape) = partner(growth, &a)?;
    let mut b = positive(growth, &b);
    if growth.choices.once_in(3) {
        b = growth.call("neg", &[&b], Json::Null, &b.shape, -b.high, -b.low);
    }
    let inverse = Value { low: 1.0 / b.high, high: 1.0 / b.low, ..b.clone() };
    let (low, high) = product(&a, &inverse);
    Some(growth.call("div", &[&a, &b], Json::Null, &shape, low, high))
}

pub fn constant(growth: &mut Growth) -> Option<Value> {
    let number = growth.choices.pick(&[1.0, 0.0, -1.0, 2.0, 0.5, -0.0, 0.1, -3.75, 1e-3, 7.0]);
    let constant = growth.constant(number);
    let a = growth.number()?;
    let (low, high) = (a.low + constant.low, a.high + constant.low);
    Some(growth.call("add", &[&a, &constant], Json::Null, &a.shape, low, high))
}

/// A comparison whose answer rounding cannot turn: of exact values, or with a number that nothing is likely to hit.
pub fn compare(growth: &mut Growth, name: &str) -> Option<Value> {
    if !growth.take_kink() {
        return None;
    }
    let a = growth.number()?;
    let own = |growth: &mut Growth| {
        let between = a.low + (a.high - a.low) * 0.618;
        let number = growth.choices.pick(&[between, 0.377, -0.251]);
        (growth.constant(number), a.shape.clone())
    };
    let (b, shape) = if a.exact && growth.choices.once_in(2) {
        growth.value(|b| b.is_number() && b.exact && broadcast(&a.shape, &b.shape).is_some()).and_then(|b| {
            let shape = broadcast(&a.shape, &b.shape)?;
            Some((b, shape))
        })?
    } else {
        own(growth)
    };
    if !growth.has_room(shape.iter().product()) {
        return None;
    }
    let (a, b) = if growth.choices.once_in(3) { (b, a) } else { (a, b) };
    Some(growth.node(name, &[&a, &b], Json::Null, &shape, Kind::Truth, 0.0, 1.0))
}

pub fn choose(growth: &mut Growth) -> Option<Value> {
    let condition = truth(growth)?;
    let a = growth.value(|a| a.is_number() && broadcast(&a.shape, &condition.shape).is_some())?;
    let both = Value { shape: broadcast(&a.shape, &condition.shape)?, ..a.clone() };
    let (b, shape) = partner(growth, &both)?;
    let (a, b) = if growth.choices.once_in(2) { (b, a) } else { (a, b) };
    let (low, high) = (a.low.min(b.low), a.high.max(b.high));
    Some(growth.call("where", &[&condition, &a, &b], Json::Null, &shape, low, high))
}

/// A second operand, and the shape both come to.
pub fn partner(growth: &mut Growth, a: &Value) -> Option<(Value, Vec<usize>)> {
    let b = match growth.choices.below(8) {
        0..=2 => growth.value(|b| b.is_number() && broadcast(&a.shape, &b.shape).is_some())?,
        3 => growth.parameter(&a.shape, -1.0, 1.0),
        4 => {
            let last: Vec<usize> = a.shape.last().copied().into_iter().collect();
            growth.parameter(&last, -1.0, 1.0)
        }
        5 => growth.parameter(&[], 0.25, 1.25),
        6 => {
            // One axis repeats.
            let mut shape = a.shape.clone();
            if !shape.is_empty() {
                let axis = growth.choices.below(shape.len());
                shape[axis] = 1;
            }
            growth.parameter(&shape, -1.0, 1.0)
        }
        _ => {
            let mut shape = vec![growth.choices.pick(&[1, 2, 3])];
            shape.extend(&a.shape);
            if shape.len() > 5 || !growth.has_room(shape.iter().product()) {
                shape.remove(0);
            }
            growth.parameter(&shape, -1.5, 0.5)
        }
    };
    let shape = broadcast(&a.shape, &b.shape)?;
    growth.has_room(shape.iter().product()).then_some((b, shape))
}

/// The interval of a product.
pub fn product(a: &Value, b: &Value) -> (f64, f64) {
    let corners = [a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high];
    (corners.iter().copied().fold(f64::INFINITY, f64::min), corners.iter().copied().fold(f64::NEG_INFINITY, f64::max))
}

/// Something of the value between -1 and 1.
pub fn squash(growth: &mut Growth, a: &Value) -> Value {
    growth.call("tanh", &[a], Json::Null, &a.shape, -1.0, 1.0)
}

/// Something of the value that is at least 0.25.
pub fn positive(growth: &mut Growth, a: &Value) -> Value {
    if a.low >= 0.25 {
        return a.clone();
    }
    let (root, low, high) = if a.largest() <= 3.0 && growth.choices.once_in(2) {
        (
            growth.call("mul", &[a, a], Json::Null, &a.shape, 0.0, a.largest() * a.largest()),
            0.5,
            a.largest().powi(2) + 0.5,
        )
    } else {
        (growth.call("sigmoid", &[a], Json::Null, &a.shape, 0.0, 1.0), 0.5, 1.5)
    };
    let half = growth.constant(0.5);
    growth.call("add", &[&root, &half], Json::Null, &a.shape, low, high)
}

/// The shape that two shapes broadcast to.
pub fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| (axis + shape.len()).checked_sub(rank).map_or(1, |own| shape[own]);
    (0..rank)
        .map(|axis| match (size(a, axis), size(b, axis)) {
            (a, b) if a == b || b == 1 => Some(a),
            (1, b) => Some(b),
            _ => None,
        })
        .collect()
}

/// The larger or the smaller of two values.
pub fn extreme(growth: &mut Growth, name: &str) -> Option<Value> {
    if !growth.take_kink() {
        return None;
    }
    let a = growth.number()?;
    let (b, shape) = partner(growth, &a)?;
    let (low, high) = match name {
        "maximum" => (a.low.max(b.low), a.high.max(b.high)),
        _ => (a.low.min(b.low), a.high.min(b.high)),
    };
    Some(growth.call(name, &[&a, &b], Json::Null, &shape, low, high))
}

pub fn pow(growth: &mut Growth) -> Option<Value> {
    let a = growth.number()?;
    let base = positive(growth, &a);
    let power = growth.parameter(&[], -0.5, 1.5);
    let corners = [base.low, base.high].map(|base| [base.powf(power.low), base.powf(power.high)]).concat();
    let low = corners.iter().copied().fold(f64::INFINITY, f64::min);
    let high = corners.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Some(growth.call("pow", &[&base, &power], Json::Null, &base.shape, low.min(1.0), high.max(1.0)))
}

/// Whole numbers below something that nothing is likely to make whole.
pub fn floor(growth: &mut Growth) -> Option<Value> {
    if !growth.take_kink() {
        return None;
    }
    let a = growth.value(|value| value.is_number() && value.exact)?;
    let (factor, shift) = (growth.constant(0.618_033_9), growth.constant(0.377_123_4));
    let (low, high) = product(&a, &factor);
    let scaled = growth.call("mul", &[&a, &factor], Json::Null, &a.shape, low, high);
    let (low, high) = (scaled.low + shift.low, scaled.high + shift.low);
    let shifted = growth.call("add", &[&scaled, &shift], Json::Null, &a.shape, low, high);
    Some(growth.call("floor", &[&shifted], Json::Null, &a.shape, low.floor(), high.floor()))
}

/// Truth values of truth values.
pub fn logical(growth: &mut Growth, name: &str) -> Option<Value> {
    let a = truth(growth)?;
    if name == "logical_not" {
        return Some(growth.node(name, &[&a], Json::Null, &a.shape, Kind::Truth, 0.0, 1.0));
    }
    let b = growth.value(|b| b.kind == Kind::Truth && broadcast(&a.shape, &b.shape).is_some())?;
    let shape = broadcast(&a.shape, &b.shape)?;
    let has_room = growth.has_room(shape.iter().product());
    has_room.then(|| growth.node(name, &[&a, &b], Json::Null, &shape, Kind::Truth, 0.0, 1.0))
}

/// A choice between two values, each seen as its branch sees it.
pub fn taken(growth: &mut Growth) -> Option<Value> {
    let condition = truth(growth)?;
    let a = growth.value(|a| a.is_number() && broadcast(&a.shape, &condition.shape).is_some())?;
    let shape = broadcast(&a.shape, &condition.shape)?;
    if !growth.has_room(3 * shape.iter().product::<usize>()) {
        return None;
    }
    let before = growth.count();
    let mut branch = |when: bool, op: &str| {
        let seen = growth.call("taken", &[&condition, &a], json!({"when": when}), &shape, a.low, a.high);
        let (low, high) = image(op, a.low, a.high);
        growth.call(op, &[&seen], Json::Null, &shape, low, high)
    };
    let (one, other) = (branch(true, "tanh"), branch(false, "silu"));
    // Outside of its branch, the gradient of what was taken is not its slope.
    growth.hide_after(before);
    let (low, high) = (one.low.min(other.low), one.high.max(other.high));
    Some(growth.call("where", &[&condition, &one, &other], Json::Null, &shape, low, high))
}

fn truth(growth: &mut Growth) -> Option<Value> {
    match growth.value(|value| value.kind == Kind::Truth) {
        Some(truth) => Some(truth),
        None => compare(growth, "greater"),
    }
}
