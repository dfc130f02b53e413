//! A launch: checks what it is given, cuts it into tasks and adds up what they found.
//!
//! Where tasks begin and end depends on the launch alone, never on the number of threads, and sums are added in the
//! order of the tasks: equal launches give equal bits.

use super::pool;
use super::rows::Tensor;
use super::selection::{self, Choice};
use super::task::{Area, Seed, Surroundings, Tensors};
use super::vector::{Element, Instructions, Real, Statistics};
use crate::compile::codegen::cpu::{Code, Procedure};
use crate::compile::{Architecture, Destination, KernelClass, Pass, tiling};
use crate::device::{Launch, telemetry};
use crate::graph::DataType;
use crate::{Result, fail};

/// A loaded kernel.
pub struct Loaded {
    pub pass: Pass,
    pub data_type: DataType,
    pub chunk: usize,
    /// Rows that a procedure works on at a time.
    pub lanes: usize,
    pub code: Code,
    pub instructions: Instructions,
}

impl Loaded {
    pub fn new(class: &KernelClass, code: Code, instructions: Instructions) -> Result<Loaded> {
        let lanes = tiling(class, Architecture::Cpu)?.rows.into();
        let KernelClass { pass, data_type, chunk, .. } = *class;
        Ok(Loaded { pass, data_type, chunk, lanes, code, instructions })
    }
}

/// Tasks that the seeds with a procedure are cut into together, if they have the rows for it.
const TASKS: usize = 256;

/// Rows of a task are a multiple of this, but for the last.
const ROWS: usize = super::machine::LANES;

/// Elements of a task that only copies and looks.
const IDENTITY_ELEMENTS: usize = 1 << 15;

/// Below so many vector operations a launch is done before threads would have woken up.
const INLINE_WORK: usize = 1 << 17;

/// What runs at once: some rows of a seed, or of the channels after the last one.
struct Task<T> {
    seed: Option<usize>,
    area: Area,
    /// Where among the sums this task's begin.
    sums: *mut T,
    found: [f64; telemetry::COLUMNS],
}

// SAFETY: the sums of a task are its own part of a buffer that outlives all tasks.
unsafe impl<T: Send> Send for Task<T> {}

/// A seed with a procedure, and where its sums lie.
struct Active<'a, T> {
    number: usize,
    seed: Seed<'a, T>,
    gradient: *mut T,
    first_sum: usize,
    tasks: usize,
}

impl<T> Active<'_, T> {
    /// How many sums each task leaves.
    fn sums_of_a_task(&self) -> usize {
        if self.tasks == 1 { 0 } else { self.seed.procedure.accumulators.elements }
    }
}

// SAFETY: the pointers are to memory that the launch's caller answers for; no two seeds share a slot's gradient.
unsafe impl<T: Send> Send for Active<'_, T> {}
// SAFETY: as above.
unsafe impl<T: Sync> Sync for Active<'_, T> {}

/// Runs a loaded kernel on row tensors of `E`.
pub fn launch<E: Element>(kernel: &Loaded, launch: &Launch<'_>) -> Result<()> {
    super::arguments::check(kernel, launch)?;
    let choices = selection::choose(kernel, launch)?;
    if launch.rows == 0 {
        return Ok(());
    }
    let surroundings = Surroundings::<E> {
        pass: kernel.pass,
        tensors: Tensors {
            x: Tensor::new(launch.x),
            output_gradient: Tensor::new(launch.output_gradient),
            target: Tensor::new(launch.target),
            output: Tensor::new(launch.written()),
        },
        elements: kernel.instructions.elements(),
        lanes: kernel.lanes,
        observe: !launch.telemetry.is_null() && kernel.pass != Pass::Train,
        loss_scale: launch.loss_scale,
        // SAFETY: `arguments` found it aligned; the caller answers for the memory.
        random: (!launch.random.is_null())
            .then(|| unsafe { *(launch.random.0 as *const u64) }.wrapping_add(launch.random_offset)),
    };
    Plan::new(kernel, launch, &choices).run(&surroundings, launch)
}

/// The tasks of a launch and the seeds they belong to.
struct Plan<'a, T> {
    tasks: Vec<Task<T>>,
    active: Vec<Active<'a, T>>,
    /// By seed: its position in `active`.
    position: Vec<Option<usize>>,
    sums: usize,
    work: usize,
}

impl<'a, T: Real> Plan<'a, T> {
    fn new(kernel: &'a Loaded, launch: &Launch<'_>, choices: &[Choice]) -> Self {
        let running = choices.iter().filter(|choice| matches!(choice, Choice::Run { .. })).count();
        let blocks = (TASKS / running.max(1)).max(1);
        let active_rows = launch.rows.div_ceil(blocks).next_multiple_of(ROWS);
        let chunk = kernel.chunk;
        let mut plan =
            Plan { tasks: Vec::new(), active: Vec::new(), position: vec![None; choices.len()], sums: 0, work: 0 };
        for (number, choice) in choices.iter().enumerate() {
            let area = Area { row: 0, rows: launch.rows, channel: number * chunk, channels: chunk };
            match choice {
                Choice::Nothing => {}
                Choice::Identity => plan.cut(Some(number), area, identity_rows(chunk), 0),
                Choice::Run { frozen, branch, slot } => {
                    let code = if *frozen { &kernel.code.frozen } else { &kernel.code.programs };
                    let (procedure, bank) = (&code[*branch], launch.banks[*branch]);
                    // SAFETY: `choose` found the slot within the bank; a procedure without parameters never looks.
                    let slot = |base: u64| unsafe {
                        let base = base as *mut T;
                        if base.is_null() { base } else { base.add(slot * bank.size) }
                    };
                    // SAFETY: `arguments` found an alpha for every seed.
                    let alpha = unsafe { *(launch.alpha.0 as *const f32).add(number) };
                    let seed = Seed { procedure, parameters: slot(bank.parameters.0).cast_const(), alpha, number };
                    let (first_task, first_sum) = (plan.tasks.len(), plan.sums);
                    // A seed of one task needs no room for its sums: the task goes through with it.
                    let elements = if launch.rows > active_rows { procedure.accumulators.elements } else { 0 };
                    plan.cut(Some(number), area, active_rows, elements);
                    plan.position[number] = Some(plan.active.len());
                    plan.active.push(Active {
                        number,
                        seed,
                        gradient: slot(bank.gradient.0),
                        first_sum,
                        tasks: plan.tasks.len() - first_task,
                    });
                    plan.work = plan.work.saturating_add(work(procedure).saturating_mul(launch.rows));
                }
            }
        }
        let tail = launch.hidden - choices.len() * chunk;
        if tail > 0 && kernel.pass != Pass::Train {
            let area = Area { row: 0, rows: launch.rows, channel: choices.len() * chunk, channels: tail };
            plan.cut(None, area, identity_rows(tail), 0);
        }
        plan.work = plan.work.saturating_add(launch.rows.saturating_mul(launch.hidden) / 16);
        plan
    }

    /// Cuts an area into tasks of so many rows, each with so many sums.
    fn cut(&mut self, seed: Option<usize>, area: Area, rows: usize, sums: usize) {
        for row in (area.row..area.row + area.rows).step_by(rows) {
            let rows = rows.min(area.row + area.rows - row);
            let mut found = [0.0; telemetry::COLUMNS];
            (found[telemetry::MIN], found[telemetry::MAX]) = (f64::INFINITY, f64::NEG_INFINITY);
            self.tasks.push(Task { seed, area: Area { row, rows, ..area }, sums: std::ptr::null_mut(), found });
            self.sums += sums;
        }
    }

    fn run<E: Element<Real = T>>(mut self, surroundings: &Surroundings<E>, launch: &Launch<'_>) -> Result<()> {
        let mut sums = vec![T::ZERO; self.sums];
        let (first_sum, mut next) = (sums.as_mut_ptr(), 0);
        for task in &mut self.tasks {
            let own = task.seed.and_then(|seed| self.position[seed]);
            let own = own.map_or(0, |active| self.active[active].sums_of_a_task());
            // SAFETY: `cut` counted as many sums as are given out here.
            task.sums = unsafe { first_sum.add(next) };
            next += own;
        }
        let parallel = self.work > INLINE_WORK;
        let (active, position) = (&self.active, &self.position);
        pool::for_each(parallel, &mut self.tasks, |_, task| {
            let mut seen = Statistics::default();
            // SAFETY: tasks are apart from each other, `arguments` found the tensors large enough, and `decode` checked
            // the procedures.
            unsafe {
                match task.seed.map(|seed| position[seed]) {
                    None => surroundings.identity(task.area, None),
                    Some(None) => surroundings.identity(task.area, Some(&mut seen)),
                    Some(Some(running)) if active[running].tasks == 1 => {
                        let active = &active[running];
                        let hand_on = |destination, values: &[T]| hand_on(active, launch, destination, values);
                        surroundings.whole(&active.seed, task.area, &mut seen, hand_on);
                    }
                    Some(Some(running)) => {
                        surroundings.rows(&active[running].seed, task.area, task.sums, &mut seen);
                    }
                }
            }
            seen.add_to(&mut task.found);
        })?;
        self.finish(surroundings, launch, &sums, parallel)?;
        if !launch.telemetry.is_null() {
            for task in &self.tasks {
                if let Some(seed) = task.seed {
                    // SAFETY: the telemetry array has a row for every seed.
                    let columns = unsafe { &mut *(launch.telemetry.0 as *mut [f64; telemetry::COLUMNS]).add(seed) };
                    add(columns, &task.found);
                }
            }
        }
        Ok(())
    }

    /// Hands on what each seed's tasks accumulated, if it has more than one.
    fn finish<E: Element<Real = T>>(
        &mut self,
        surroundings: &Surroundings<E>,
        launch: &Launch<'_>,
        sums: &[T],
        parallel: bool,
    ) -> Result<()> {
        // Waking threads for nothing would cost a short launch more than they brought it.
        let parallel = parallel && self.active.iter().any(|active| active.tasks > 1);
        pool::for_each(parallel, &mut self.active, |_, active| {
            let procedure = active.seed.procedure;
            if procedure.outputs.is_empty() || active.tasks == 1 {
                return;
            }
            let own = &sums[active.first_sum..][..active.tasks * active.sums_of_a_task()];
            let hand_on = |destination, values: &[T]| {
                // SAFETY: `choose` found the gradients within the slot and no two seeds with the same slot; the arrays
                // have an element for each seed.
                unsafe { hand_on(active, launch, destination, values) }
            };
            // SAFETY: as in `run`.
            unsafe { surroundings.finish(&active.seed, own, hand_on) }
        })
    }
}

/// Adds an output to where it belongs.
///
/// # Safety
/// The arrays of the launch are valid, and nobody else adds for this seed.
unsafe fn hand_on<T: Real>(active: &Active<'_, T>, launch: &Launch<'_>, destination: Destination, values: &[T]) {
    // SAFETY: the caller's promise.
    unsafe {
        match destination {
            Destination::ParameterGradient(first) => {
                for (position, value) in values.iter().enumerate() {
                    *active.gradient.add(first + position) += *value;
                }
            }
            Destination::AlphaGradient if !launch.alpha_gradient.is_null() => {
                *(launch.alpha_gradient.0 as *mut f32).add(active.number) += values[0].to_f64() as f32;
            }
            Destination::Loss => {
                let loss = (launch.loss.0 as *mut f64).add(2 * active.number);
                *loss += values[0].to_f64();
                *loss.add(1) += 1.0;
            }
            Destination::AlphaGradient | Destination::Row => {}
        }
    }
}

/// Rows of a task that copies so many channels.
fn identity_rows(channels: usize) -> usize {
    (IDENTITY_ELEMENTS / channels.max(1)).max(1).next_multiple_of(ROWS)
}

fn work(procedure: &Procedure) -> usize {
    procedure.work / 8 + 1
}

/// Adds the columns of a task to a seed's.
fn add(columns: &mut [f64; telemetry::COLUMNS], found: &[f64; telemetry::COLUMNS]) {
    for (column, (sum, number)) in columns.iter_mut().zip(found).enumerate() {
        *sum = match column {
            telemetry::MIN => sum.min(*number),
            telemetry::MAX => sum.max(*number),
            _ => *sum + *number,
        };
    }
}

/// Refuses what `E` is not: a launch picks its element type from the kernel's.
pub fn dispatch(kernel: &Loaded, arguments: &Launch<'_>) -> Result<()> {
    match kernel.data_type {
        DataType::F32 => launch::<f32>(kernel, arguments),
        DataType::F16 => launch::<half::f16>(kernel, arguments),
        DataType::BF16 => launch::<half::bf16>(kernel, arguments),
        DataType::F64 => launch::<f64>(kernel, arguments),
        other => fail!(TypeMismatch, "no layer runs on {} tensors", other.name()),
    }
}
