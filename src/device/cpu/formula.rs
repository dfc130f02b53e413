//! Evaluates a formula on a block of adjacent numbers: registers that stay in the first-level cache, one loop for each
//! operation.

use super::machine::Machine;
use super::vector::{Real, Source, Vectors};
use crate::compile::codegen::cpu::{Access, Axis, Formula, Function, Input, Instruction, Space};

/// Numbers in a register.
pub const BLOCK: usize = 512;

/// Registers besides those of the formula and one for each operand: the result, and three constants.
const OWN: usize = 4;

/// Numbers that the registers of an instruction take.
pub fn registers(instruction: &Instruction, formula: &Formula) -> usize {
    (OWN + instruction.operands.len() + formula.registers) * BLOCK
}

/// What a block reads: `count` elements along an axis, from `first` on.
pub struct Reads<'m, 'r, T: Real> {
    pub machine: &'m Machine<'m, T>,
    pub axis: &'r Axis,
    /// Where each operand stands before the axis.
    pub offsets: &'r [usize],
    pub first: usize,
    pub count: usize,
    pub lanes: usize,
}

impl<'m, T: Real> Reads<'m, '_, T> {
    /// The formula over these operands, which are noted in `operands`.
    ///
    /// # Safety
    /// All elements that are read are within their spaces, the machine has the registers of the instruction, and there
    /// are at most [`BLOCK`] numbers.
    pub unsafe fn block<'f>(
        &self,
        instruction: &Instruction,
        formula: &'f Formula,
        operands: &'f mut [Source<'m, T>],
    ) -> Formulas<'m, 'f, T> {
        for (position, access) in instruction.operands.iter().enumerate() {
            // SAFETY: the caller's promise; each operand has a register of its own.
            operands[position] = unsafe { self.operand(position, access) };
        }
        // SAFETY: the operands' registers come first.
        let registers = unsafe { self.machine.registers.add(instruction.operands.len() * BLOCK) };
        Formulas { vectors: self.machine.vectors, formula, operands, registers, length: self.count * self.lanes }
    }

    /// An operand as adjacent numbers, where it lies if it can be.
    ///
    /// # Safety
    /// As `block`.
    unsafe fn operand(&self, position: usize, access: &Access) -> Source<'m, T> {
        let stride = self.axis.operands[position];
        let first = self.offsets[position] + self.first * stride;
        let adjacent = stride == 1 || self.count == 1;
        let length = self.count * self.lanes;
        // SAFETY: the caller's promise.
        unsafe {
            let register = self.machine.registers.add(position * BLOCK);
            if access.space == Space::Row {
                let lanes = self.lanes;
                let from = self.machine.row.add(first * lanes);
                if adjacent {
                    return Source::Lanes(std::slice::from_raw_parts(from, length));
                }
                for element in 0..self.count {
                    std::ptr::copy_nonoverlapping(
                        from.add(element * stride * lanes),
                        register.add(element * lanes),
                        lanes,
                    );
                }
            } else {
                let from = self.machine.uniform_element(access.space, first);
                if stride == 0 || self.count == 1 {
                    return Source::Splat(*from);
                }
                if !adjacent {
                    for element in 0..self.count {
                        *register.add(element) = *from.add(element * stride);
                    }
                }
                let numbers = std::slice::from_raw_parts(if adjacent { from } else { register }, self.count);
                return if self.lanes == 1 { Source::Lanes(numbers) } else { Source::Each(numbers) };
            }
            Source::Lanes(std::slice::from_raw_parts(register, length))
        }
    }
}

/// A formula with its operands at hand.
pub struct Formulas<'m, 'f, T: Real> {
    vectors: &'m Vectors<T>,
    formula: &'f Formula,
    operands: &'f [Source<'m, T>],
    registers: *mut T,
    /// How many numbers it computes.
    pub length: usize,
}

impl<'m, T: Real> Formulas<'m, '_, T> {
    /// The numbers, where they lie or in a register.
    ///
    /// # Safety
    /// The operands are still there and no other formula's values are in use.
    pub unsafe fn value(&self) -> &'m [T] {
        if let Input::Operand(position) = self.formula.result
            && let Source::Lanes(lanes) = self.operands[position]
        {
            return lanes;
        }
        // SAFETY: the first register after the formula's own is nobody else's.
        unsafe {
            let result = self.register(self.formula.registers);
            self.write(result);
            result
        }
    }

    /// Computes the numbers into `into`.
    ///
    /// # Safety
    /// As `value`; `into` is apart from the operands and the registers.
    pub unsafe fn write(&self, into: &mut [T]) {
        let operations = &self.formula.operations;
        if let Some((last, before)) = operations.split_last()
            && self.formula.result == Input::Register(last.register)
        {
            // SAFETY: the caller's promise; `check` found that no operation reads the register it writes.
            unsafe {
                before.iter().for_each(|one| self.operate(one.function, &one.inputs, self.register(one.register)));
                self.operate(last.function, &last.inputs, into);
            }
            return;
        }
        // SAFETY: as above.
        unsafe {
            operations.iter().for_each(|one| self.operate(one.function, &one.inputs, self.register(one.register)))
        };
        spread(self.input(self.formula.result), into);
    }

    /// # Safety
    /// The register is not read or written elsewhere meanwhile.
    unsafe fn register<'r>(&self, number: usize) -> &'r mut [T] {
        // SAFETY: the machine has `OWN` registers more than the formula, each of `BLOCK` numbers.
        unsafe { std::slice::from_raw_parts_mut(self.registers.add(number * BLOCK), self.length) }
    }

    fn input(&self, input: Input) -> Source<'m, T> {
        match input {
            Input::Operand(position) => self.operands[position],
            // SAFETY: within the machine's registers, which hold numbers at all times; nothing writes this one while
            // it is read, as `check` found.
            Input::Register(number) => unsafe {
                Source::Lanes(std::slice::from_raw_parts(self.registers.add(number * BLOCK), self.length))
            },
            Input::Constant(number) => Source::Splat(T::from_f64(number)),
        }
    }

    /// # Safety
    /// `to` is apart from the inputs.
    unsafe fn operate(&self, function: Function, inputs: &[Input; 3], to: &mut [T]) {
        let input = |position: usize| self.input(inputs[position]);
        // SAFETY: the vectors were detected on this CPU.
        unsafe {
            match function {
                Function::Unary(unary) => (self.vectors.unary)(unary, self.lanes(input(0), 0), to),
                Function::Binary(binary) => (self.vectors.binary)(binary, input(0), input(1), to),
                Function::Select => {
                    let [condition, yes, no] = [0, 1, 2].map(|position| self.lanes(input(position), position));
                    (self.vectors.select)(condition, yes, no, to);
                }
            }
        }
    }

    /// A source as lanes; a single number is written into one of the machine's own registers.
    ///
    /// # Safety
    /// That register is not in use.
    unsafe fn lanes(&self, source: Source<'m, T>, position: usize) -> &'m [T] {
        if let Source::Lanes(lanes) = source {
            return lanes;
        }
        // SAFETY: the formula's registers and the result's come before; the caller's promise.
        let register = unsafe { self.register(self.formula.registers + 1 + position) };
        spread(source, register);
        register
    }
}

/// Writes a source out as lanes.
fn spread<T: Real>(source: Source<'_, T>, into: &mut [T]) {
    match source {
        Source::Lanes(lanes) => into.copy_from_slice(lanes),
        Source::Each(numbers) => {
            let lanes = into.len() / numbers.len();
            into.chunks_exact_mut(lanes).zip(numbers).for_each(|(lanes, number)| lanes.fill(*number));
        }
        Source::Splat(number) => into.fill(number),
    }
}
