//! Puts steps into the steps that read them.

use super::tidy::tidy;
use crate::compile::schedule::Draft;
use crate::compile::{Expression, Operand, Step};
use crate::graph::Shape;

/// Functions in one expression, at most: deep expressions make compilers slow.
const LARGEST: usize = 128;

/// Puts each step, as far as that is not more work, into its readers. Steps nothing reads any more stay behind.
pub(super) fn fuse(draft: &mut Draft) {
    let mut fusion = Fusion::new(draft);
    for reader in 0..fusion.draft.steps.len() {
        // What was put in has operands of its own, which may fit too.
        while let Some(fused) = fusion.absorb(reader) {
            fusion.replace(reader, fused);
        }
    }
}

struct Fusion<'a> {
    draft: &'a mut Draft,
    /// For each value: the step that computes it.
    producers: Vec<Option<usize>>,
    /// For each value: how many operands of live steps, outputs and guards read it.
    uses: Vec<usize>,
}

impl<'a> Fusion<'a> {
    fn new(draft: &'a mut Draft) -> Self {
        let mut producers = vec![None; draft.values.len()];
        let mut uses = vec![0; draft.values.len()];
        for (position, step) in draft.steps.iter().enumerate() {
            // What several steps write has no one step to stand in for it.
            if step.writes_all(draft.values[step.result.index()].elements) {
                producers[step.result.index()] = Some(position);
            }
            step.reads().for_each(|value| uses[value.index()] += 1);
        }
        draft.outputs.iter().for_each(|output| uses[output.value.index()] += 1);
        draft.guards.iter().for_each(|guard| uses[guard.index()] += 1);
        Self { draft, producers, uses }
    }

    /// The reader with one of the steps it reads put into it.
    fn absorb(&self, reader: usize) -> Option<Step> {
        let step = &self.draft.steps[reader];
        if self.uses[step.result.index()] == 0 {
            return None;
        }
        (0..step.operands.len()).find_map(|operand| {
            let producer = &self.draft.steps[self.producers[step.operands[operand].value.index()]?];
            if self.draft.accumulated.contains(&producer.result) || self.is_exact(producer) || self.is_exact(step) {
                return None;
            }
            let reader = align(step, operand, &producer.shape);
            let fused = if producer.reduced.rank() == 0 {
                self.put_map(producer, &reader, operand)
            } else {
                self.put_reduction(producer, &reader)
            };
            fused.map(|mut fused| {
                tidy(&mut fused);
                fused
            })
        })
    }

    /// A map's expression takes the place of the operand that reads it.
    fn put_map(&self, producer: &Step, reader: &Step, operand: usize) -> Option<Step> {
        let free = producer.expression.functions() == 0;
        let fits = producer.expression.functions() + reader.expression.functions() <= LARGEST;
        let once = reader.expression.reads(operand) == 1 && self.is_not_more_work(producer, reader);
        if !(free || fits && once) {
            return None;
        }
        let mut fused = reader.clone();
        let extents = [reader.shape.0.as_slice(), &reader.reduced.0].concat();
        for inner in &producer.operands {
            fused.operands.push(compose(&reader.operands[operand], &extents, &producer.shape, inner)?);
        }
        let mut inlined = producer.expression.clone();
        inlined.replace_operands(&|inner| Expression::Operand(reader.operands.len() + inner));
        fused.expression.replace_operands(&|outer| match outer {
            outer if outer == operand => inlined.clone(),
            outer => Expression::Operand(outer),
        });
        Some(fused)
    }

    /// A reduction takes the place of a step that only copies its result: so a sum over rows of a contraction is
    /// added up as it is computed.
    fn put_reduction(&self, producer: &Step, reader: &Step) -> Option<Step> {
        let copies = reader.reduced.rank() == 0 && reader.expression == Expression::Operand(0);
        if !copies || !self.is_not_more_work(producer, reader) {
            return None;
        }
        let rank = producer.shape.rank();
        let compose = |inner: &Operand| {
            let mut operand = compose(&reader.operands[0], &reader.shape.0, &producer.shape, inner)?;
            operand.strides.extend(&inner.strides[rank..]);
            Some(operand)
        };
        let operands = producer.operands.iter().map(compose).collect::<Option<_>>()?;
        let (result, offset, shape) = (reader.result, reader.offset, reader.shape.clone());
        Some(Step { result, offset, shape, operands, ..producer.clone() })
    }

    /// Whether integers have a part in it. Backends compute those one by one, so what has no integers stays apart.
    fn is_exact(&self, step: &Step) -> bool {
        step.reads().chain([step.result]).any(|value| self.draft.values[value.index()].data_type.is_integer())
    }

    /// Whether the producer has only this reader, which runs as often and at no more indices.
    fn is_not_more_work(&self, producer: &Step, reader: &Step) -> bool {
        let runs_per_row = |step: &Step| {
            self.draft.values[step.result.index()].per_row || self.draft.accumulated.contains(&step.result)
        };
        self.uses[producer.result.index()] == 1
            && runs_per_row(producer) == runs_per_row(reader)
            && reader.shape.elements() * reader.reduced.elements() <= producer.shape.elements()
    }

    fn replace(&mut self, reader: usize, fused: Step) {
        fused.reads().for_each(|value| self.uses[value.index()] += 1);
        let old = std::mem::replace(&mut self.draft.steps[reader], fused);
        self.release(&old);
    }

    /// Takes the reads of a step away, and those of steps that nothing reads any more.
    fn release(&mut self, step: &Step) {
        let mut released = vec![step.clone()];
        while let Some(step) = released.pop() {
            for value in step.reads() {
                let value = value.index();
                self.uses[value] -= 1;
                if let (0, Some(producer)) = (self.uses[value], self.producers[value]) {
                    released.push(self.draft.steps[producer].clone());
                }
            }
        }
    }
}

/// The reader with its axes split like those of the shape, where one axis walks through several of them in order.
fn align(reader: &Step, operand: usize, shape: &Shape) -> Step {
    let dense = shape.strides();
    let mut aligned = reader.clone();
    let rank = reader.shape.rank();
    for axis in (0..rank + reader.reduced.rank()).rev() {
        let (sizes, position) =
            if axis < rank { (&mut aligned.shape, axis) } else { (&mut aligned.reduced, axis - rank) };
        let (extent, stride) = (sizes.0[position], reader.operands[operand].strides[axis]);
        let Some(last) = (0..shape.rank()).rev().find(|&last| shape.0[last] != 1 && dense[last] == stride) else {
            continue;
        };
        let walked = |first: &usize| shape.0[*first..=last].iter().product::<usize>() == extent;
        let Some(first) = (0..last).rev().find(walked) else { continue };
        sizes.0.splice(position..=position, shape.0[first..=last].iter().copied());
        for operand in &mut aligned.operands {
            let stride = operand.strides[axis];
            operand.strides.splice(axis..=axis, dense[first..=last].iter().map(|step| step / dense[last] * stride));
        }
    }
    aligned
}

/// Where a reader of a dense value of some shape finds the elements of `inner`, which that value was computed from.
///
/// `outer` reads the dense value over `extents`; `inner` reads its own value over the shape. `None` if the way from
/// one to the other is not a stride per axis.
fn compose(outer: &Operand, extents: &[usize], shape: &Shape, inner: &Operand) -> Option<Operand> {
    // Axes of the shape, innermost first, as (size, stride in the dense value, stride in `inner`); axes that `inner`
    // walks as one are one.
    let mut axes: Vec<(usize, usize, usize)> = Vec::new();
    let mut dense = 1;
    for (&size, &stride) in shape.0.iter().zip(&inner.strides).rev().filter(|&(&size, _)| size != 1) {
        match axes.last_mut() {
            Some((joined, _, step)) if *joined * *step == stride => *joined *= size,
            _ => axes.push((size, dense, stride)),
        }
        dense *= size;
    }
    // A position in the dense value is an index into the axes, as a number is its digits. Strides add up digit by
    // digit as long as no digit ever carries.
    let digits = |position: usize| axes.iter().map(move |&(size, dense, _)| position / dense % size);
    let mut largest: Vec<_> = digits(outer.offset).collect();
    let stride_of = |position: usize| digits(position).zip(&axes).map(|(digit, axis)| digit * axis.2).sum::<usize>();
    for (&extent, &stride) in extents.iter().zip(&outer.strides) {
        let reach = digits(stride).map(|digit| digit * (extent - 1));
        largest.iter_mut().zip(reach).for_each(|(largest, reach)| *largest += reach);
    }
    if largest.iter().zip(&axes).any(|(&largest, axis)| largest >= axis.0) {
        return None;
    }
    let strides = extents.iter().zip(&outer.strides).map(|(&extent, &stride)| match extent {
        1 => 0,
        _ => stride_of(stride),
    });
    Some(Operand { value: inner.value, offset: inner.offset + stride_of(outer.offset), strides: strides.collect() })
}
