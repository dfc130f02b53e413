//! A blueprint that grows: its values, within what bounds they stay, and how they end up in one output.

use super::choices::Choices;
use serde_json::{Value as Json, json};

/// What the elements of a number stay within.
pub const LARGEST: f64 = 100.0;
/// Elements of one value, at most, and of all together.
const ELEMENTS: usize = 4096;
const ALL_ELEMENTS: usize = 60_000;

/// What a value holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Number,
    Truth,
}

/// A value of the graph.
#[derive(Clone, Debug)]
pub struct Value {
    pub name: String,
    pub shape: Vec<usize>,
    pub kind: Kind,
    /// What its elements lie between.
    pub low: f64,
    pub high: f64,
    /// Whether its elements are those of x, of a parameter or a constant: the same on every device.
    pub exact: bool,
    pub per_row: bool,
}

impl Value {
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    pub fn largest(&self) -> f64 {
        self.low.abs().max(self.high.abs())
    }

    pub fn is_number(&self) -> bool {
        self.kind == Kind::Number
    }
}

/// A blueprint under construction.
pub struct Growth<'a> {
    pub choices: Choices<'a>,
    pub chunk: usize,
    /// x, parameters and nodes, in the order in which they came.
    values: Vec<Value>,
    used: Vec<String>,
    parameters: Vec<Json>,
    nodes: Vec<Json>,
    elements: usize,
    /// Kinks and steps that may still be put in.
    kinks: usize,
    /// Whether calls prefer the latest values, which makes deep graphs.
    deep: bool,
}

impl<'a> Growth<'a> {
    pub fn new(mut choices: Choices<'a>) -> Self {
        let chunk = choices.pick(&[4, 1, 2, 3, 5, 6, 7, 8, 9, 12, 16, 17, 24, 31, 32, 33, 48, 60, 64, 100]);
        let x = Value {
            name: "x".into(),
            shape: vec![chunk],
            kind: Kind::Number,
            low: -2.0,
            high: 2.0,
            exact: true,
            per_row: true,
        };
        let deep = choices.once_in(2);
        let (used, parameters, nodes) = (Vec::new(), Vec::new(), Vec::new());
        Self { choices, chunk, values: vec![x], used, parameters, nodes, elements: chunk, kinks: 4, deep }
    }

    /// How many calls to make.
    pub fn steps(&mut self) -> usize {
        1 + self.choices.pick(&[0, 1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 24])
    }

    /// A value for which the predicate holds; a constant only where a call asks for one.
    pub fn value(&mut self, fits: impl Fn(&Value) -> bool) -> Option<Value> {
        let fitting: Vec<&Value> =
            self.values.iter().rev().filter(|value| value.low < value.high && fits(value)).collect();
        let near = if self.deep { fitting.len().min(2) } else { fitting.len().min(256) };
        (near > 0).then(|| fitting[self.choices.below(near)].clone())
    }

    /// A value of numbers.
    pub fn number(&mut self) -> Option<Value> {
        self.value(Value::is_number)
    }

    /// A new parameter of this shape, between these bounds.
    pub fn parameter(&mut self, shape: &[usize], low: f64, high: f64) -> Value {
        let name = format!("p{}", self.parameters.len());
        let initializer = json!({"uniform": {"low": low, "high": high}});
        self.parameters.push(json!({"name": name, "shape": shape, "initializer": initializer}));
        self.elements += shape.iter().product::<usize>();
        let (shape, kind) = (shape.to_vec(), Kind::Number);
        let value = Value { name, shape, kind, low, high, exact: true, per_row: false };
        self.values.push(value.clone());
        value
    }

    /// A number as a value of shape `[]`.
    pub fn constant(&mut self, number: f64) -> Value {
        let constant = self.node("constant", &[], json!({"value": number}), &[], Kind::Number, number, number);
        let last = self.values.len() - 1;
        self.values[last].exact = true;
        Value { exact: true, ..constant }
    }

    /// Whether a value of so many elements still has room.
    pub fn has_room(&self, elements: usize) -> bool {
        elements <= ELEMENTS && self.elements + elements <= ALL_ELEMENTS
    }

    /// Whether one more kink or step may be put in; takes it.
    pub fn take_kink(&mut self) -> bool {
        let free = self.kinks > 0;
        self.kinks = self.kinks.saturating_sub(1);
        free
    }

    /// A call whose result is numbers between these bounds; scaled down if they are too large.
    pub fn call(
        &mut self,
        op: &str,
        inputs: &[&Value],
        attributes: Json,
        shape: &[usize],
        low: f64,
        high: f64,
    ) -> Value {
        let value = self.node(op, inputs, attributes, shape, Kind::Number, low, high);
        if value.largest() <= LARGEST {
            return value;
        }
        // A power of two: the scaled value is as exact as the value.
        let factor = (4.0 / value.largest()).log2().floor().exp2();
        let factor = self.constant(factor);
        let (low, high) = (low * factor.low, high * factor.low);
        self.node("mul", &[&value, &factor], Json::Null, shape, Kind::Number, low, high)
    }

    /// A call as it stands; the bounds matter only for numbers and whole numbers.
    #[allow(clippy::too_many_arguments)]
    pub fn node(
        &mut self,
        op: &str,
        inputs: &[&Value],
        attributes: Json,
        shape: &[usize],
        kind: Kind,
        low: f64,
        high: f64,
    ) -> Value {
        let name = format!("n{}", self.nodes.len());
        let names: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
        self.used.extend(names.iter().copied().map(String::from));
        let mut node = json!({"name": name, "op": op, "inputs": names});
        if !attributes.is_null() {
            node["attributes"] = attributes;
        }
        self.nodes.push(node);
        let value = Value {
            name,
            shape: shape.to_vec(),
            kind,
            low,
            high,
            exact: false,
            per_row: inputs.iter().any(|input| input.per_row),
        };
        self.elements += value.elements();
        self.values.push(value.clone());
        value
    }

    /// How many values later calls can read.
    pub fn count(&self) -> usize {
        self.values.len()
    }

    /// Lets no later call read what came after so many values.
    pub fn hide_after(&mut self, count: usize) {
        self.values.truncate(count);
    }

    /// Marks the latest value as made of the elements of exact ones.
    pub fn mark_exact(&mut self, exact: bool) {
        if let Some(last) = self.values.last_mut() {
            last.exact = exact;
        }
    }

    /// All of it as JSON: whatever was not used ends up in the output, so that nothing is dead.
    pub fn finish(mut self) -> String {
        let loose: Vec<Value> =
            self.values[1..].iter().filter(|value| !self.used.contains(&value.name)).cloned().collect();
        let chunk = [self.chunk];
        let mut output: Option<Value> = None;
        for value in loose {
            let value = self.as_number(value);
            let value = if value.shape == chunk || value.shape.is_empty() {
                value
            } else if value.elements() == self.chunk {
                self.node("reshape", &[&value], json!({"shape": chunk}), &chunk, Kind::Number, value.low, value.high)
            } else {
                self.node("mean", &[&value], Json::Null, &[], Kind::Number, value.low, value.high)
            };
            output = Some(match output {
                None => value,
                Some(sum) => self.add(&sum, &value),
            });
        }
        let x = self.values[0].clone();
        let output = match output {
            None => self.node("neg", &[&x], Json::Null, &chunk, Kind::Number, -x.high, -x.low),
            Some(output) if output.per_row && output.shape == chunk => output,
            Some(output) => self.add(&x, &output),
        };
        json!({
            "ir_version": 1,
            "name": "random",
            "chunk": self.chunk,
            "parameters": self.parameters,
            "nodes": self.nodes,
            "output": output.name,
        })
        .to_string()
    }

    fn add(&mut self, a: &Value, b: &Value) -> Value {
        let shape = if a.shape.is_empty() { &b.shape } else { &a.shape };
        self.call("add", &[a, b], Json::Null, shape, a.low + b.low, a.high + b.high)
    }

    /// Truth values choose between two numbers.
    fn as_number(&mut self, value: Value) -> Value {
        match value.kind {
            Kind::Number => value,
            Kind::Truth => {
                let (one, half) = (self.constant(1.0), self.constant(-0.5));
                self.node("where", &[&value, &one, &half], Json::Null, &value.shape, Kind::Number, -0.5, 1.0)
            }
        }
    }
}
