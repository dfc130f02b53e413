//! Prints what a program does with rows in fragments. `fragments.cu` has the functions that the text calls.

use super::weight::Weight;
use super::{Form, Fragments, Sum};
use crate::compile::codegen::cuda::memory::Place;
use crate::compile::codegen::cuda::plan::Planned;
use crate::compile::codegen::cuda::program::{note, row_name, watch};
use crate::compile::codegen::cuda::step::{Printer, index};
use crate::compile::{Destination, KernelClass, Operand, Pass, Source, Step, ValueId};
use crate::graph::RowInput;
use std::collections::BTreeSet;
use std::fmt::Write;

/// The printer of one program's rows.
pub(in crate::compile::codegen::cuda) struct Rows<'a> {
    pub(super) planned: &'a Planned,
    pub(super) fragments: &'a Fragments,
    pub(super) class: &'a KernelClass,
    /// Where the weights begin in shared memory.
    pub(super) weights: usize,
    pub(super) text: String,
    /// Values that were made operands of the tensor cores.
    pub(super) operands: BTreeSet<ValueId>,
    /// Values of which rows and elements were exchanged, for the left of a product or for its right. Registers serve both.
    pub(super) turned: BTreeSet<(ValueId, bool)>,
    /// How many elements the slices have that a loop has come to, if one has.
    pub(super) in_slice: Option<usize>,
    /// Whether values are made that have been there before.
    pub(super) again: bool,
    /// Whether the tile's rows are still where they came, to be taken again rather than kept.
    pub(super) rows_stay: bool,
}

impl<'a> Rows<'a> {
    pub fn new(class: &'a KernelClass, planned: &'a Planned, fragments: &'a Fragments) -> Self {
        let weights = planned.layout.numbers;
        Rows {
            planned,
            fragments,
            class,
            weights,
            text: String::new(),
            operands: BTreeSet::new(),
            turned: BTreeSet::new(),
            in_slice: None,
            again: false,
            rows_stay: false,
        }
    }

    /// The first rows are on their way while parameters are made ready; those of the watched input were sent for before.
    pub fn first_fetch(&mut self) -> String {
        self.text += "const Place place = ahead.place;\n\
                      const Share share = ahead.share;\n\
                      const Tiles tiles = ahead.tiles;\n\
                      Watching watching;\n";
        for (number, input) in self.inputs() {
            let name = row_name(input);
            if self.class.pass.watched() == Some(input) {
                let _ = writeln!(self.text, "Walk& walk_{name} = ahead.walk_watched;");
                continue;
            }
            let _ = write!(
                self.text,
                "Walk walk_{name} = walk(launch.{name}, seed, tiles, launch.rows, share);\n\
                 #pragma unroll\nfor (int early = 0; early < STAGES - 1; ++early)\n\
                 if (early < tiles.count) fetch(early, {number}, walk_{name}, launch.{name}, seed, tiles, early, share);\n"
            );
        }
        self.text += "end_of_first_stages();\n";
        if self.has_output() {
            self.text += "Walk walk_output = walk(launch.output, seed, tiles, launch.rows, share);\n";
        }
        self.take()
    }

    /// Puts the factors of contractions where the tensor cores' loads find them.
    pub fn weights(&mut self) -> String {
        for weight in &self.fragments.weights {
            self.text += &match self.class.data_type.bytes() {
                2 => self.lines_of_weight(weight),
                _ => self.factors_of_weight(weight),
            };
        }
        if self.fragments.warpgroups.is_some() {
            self.text += "show_tensor_cores();\n";
        }
        for (position, (step, sum)) in self.sums().enumerate() {
            match sum {
                Sum::Single(_) | Sum::ElementsAtOnce | Sum::ProductsAtOnce { .. } | Sum::Scratch => {}
                Sum::Elements if self.are_rows(step) => {
                    let _ = writeln!(self.text, "Products<{}, 8> sum_{position} = {{}};", step.shape.elements());
                }
                Sum::Elements => {
                    let _ = writeln!(self.text, "number sum_{position}[{}] = {{}};", step.shape.elements() / 4);
                }
                Sum::Products { left, right } => {
                    let (left, right) = (self.elements(&step.operands[*left]), self.elements(&step.operands[*right]));
                    let _ = writeln!(self.text, "Products<{left}, {right}> sum_{position} = {{}};");
                }
            }
        }
        self.take()
    }

    /// Whether weights are nothing but parameters as they lie in the slot.
    pub fn weights_are_parameters(&self) -> bool {
        let place = |weight: &Weight| self.planned.layout.places[weight.value.index()];
        self.fragments.weights.iter().all(|weight| matches!(place(weight), Some(Place::Parameter(_))))
    }

    /// 16 bits: a vector to a thread at a time, neighbouring threads neighbouring lines.
    fn lines_of_weight(&self, weight: &Weight) -> String {
        let (inner, outer, start) = (weight.inner, weight.outer, self.weights + weight.start);
        let ((lines, length), vectors) = (weight.lines(), weight.vectors());
        let (along, across) = match weight.is_inner_along() {
            true => (weight.inner_stride, weight.outer_stride),
            false => (weight.outer_stride, weight.inner_stride),
        };
        let elements: Vec<String> = (0..8).map(|further| self.element(weight, further * along)).collect();
        format!(
            "// v{value} [{inner}, {outer}] as a factor, in lines of {length}\n\
             share_out<{items}>([&](int item) {{\n\
             const int line = item / {eight_lines} * 8 + item % 8, vector = item / 8 % {vectors};\n\
             const int at = line * {across} + vector * {stride};\n\
             keep_factors(shared + {start}, item, {{{elements}}});\n}});\n",
            value = weight.value.0,
            items = lines * vectors,
            eight_lines = 8 * vectors,
            stride = 8 * along,
            elements = elements.join(", "),
        )
    }

    /// f32: two factors to a lane, as the tensor cores want them.
    fn factors_of_weight(&self, weight: &Weight) -> String {
        let (inner, outer, start) = (weight.inner, weight.outer, self.weights + weight.start);
        format!(
            "// v{value} [{inner}, {outer}] as a factor\n\
             #pragma unroll 4\nfor (int item = threadIdx.x; item < FACTORS<{inner}, {outer}>; item += THREADS) {{\n\
             const Factor of = factor<{inner}, {outer}>(item);\n\
             const int at = of.row * {inner_stride} + of.column * {outer_stride};\n\
             keep_factor(shared + {start}, item, {first}, {second});\n}}\n",
            value = weight.value.0,
            inner_stride = weight.inner_stride,
            outer_stride = weight.outer_stride,
            first = self.element(weight, 0),
            second = self.element(weight, weight.inner_stride),
        )
    }

    /// The element of a weight so far beyond the index `at`.
    fn element(&self, weight: &Weight, further: usize) -> String {
        let further = weight.offset + further;
        match self.planned.layout.places[weight.value.index()] {
            // So that the place of `at` is worked out once.
            Some(Place::Parameter(start)) => format!("parameters.beyond(at)[{}]", start + further),
            _ => Printer::element(self.planned, weight.value, &index(further, &[("at", 1)])),
        }
    }

    /// The loop over tiles of rows.
    ///
    /// What is known of a row is used at once, so that few values live for long: guards and sums to one number follow the
    /// step that completes them, and the other sums, which need to know the rows that are alive, come last.
    pub fn rows(&mut self) -> String {
        // Warps that wait for each other go on until the block has no row left.
        let keep_step = self.fragments.adds_at_once() || self.fragments.warpgroups.is_some();
        let count = if keep_step { "most" } else { "count" };
        self.scratch();
        let _ = write!(
            self.text,
            "#pragma unroll 1\n\
             for (int tile = 0, stage = 0; tile < tiles.{count}; ++tile, stage = stage + 1 == STAGES ? 0 : stage + 1) {{\n\
             __syncwarp();\n\
             if (tile + STAGES - 1 < tiles.count) {{\n\
             const int free = stage == 0 ? STAGES - 1 : stage - 1;\n"
        );
        self.fetches("free");
        self.text += "}\n\
                      end_of_stage();\n\
                      wait_for_stages<STAGES - 1>();\n\
                      __syncwarp();\n\
                      const int there = tiles.rows(tile);\n\
                      bool alive[2] = {place.g < there, place.g + 8 < there};\n";
        for (number, input) in self.inputs() {
            let name = row_name(input);
            let _ = writeln!(
                self.text,
                "uint4* const rows_of_{name} = waiting(stage, {number});\nTile {name} = take(rows_of_{name}, place);"
            );
        }
        if let Some(input) = self.class.pass.watched() {
            let (name, watch) = (row_name(input), watch(self.class.pass));
            let _ = writeln!(
                self.text,
                "watch_tile<{watch}>(watching, seen, rows_of_{name}, {name}, there, tile + 1 == tiles.count, place);\nforget({name});"
            );
        }
        for (value, input) in self.rows_read() {
            let _ = writeln!(self.text, "Fragment<CHUNK> v{} = numbers_of({});", value.0, row_name(input));
        }
        let mut known: BTreeSet<ValueId> = self.rows_read().into_iter().map(|(value, _)| value).collect();
        self.what_is_known(&known, None);
        let stream = self.fragments.stream.as_ref();
        for (step, form) in self.steps() {
            if stream.is_none_or(|stream| !stream.has(step) && !stream.after.contains(&step.result)) {
                self.whole_step(step, form, &mut known);
            }
        }
        if let Some(stream) = stream {
            self.products_of_slices(stream);
            let mut made = BTreeSet::new();
            for (step, form) in self.steps() {
                if stream.ends.contains(&step.result) || stream.after.contains(&step.result) {
                    self.make_again(stream, step.reads(), &mut made);
                    self.whole_step(step, form, &mut known);
                }
            }
        }
        if !self.planned.program.guards.is_empty() && self.class.pass != Pass::Backward {
            self.text += "if (place.t == 0) seen.fallback_rows += (place.g < there && !alive[0]) + (place.g + 8 < there && !alive[1]);\n";
        }
        self.text += "const bool whole = __all_sync(0xffffffffu, alive[0] && alive[1]);\n";
        self.output();
        if self.fragments.sums.iter().any(Sum::is_in_scratch) {
            self.text += "const unsigned living = living_rows(alive);\n";
        }
        // Rows are shown where others came and went.
        if self.exchanges() {
            self.put_output();
            self.text += "__syncwarp();\n";
        }
        // Sums of slices are gradients, and come last.
        let is_of_slices = |step: &Step| stream.is_some_and(|stream| stream.is_read(step));
        let whole = self.sums().enumerate().filter(|(_, (step, _))| !is_of_slices(step));
        let (gradients, others): (Vec<_>, Vec<_>) = whole.partition(|(_, (step, sum))| self.is_gradient(step, sum));
        for (position, (step, sum)) in others {
            self.sum(position, step, sum);
        }
        if !gradients.is_empty() || self.sums().any(|(step, _)| is_of_slices(step)) {
            self.gradients(gradients);
        }
        if !self.exchanges() {
            self.put_output();
        }
        self.text += "}\nfinish(seen, tiles);\n";
        self.take()
    }

    /// Sums of which gradients are made, where there are gradients: of whole values, and then of slices.
    fn gradients(&mut self, whole: Vec<(usize, (&Step, &Sum))>) {
        self.text += "if (anew(gradient != nullptr)) {\n";
        let stream = self.fragments.stream.as_ref();
        let exchanging = stream.filter(|_| self.exchanges());
        let is_product = |(_, (_, sum)): &(usize, (&Step, &Sum))| matches!(sum, Sum::ProductsAtOnce { .. });
        let (products, others): (Vec<_>, Vec<_>) = whole.into_iter().partition(is_product);
        let mut made = self.overwritten();
        if let Some(stream) = exchanging {
            self.make_again(stream, others.iter().flat_map(|(_, (step, _))| step.reads()), &mut made);
        }
        for (position, (step, sum)) in others {
            self.sum(position, step, sum);
        }
        if let Some(stream) = exchanging {
            self.show_whole(stream, made);
        }
        for (position, (step, sum)) in products {
            self.sum(position, step, sum);
        }
        if let Some(stream) = stream {
            self.sums_of_slices(stream);
        }
        if exchanging.is_some() {
            self.text += "__syncthreads();\n";
        }
        self.text += "}\n";
    }

    /// By way of the input that no lane reads any more.
    fn put_output(&mut self) {
        if self.has_output() {
            let input = self.class.pass.watched().map_or("x", row_name);
            let _ = write!(
                self.text,
                "__syncwarp();\nkeep(rows_of_{input}, result, place);\n__syncwarp();\n\
                 put(rows_of_{input}, walk_output, launch.output, seed, tiles, tile, share);\n"
            );
        }
    }

    /// Prints a step whose result is whole, and what can be said of rows when it is known.
    fn whole_step(&mut self, step: &Step, form: &Form, known: &mut BTreeSet<ValueId>) {
        if !self.fragments.is_inline(step.result) {
            self.step(step, form);
        }
        if self.fragments.scratch.contains(&step.result) && !self.pass_scratch(step, form) {
            return;
        }
        known.insert(step.result);
        self.what_is_known(known, Some(step.result));
    }

    pub(super) fn steps(&self) -> impl Iterator<Item = (&'a Step, &'a Form)> + use<'a> {
        let (planned, fragments) = (self.planned, self.fragments);
        planned.program.body.iter().zip(&fragments.body)
    }

    /// Sends for the tiles that the walks have come to.
    fn fetches(&mut self, stage: &str) {
        for (number, input) in self.inputs() {
            let name = row_name(input);
            let _ = writeln!(
                self.text,
                "fetch({stage}, {number}, walk_{name}, launch.{name}, seed, tiles, tile + STAGES - 1, share);"
            );
        }
    }

    /// The guards and single sums that the newest value completes; `None` for those of the inputs.
    fn what_is_known(&mut self, known: &BTreeSet<ValueId>, newest: Option<ValueId>) {
        for &guard in &self.planned.program.guards {
            let is_new = newest.map_or(known.contains(&guard), |newest| newest == guard);
            if is_new {
                let _ = writeln!(self.text, "keep_representable(alive, v{}, place);", guard.0);
            }
        }
        for (position, (step, sum)) in self.sums().enumerate() {
            let Sum::Single(elements) = sum else { continue };
            let rows = || step.reads().filter(|value| self.planned.program.values[value.index()].per_row);
            let completes = |value: ValueId| newest.is_none_or(|newest| newest == value);
            let has_rows = rows().next().is_some();
            let is_new = rows().all(|value| known.contains(&value))
                && if has_rows { rows().any(completes) } else { newest.is_none() };
            if is_new {
                self.text += &note(step, ", summed over rows");
                let _ = writeln!(self.text, "number of_row_{position}[2] = {{}};");
                let reads = self.reads(step, *elements);
                let add = format!("of_row_{position}[h] += {};\n", self.term(step));
                self.over(*elements, &reads, &add);
            }
        }
    }

    fn output(&mut self) {
        for output in self.planned.program.outputs.iter().filter(|output| output.target == Destination::Row) {
            let _ = writeln!(
                self.text,
                "Tile result = tile_of(v{});\n\
                 if (!whole) restore(result, take(rows_of_{}, place), alive);",
                output.value.0,
                row_name(self.planned.program.fallback)
            );
        }
    }

    /// The row inputs that are fetched, each once, and their numbers in a stage: the watched one is the first.
    fn inputs(&self) -> Vec<(usize, RowInput)> {
        let watched = self.class.pass.watched().into_iter();
        let mut inputs: Vec<RowInput> = watched.chain(self.rows_read().into_iter().map(|(_, input)| input)).collect();
        let mut seen = Vec::new();
        inputs.retain(|input| {
            !seen.contains(input) && {
                seen.push(*input);
                true
            }
        });
        inputs.into_iter().enumerate().collect()
    }

    /// The values that are rows of an input.
    pub(super) fn rows_read(&self) -> Vec<(ValueId, RowInput)> {
        let values = self.planned.program.values.iter().enumerate();
        values
            .filter_map(|(index, value)| match value.source {
                Source::Row(input) => Some((ValueId(index as u32), input)),
                _ => None,
            })
            .collect()
    }

    fn has_output(&self) -> bool {
        self.planned.program.outputs.iter().any(|output| output.target == Destination::Row)
    }

    pub(super) fn sums(&self) -> impl Iterator<Item = (&'a Step, &'a Sum)> + use<'a> {
        let (planned, fragments) = (self.planned, self.fragments);
        planned.program.accumulate.iter().zip(&fragments.sums)
    }

    pub(super) fn elements(&self, operand: &Operand) -> usize {
        self.planned.program.values[operand.value.index()].elements
    }

    pub(super) fn take(&mut self) -> String {
        std::mem::take(&mut self.text)
    }
}
