//! Where each value of a program lies: row values share memory as their lives allow, the others get their own.

use super::{Access, Space, Span, width};
use crate::compile::{Destination, Program, Source, Value, ValueId};
use crate::graph::{RowInput, Scalar};

/// The places of a program's values.
pub struct Storage {
    /// By value; a value that nothing reads or writes may have none.
    pub places: Vec<Option<Access>>,
    pub row_elements: usize,
    pub uniform_elements: usize,
    pub parameter_elements: usize,
    pub accumulators: Span,
    pub rows: Vec<(RowInput, usize)>,
    pub scalars: Vec<(Scalar, usize)>,
    pub indices: Vec<Span>,
    pub random: Vec<(u16, Span)>,
}

/// Places every value that is used. Every index in the program is in range.
pub fn place(program: &Program) -> Storage {
    let mut storage = Storage {
        places: vec![None; program.values.len()],
        row_elements: 0,
        uniform_elements: 0,
        parameter_elements: 0,
        accumulators: Span::default(),
        rows: Vec::new(),
        scalars: Vec::new(),
        indices: Vec::new(),
        random: Vec::new(),
    };
    storage.place_uniform(program);
    storage.place_rows(program);
    storage
}

impl Storage {
    fn place_uniform(&mut self, program: &Program) {
        let accumulated: Vec<ValueId> = program.accumulate.iter().map(|step| step.result).collect();
        for value in &accumulated {
            self.uniform(program, *value);
        }
        self.accumulators = Span { offset: 0, elements: self.uniform_elements };
        for (position, value) in program.values.iter().enumerate() {
            let id = ValueId(position as u32);
            match value.source {
                Source::Parameter(first) => {
                    self.places[position] = Some(Access { space: Space::Parameter, offset: first });
                    self.parameter_elements = self.parameter_elements.max(first + value.elements);
                }
                Source::Scalar(scalar) => {
                    let offset = self.uniform(program, id);
                    self.scalars.push((scalar, offset));
                }
                Source::Index => {
                    let offset = self.uniform(program, id);
                    self.indices.push(Span { offset, elements: value.elements });
                }
                Source::Step if !value.per_row => {
                    self.uniform(program, id);
                }
                Source::Step | Source::Row(_) | Source::Random(_) => {}
            }
        }
    }

    /// The place of a uniform value in the uniform space, given now if it has none.
    fn uniform(&mut self, program: &Program, value: ValueId) -> usize {
        if let Some(access) = self.places[value.index()] {
            return access.offset;
        }
        let offset = self.uniform_elements;
        self.uniform_elements += room(&program.values[value.index()]);
        self.places[value.index()] = Some(Access { space: Space::Uniform, offset });
        offset
    }

    fn place_rows(&mut self, program: &Program) {
        let last_use = last_uses(program);
        let mut live: Vec<(Span, usize)> = Vec::new();
        let mut give = |storage: &mut Storage, position: usize, step: usize| {
            live.retain(|(_, last)| *last >= step);
            live.sort_by_key(|(span, _)| span.offset);
            let elements = room(&program.values[position]);
            let mut offset = 0;
            for (span, _) in &live {
                if offset + elements <= span.offset {
                    break;
                }
                offset = span.offset + span.elements;
            }
            live.push((Span { offset, elements }, last_use[position].unwrap_or(step)));
            storage.row_elements = storage.row_elements.max(offset + elements);
            storage.places[position] = Some(Access { space: Space::Row, offset });
            offset
        };
        for (position, value) in program.values.iter().enumerate() {
            if let (Source::Row(input), Some(_)) = (value.source, last_use[position]) {
                let offset = give(self, position, 0);
                self.rows.push((input, offset));
            }
            if let (Source::Random(stream), Some(_)) = (value.source, last_use[position]) {
                let offset = give(self, position, 0);
                self.random.push((stream, Span { offset, elements: value.elements }));
            }
        }
        for (step, body) in program.body.iter().enumerate() {
            // The first of the steps that write a value gives it its place; a value whose last reader is this step keeps
            // its place until the step is done.
            if self.places[body.result.index()].is_none() {
                give(self, body.result.index(), step);
            }
        }
    }
}

/// Elements of its space that a value takes.
fn room(value: &Value) -> usize {
    value.elements * width(value.data_type)
}

/// The step of the body that reads each per-row value last; what is read after the body lives for ever.
fn last_uses(program: &Program) -> Vec<Option<usize>> {
    let mut last_use = vec![None; program.values.len()];
    for (step, body) in program.body.iter().enumerate() {
        body.reads().chain([body.result]).for_each(|value| last_use[value.index()] = Some(step));
    }
    let accumulated = program.accumulate.iter().flat_map(|step| &step.operands).map(|operand| operand.value);
    let written = program.outputs.iter().filter(|output| output.target == Destination::Row).map(|output| output.value);
    for value in accumulated.chain(written).chain(program.guards.iter().copied()) {
        last_use[value.index()] = Some(usize::MAX);
    }
    last_use
}
