//! Evaluates graphs in f64 by the textbook meaning of each operator. Slow, and independent of gradients and lowering.

use crate::graph::{Attribute, Attributes, Graph, RowInput, Scalar, Source, ValueId};

/// A dense value.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    pub shape: Vec<usize>,
    pub data: Vec<f64>,
}

/// What a graph is evaluated on.
#[derive(Clone, Debug, Default)]
pub(super) struct Inputs {
    pub x: Vec<Vec<f64>>,
    pub output_gradient: Vec<Vec<f64>>,
    pub parameters: Vec<Vec<f64>>,
    pub alpha: f64,
}

/// The value of every node: one tensor for each row, or one if it is uniform.
pub(super) struct Values(Vec<Vec<Tensor>>);

impl Values {
    /// All elements of a value, row after row.
    pub fn of(&self, value: ValueId) -> Vec<f64> {
        self.0[value.index()].iter().flat_map(|tensor| tensor.data.clone()).collect()
    }

    /// The only element of a uniform scalar.
    pub fn number(&self, value: ValueId) -> f64 {
        let elements = self.of(value);
        assert_eq!(elements.len(), 1);
        elements[0]
    }
}

pub(super) fn evaluate(graph: &Graph, given: &Inputs) -> Values {
    let rows = given.x.len();
    let mut values: Vec<Vec<Tensor>> = Vec::new();
    for node in &graph.nodes {
        let dense = |data: &Vec<f64>| Tensor { shape: node.shape.0.clone(), data: data.clone() };
        let value = match &node.source {
            Source::Row(RowInput::X) => given.x.iter().map(dense).collect(),
            Source::Row(RowInput::OutputGradient) => given.output_gradient.iter().map(dense).collect(),
            Source::Row(RowInput::Target) => unreachable!("no test has a target"),
            Source::Parameter(position) => vec![dense(&given.parameters[*position])],
            Source::Scalar(Scalar::Alpha) => vec![dense(&vec![given.alpha])],
            Source::Scalar(Scalar::LossScale | Scalar::Dropout) => unreachable!("no test has one"),
            Source::Operator { operator, inputs, .. } if operator.name() == "row_sum" => {
                let input = &values[inputs[0].index()];
                let element = |at: usize| (0..rows).map(|row| of_row(input, row).data[at]).sum();
                vec![dense(&(0..node.shape.elements()).map(element).collect())]
            }
            Source::Operator { operator, inputs, attributes } => (0..if node.per_row { rows } else { 1 })
                .map(|row| {
                    let inputs: Vec<_> = inputs.iter().map(|input| of_row(&values[input.index()], row)).collect();
                    dense(&apply(operator.name(), &inputs, attributes, &node.shape.0))
                })
                .collect(),
        };
        assert!(value.iter().all(|tensor| tensor.data.len() == node.shape.elements()), "`{}`", node.name);
        values.push(value);
    }
    Values(values)
}

fn of_row(value: &[Tensor], row: usize) -> &Tensor {
    &value[if value.len() == 1 { 0 } else { row }]
}

fn apply(name: &str, inputs: &[&Tensor], attributes: &Attributes, shape: &[usize]) -> Vec<f64> {
    let a = inputs.first().copied();
    let map = |f: &dyn Fn(f64) -> f64| a.unwrap().data.iter().map(|&v| f(v)).collect();
    let zip = |f: &dyn Fn(f64, f64) -> f64| {
        let (a, b) = (broadcast(inputs[0], shape), broadcast(inputs[1], shape));
        a.into_iter().zip(b).map(|(a, b)| f(a, b)).collect()
    };
    let erf = libm::erf;
    let sigmoid = |v: f64| 1.0 / (1.0 + (-v).exp());
    match name {
        "add" => zip(&|a, b| a + b),
        "sub" => zip(&|a, b| a - b),
        "mul" => zip(&|a, b| a * b),
        "div" => zip(&|a, b| a / b),
        "greater" => zip(&|a, b| f64::from(u8::from(a > b))),
        "equal" => zip(&|a, b| f64::from(u8::from(a == b))),
        "where" => {
            let parts: Vec<_> = inputs.iter().map(|input| broadcast(input, shape)).collect();
            (0..parts[0].len()).map(|at| parts[if parts[0][at] != 0.0 { 1 } else { 2 }][at]).collect()
        }
        "neg" => map(&|v| -v),
        "exp" => map(&f64::exp),
        "log" => map(&f64::ln),
        "sqrt" => map(&f64::sqrt),
        "rsqrt" => map(&|v| 1.0 / v.sqrt()),
        "abs" => map(&f64::abs),
        "erf" => map(&erf),
        "tanh" => map(&f64::tanh),
        "sigmoid" => map(&sigmoid),
        "relu" => map(&|v| v.max(0.0)),
        "silu" => map(&|v| v * sigmoid(v)),
        "gelu" if attributes["approximate"] == Attribute::Text("tanh".into()) => {
            map(&|v| 0.5 * v * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (v + 0.044715 * v.powi(3))).tanh()))
        }
        "gelu" => map(&|v| 0.5 * v * (1.0 + erf(v / 2f64.sqrt()))),
        "constant" => match attributes["value"] {
            Attribute::Float(value) => vec![value],
            Attribute::Integer(value) => vec![value as f64],
            _ => unreachable!(),
        },
        "reshape" => a.unwrap().data.clone(),
        "broadcast" => broadcast(inputs[0], shape),
        "permute" => permute(inputs[0], &integers(attributes, "axes"), shape),
        "sum" => reduce(inputs[0], attributes, |group| group.iter().sum()),
        "mean" => reduce(inputs[0], attributes, |group| group.iter().sum::<f64>() / group.len() as f64),
        "max" => reduce(inputs[0], attributes, |group| group.iter().copied().fold(f64::NEG_INFINITY, f64::max)),
        "softmax" => softmax(inputs[0], attributes),
        "layer_norm" => normalise(inputs, attributes, true),
        "rms_norm" => normalise(inputs, attributes, false),
        "linear" => linear(inputs),
        "einsum" => einsum(inputs, attributes),
        "slice" | "split" | "pad" | "unfold" => cut(name, inputs[0], attributes, shape),
        "concat" => concat(inputs, attributes, shape),
        "conv1d" => causal(inputs),
        _ => unreachable!("the evaluator does not know `{name}`; teach it"),
    }
}

/// Every index of a shape, in order.
fn indices(shape: &[usize]) -> impl Iterator<Item = Vec<usize>> + '_ {
    (0..shape.iter().product()).map(|mut flat: usize| {
        let mut index: Vec<usize> = shape.iter().rev().map(|&size| (flat % size, flat /= size).0).collect();
        index.reverse();
        index
    })
}

fn position(shape: &[usize], index: &[usize]) -> usize {
    shape.iter().zip(index).fold(0, |flat, (&size, &at)| flat * size + at)
}

fn broadcast(input: &Tensor, shape: &[usize]) -> Vec<f64> {
    let added = shape.len() - input.shape.len();
    let element = |index: Vec<usize>| {
        let own: Vec<_> =
            input.shape.iter().zip(&index[added..]).map(|(&size, &at)| if size == 1 { 0 } else { at }).collect();
        input.data[position(&input.shape, &own)]
    };
    indices(shape).map(element).collect()
}

fn integers(attributes: &Attributes, name: &str) -> Vec<i64> {
    match &attributes[name] {
        Attribute::Integers(values) => values.to_vec(),
        Attribute::Integer(value) => vec![*value],
        _ => unreachable!(),
    }
}

fn axes(attributes: &Attributes, name: &str, rank: usize) -> Vec<usize> {
    integers(attributes, name).iter().map(|&axis| axis.rem_euclid(rank as i64) as usize).collect()
}

fn permute(input: &Tensor, axes: &[i64], shape: &[usize]) -> Vec<f64> {
    let rank = shape.len() as i64;
    let element = |index: Vec<usize>| {
        let mut own = vec![0; index.len()];
        axes.iter().zip(&index).for_each(|(axis, &at)| own[axis.rem_euclid(rank) as usize] = at);
        input.data[position(&input.shape, &own)]
    };
    indices(shape).map(element).collect()
}

fn reduce(input: &Tensor, attributes: &Attributes, combine: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut reduced = axes(attributes, "axes", input.shape.len().max(1));
    if reduced.is_empty() {
        reduced = (0..input.shape.len()).collect();
    }
    let group = |index: &[usize]| -> Vec<usize> {
        index.iter().enumerate().map(|(axis, &at)| if reduced.contains(&axis) { 0 } else { at }).collect()
    };
    let mut groups: std::collections::BTreeMap<Vec<usize>, Vec<f64>> = Default::default();
    for (index, &element) in indices(&input.shape).zip(&input.data) {
        groups.entry(group(&index)).or_default().push(element);
    }
    groups.values().map(|elements| combine(elements)).collect()
}

/// What stands at each index is another element of the input, or 0.
fn cut(name: &str, input: &Tensor, attributes: &Attributes, shape: &[usize]) -> Vec<f64> {
    let number = |name: &str| integers(attributes, name)[0];
    let axis = axes(attributes, "axis", input.shape.len())[0];
    let element = |index: Vec<usize>| {
        let at = index[axis] as i64;
        let at = match name {
            "slice" => number("start") + at * number("step"),
            "split" => number("index") * shape[axis] as i64 + at,
            "pad" => at - number("before"),
            _ => at + index[input.shape.len()] as i64 * number("dilation"),
        };
        let mut own = index[..input.shape.len()].to_vec();
        own[axis] = usize::try_from(at).ok().filter(|&at| at < input.shape[axis])?;
        Some(input.data[position(&input.shape, &own)])
    };
    indices(shape).map(|index| element(index).unwrap_or(0.0)).collect()
}

fn concat(inputs: &[&Tensor], attributes: &Attributes, shape: &[usize]) -> Vec<f64> {
    let axis = axes(attributes, "axis", shape.len())[0];
    let element = |mut index: Vec<usize>| {
        for input in inputs {
            match index[axis].checked_sub(input.shape[axis]) {
                None => return input.data[position(&input.shape, &index)],
                Some(rest) => index[axis] = rest,
            }
        }
        unreachable!()
    };
    indices(shape).map(element).collect()
}

/// One row of taps, the last of them on the element itself.
fn causal(inputs: &[&Tensor]) -> Vec<f64> {
    let (a, taps) = (&inputs[0].data, &inputs[1].data);
    let tap = |at: usize, back: usize| at.checked_sub(back).map_or(0.0, |at| a[at] * taps[taps.len() - 1 - back]);
    (0..a.len()).map(|at| (0..taps.len()).map(|back| tap(at, back)).sum()).collect()
}

fn softmax(input: &Tensor, attributes: &Attributes) -> Vec<f64> {
    let axis = axes(attributes, "axis", input.shape.len())[0];
    let same = |a: &[usize], b: &[usize]| (0..a.len()).all(|other| other == axis || a[other] == b[other]);
    let all: Vec<_> = indices(&input.shape).collect();
    let element = |own: usize| {
        let total: f64 = (0..all.len()).filter(|&at| same(&all[at], &all[own])).map(|at| input.data[at].exp()).sum();
        input.data[own].exp() / total
    };
    (0..all.len()).map(element).collect()
}

fn normalise(inputs: &[&Tensor], attributes: &Attributes, centre: bool) -> Vec<f64> {
    let Attribute::Float(eps) = attributes["eps"] else { unreachable!() };
    let last = *inputs[0].shape.last().unwrap();
    let mut result = Vec::new();
    for row in inputs[0].data.chunks(last) {
        let mean = if centre { row.iter().sum::<f64>() / last as f64 } else { 0.0 };
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / last as f64;
        for (at, v) in row.iter().enumerate() {
            let weight = inputs.get(1).map_or(1.0, |weight| weight.data[at]);
            let bias = inputs.get(2).map_or(0.0, |bias| bias.data[at]);
            result.push((v - mean) / (variance + eps).sqrt() * weight + bias);
        }
    }
    result
}

fn linear(inputs: &[&Tensor]) -> Vec<f64> {
    let ins = inputs[1].shape[1];
    let mut result = Vec::new();
    for row in inputs[0].data.chunks(ins) {
        for (output, weights) in inputs[1].data.chunks(ins).enumerate() {
            let bias = inputs.get(2).map_or(0.0, |bias| bias.data[output]);
            result.push(row.iter().zip(weights).map(|(a, w)| a * w).sum::<f64>() + bias);
        }
    }
    result
}

fn einsum(inputs: &[&Tensor], attributes: &Attributes) -> Vec<f64> {
    let Attribute::Text(equation) = &attributes["equation"] else { unreachable!() };
    let (terms, output) = equation.split_once("->").unwrap();
    let terms: Vec<&str> = terms.split(',').collect();
    let mut sizes = std::collections::BTreeMap::new();
    for (term, input) in terms.iter().zip(inputs) {
        sizes.extend(term.chars().zip(input.shape.iter().copied()));
    }
    let letters: Vec<char> = sizes.keys().copied().collect();
    let all: Vec<usize> = sizes.values().copied().collect();
    let flat = |term: &str, index: &[usize]| {
        term.chars().fold(0, |flat, letter| {
            flat * sizes[&letter] + index[letters.iter().position(|known| *known == letter).unwrap()]
        })
    };
    let mut result = vec![0.0; output.chars().map(|letter| sizes[&letter]).product()];
    for index in indices(&all) {
        result[flat(output, &index)] += inputs[0].data[flat(terms[0], &index)] * inputs[1].data[flat(terms[1], &index)];
    }
    result
}
