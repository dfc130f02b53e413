//! Random numbers and random blueprints, the same in every run.

use crate::graph::json::{Document, IR_VERSION, Metadata, NodeEntry, ParameterEntry};
use crate::graph::{Attribute, Attributes, Initializer, Shape};

/// SplitMix64.
pub(super) struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn pick<T: Clone>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())].clone()
    }

    /// Evenly between -1 and 1.
    pub fn number(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 52) as f64 - 1.0
    }

    pub fn numbers(&mut self, count: usize) -> Vec<f64> {
        (0..count).map(|_| self.number()).collect()
    }

    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        (1..items.len()).for_each(|last| items.swap(last, self.below(last + 1)));
    }
}

pub(super) fn node(name: &str, op: &str, inputs: &[&str], attributes: &[(&str, Attribute)]) -> NodeEntry {
    NodeEntry {
        name: name.into(),
        op: op.into(),
        inputs: inputs.iter().map(|input| String::from(*input)).collect(),
        attributes: attributes.iter().map(|(name, value)| (String::from(*name), value.clone())).collect(),
        ..NodeEntry::default()
    }
}

pub(super) fn parameter(name: &str, shape: &[usize]) -> ParameterEntry {
    ParameterEntry {
        name: name.into(),
        shape: Shape::new(shape),
        initializer: Initializer::Uniform { low: -1.0, high: 1.0 },
    }
}

pub(super) fn document(chunk: usize, parameters: Vec<ParameterEntry>, nodes: Vec<NodeEntry>) -> Document {
    let output = nodes.last().unwrap().name.clone();
    Document {
        ir_version: IR_VERSION,
        name: "random".into(),
        chunk,
        parameters,
        nodes,
        output,
        metadata: Metadata::new(),
    }
}

/// Channels of the random blueprints.
pub(super) const CHUNK: usize = 6;

/// A valid blueprint of a few nodes over x and a few parameters, all of which have a part in the output.
pub(super) fn blueprint(random: &mut Random) -> Document {
    let shapes: [&[usize]; 6] = [&[], &[CHUNK], &[CHUNK], &[1], &[2, 3], &[3, 2]];
    let mut parameters = Vec::new();
    let mut values = vec![(String::from("x"), vec![CHUNK])];
    for position in 0..random.below(4) {
        let shape = random.pick(&shapes);
        parameters.push(parameter(&format!("p{position}"), shape));
        values.push((format!("p{position}"), shape.to_vec()));
    }
    let mut nodes: Vec<NodeEntry> = Vec::new();
    for position in 0..1 + random.below(8) {
        let name = format!("n{position}");
        let (a, shape) = random.pick(&values);
        let (entry, shape) = call(random, &name, &a, shape, &values);
        nodes.push(entry);
        values.push((name, shape));
    }
    // Whatever is not used yet is summed into the output, so that it depends on everything.
    let used: Vec<String> = nodes.iter().flat_map(|node| node.inputs.clone()).collect();
    let mut last = String::from("x");
    for (position, (value, _)) in values.into_iter().filter(|(value, _)| !used.contains(value)).enumerate() {
        let (total, sum) = (format!("t{position}"), format!("s{position}"));
        nodes.push(node(&total, "sum", &[&value], &[]));
        nodes.push(node(&sum, "add", &[&last, &total], &[]));
        last = sum;
    }
    document(CHUNK, parameters, nodes)
}

fn call(
    random: &mut Random,
    name: &str,
    a: &str,
    shape: Vec<usize>,
    values: &[(String, Vec<usize>)],
) -> (NodeEntry, Vec<usize>) {
    let unary = ["tanh", "sigmoid", "gelu", "silu", "relu", "neg", "erf", "abs"];
    match random.below(7) {
        0..=2 => {
            let broadcast = |other: &Vec<usize>| Shape(shape.clone()).broadcast_with(&Shape(other.clone()));
            let fitting: Vec<_> =
                values.iter().filter_map(|(b, other)| broadcast(other).map(|shape| (b, shape.0))).collect();
            let (b, shape) = random.pick(&fitting);
            (node(name, random.pick(&["add", "sub", "mul"]), &[a, b], &[]), shape)
        }
        3 if !shape.is_empty() => {
            let op = random.pick(&["softmax", "layer_norm", "rms_norm"]);
            (node(name, op, &[a], &[]), shape)
        }
        4 if shape.iter().product::<usize>() == CHUNK => {
            let to = random.pick(&[vec![CHUNK], vec![2, 3], vec![3, 2]]);
            let sizes = Attribute::Integers(to.iter().map(|&size| size as i64).collect());
            (node(name, "reshape", &[a], &[("shape", sizes)]), to)
        }
        5 if !shape.is_empty() => {
            let axis = random.below(shape.len());
            let mut kept = shape;
            kept[axis] = 1;
            let attributes = [("axes", Attribute::Integers(vec![axis as i64].into())), ("keep", Attribute::Bool(true))];
            (node(name, random.pick(&["sum", "mean", "max"]), &[a], &attributes), kept)
        }
        _ => (node(name, random.pick(&unary), &[a], &[]), shape),
    }
}

/// The same blueprint, written differently: other names, another order of nodes, dead nodes, metadata.
pub(super) fn relabelled(original: &Document, random: &mut Random) -> Document {
    let mut copy = original.clone();
    copy.name = "another_name".into();
    copy.metadata.insert("author".into(), random.next().into());
    let dead = node("dead", "tanh", &["x"], &[]);
    copy.nodes.push(dead);

    // Any order in which inputs stand before what uses them.
    let mut waiting = std::mem::take(&mut copy.nodes);
    while !waiting.is_empty() {
        let open: Vec<String> = waiting.iter().map(|node| node.name.clone()).collect();
        let ready = |node: &NodeEntry| node.inputs.iter().all(|input| !open.contains(input));
        let candidates: Vec<_> = (0..waiting.len()).filter(|&at| ready(&waiting[at])).collect();
        copy.nodes.push(waiting.remove(random.pick(&candidates)));
    }

    let own = copy.parameters.iter().map(|entry| &entry.name).chain(copy.nodes.iter().map(|entry| &entry.name));
    let mut fresh: Vec<_> = (0..copy.parameters.len() + copy.nodes.len()).map(|at| format!("v{at}")).collect();
    random.shuffle(&mut fresh);
    let names: std::collections::HashMap<String, String> = own.cloned().zip(fresh).collect();
    let rename = |name: &mut String| *name = names.get(name).unwrap_or(name).clone();
    copy.parameters.iter_mut().for_each(|entry| rename(&mut entry.name));
    for entry in &mut copy.nodes {
        rename(&mut entry.name);
        entry.inputs.iter_mut().for_each(rename);
    }
    rename(&mut copy.output);
    copy
}

/// No attributes.
pub(super) fn none() -> Attributes {
    Attributes::new()
}
