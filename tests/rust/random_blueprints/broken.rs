//! Broken kernels and broken gradients: each check of the validation refuses its own, and says which.

use kasmina::compile::{Architecture, Expression, KernelClass, Pass, Program, Unary, codegen, kernel_class};
use kasmina::device::{self, Adamw, Address, Device, DeviceKind, Kernel, Launch, Stream};
use kasmina::graph::{Attributes, Blueprint, DataType, library};
use kasmina::{Result, Status, validate};
use std::sync::Arc;

const STREAM: Stream = Stream(0);

/// The CPU, whose kernels do something more when they ran.
struct Sabotage {
    device: Arc<dyn Device>,
    after: fn(&dyn Device, &Launch<'_>),
}

impl Device for Sabotage {
    fn kind(&self) -> DeviceKind {
        self.device.kind()
    }
    fn description(&self) -> String {
        self.device.description()
    }
    fn architecture(&self) -> Architecture {
        self.device.architecture()
    }
    fn allocate(&self, bytes: usize) -> Result<Address> {
        self.device.allocate(bytes)
    }
    fn free(&self, address: Address, bytes: usize) {
        self.device.free(address, bytes);
    }
    fn upload(&self, to: Address, from: &[u8], stream: Stream) -> Result<()> {
        self.device.upload(to, from, stream)
    }
    fn download(&self, to: &mut [u8], from: Address, stream: Stream) -> Result<()> {
        self.device.download(to, from, stream)
    }
    fn copy(&self, to: Address, from: Address, bytes: usize, stream: Stream) -> Result<()> {
        self.device.copy(to, from, bytes, stream)
    }
    fn zero(&self, to: Address, bytes: usize, stream: Stream) -> Result<()> {
        self.device.zero(to, bytes, stream)
    }
    fn synchronize(&self, stream: Stream) -> Result<()> {
        self.device.synchronize(stream)
    }
    fn load(&self, class: &KernelClass, machine_code: &[u8]) -> Result<Kernel> {
        self.device.load(class, machine_code)
    }
    fn launch(&self, kernel: &Kernel, launch: &Launch<'_>, stream: Stream) -> Result<()> {
        self.device.launch(kernel, launch, stream)?;
        (self.after)(&*self.device, launch);
        Ok(())
    }
    fn adamw(&self, update: &Adamw, stream: Stream) -> Result<()> {
        self.device.adamw(update, stream)
    }
}

fn blueprint() -> Blueprint {
    library("bottleneck", 12, &Attributes::new()).unwrap()
}

fn class(pass: Pass, data_type: DataType) -> KernelClass {
    kernel_class(pass, data_type, true, &[&blueprint()]).unwrap()
}

/// What validation says of the kernel of one class that stands for another one, on a device that does more.
fn verdict(class: &KernelClass, compiled: &KernelClass, after: fn(&dyn Device, &Launch<'_>)) -> Result<()> {
    let device: Arc<dyn Device> = Arc::new(Sabotage { device: device::open(DeviceKind::Cpu).unwrap(), after });
    let kernel = device.load(compiled, &codegen::cpu::compile(compiled).unwrap()).unwrap();
    validate::launches(&device, class, &kernel, &[&blueprint()], STREAM)
}

#[track_caller]
fn refused(verdict: Result<()>, check: &str) {
    let error = verdict.expect_err(check);
    assert_eq!(error.status(), Status::ValidationFailed, "{error}");
    assert!(error.to_string().contains(check), "`{error}` does not say `{check}`");
}

/// One thing a kernel does too much: where it writes, and what.
fn damage(class: &KernelClass, check: &str, after: fn(&dyn Device, &Launch<'_>)) {
    verdict(class, class, |_, _| {}).unwrap();
    refused(verdict(class, class, after), check);
}

const TYPES: [DataType; 4] = [DataType::F32, DataType::F16, DataType::BF16, DataType::F64];

#[test]
fn a_write_outside_of_an_array_is_seen() {
    let (f32, train) = (class(Pass::Forward, DataType::F32), class(Pass::Train, DataType::F32));
    damage(&f32, "beyond the end of the output", |device, launch| {
        let elements = launch.rows * launch.output.stride;
        device.upload(launch.output.address.offset(4 * elements), &[0], STREAM).unwrap();
    });
    damage(&f32, "bytes before the output", |device, launch| {
        device.upload(Address(launch.output.address.0 - 4), &[0; 4], STREAM).unwrap();
    });
    damage(&f32, "beyond the end of row 1", |device, launch| {
        let gap = launch.output.stride + launch.hidden;
        device.upload(launch.output.address.offset(4 * gap), &[0; 4], STREAM).unwrap();
    });
    damage(&f32, "beyond the end of the telemetry", |device, launch| {
        device.upload(launch.telemetry.offset(launch.seeds * 80), &[0], STREAM).unwrap();
    });
    damage(&train, "beyond the end of the gradients of the parameters", |device, launch| {
        let bank = &launch.banks[0];
        device.upload(bank.gradient.offset(4 * bank.capacity * bank.size), &[0; 4], STREAM).unwrap();
    });
    damage(&train, "beyond the end of the losses", |device, launch| {
        device.upload(launch.loss.offset(16 * launch.seeds + 7), &[1], STREAM).unwrap();
    });
}

#[test]
fn an_element_that_is_not_written_is_seen_in_every_type() {
    for data_type in TYPES {
        let check = "leaves row 1, channel 20 (seed 1) of the output unwritten";
        let after: fn(&dyn Device, &Launch<'_>) = match data_type.bytes() {
            2 => |device, launch| {
                device
                    .upload(launch.output.address.offset(2 * (launch.output.stride + 20)), &[0xff; 2], STREAM)
                    .unwrap()
            },
            4 => |device, launch| {
                device
                    .upload(launch.output.address.offset(4 * (launch.output.stride + 20)), &[0xff; 4], STREAM)
                    .unwrap()
            },
            _ => |device, launch| {
                device
                    .upload(launch.output.address.offset(8 * (launch.output.stride + 20)), &[0xff; 8], STREAM)
                    .unwrap()
            },
        };
        damage(&class(Pass::Forward, data_type), check, after);
        damage(&class(Pass::Backward, data_type), check, after);
    }
}

#[test]
fn an_input_that_changes_is_seen() {
    let (forward, backward) = (class(Pass::Forward, DataType::F32), class(Pass::Backward, DataType::F32));
    damage(&forward, "changes its input: byte 8 of the input", |device, launch| {
        device.upload(launch.x.address.offset(8), &[1; 4], STREAM).unwrap();
    });
    damage(&backward, "of the gradient of the output", |device, launch| {
        device.upload(launch.output_gradient.address, &[1; 4], STREAM).unwrap();
    });
    damage(&forward, "of the parameters", |device, launch| {
        device.upload(launch.banks[0].parameters.offset(4), &[1; 4], STREAM).unwrap();
    });
    damage(&forward, "of the states", |device, launch| device.upload(launch.lifecycle, &[3], STREAM).unwrap());
}

/// The last step of some steps computes something else.
fn spoil(steps: &mut [kasmina::compile::Step], with: fn(Expression) -> Expression) {
    let step = steps.last_mut().unwrap();
    step.expression = with(step.expression.clone());
}

fn a_little_larger(exact: Expression) -> Expression {
    Expression::Constant(1.0625) * exact
}

#[test]
fn a_wrong_formula_is_seen_in_every_type() {
    for data_type in TYPES {
        let right = class(Pass::Forward, data_type);
        let mut wrong = right.clone();
        spoil(&mut wrong.programs[0].body, a_little_larger);
        refused(verdict(&right, &wrong, |_, _| {}), "channel");
        let mut wrong = right.clone();
        spoil(&mut wrong.programs[0].body, |exact| Expression::unary(Unary::Neg, exact));
        refused(verdict(&right, &wrong, |_, _| {}), "of the output of seed 1 (GRAFTING) as");
    }
}

#[test]
fn identity_must_copy_and_slots_that_do_not_run_keep_their_gradients() {
    let (forward, train) = (class(Pass::Forward, DataType::F32), class(Pass::Train, DataType::F32));
    damage(&forward, "of the output of seed 0 (DORMANT) as", |device, launch| {
        device.upload(launch.output.address, &1.5f32.to_le_bytes(), STREAM).unwrap();
    });
    damage(&forward, "after the last seed", |device, launch| {
        device.upload(launch.output.address.offset(4 * (launch.hidden - 1)), &1.5f32.to_le_bytes(), STREAM).unwrap();
    });
    damage(&train, "of a slot that does not run", |device, launch| {
        let bank = &launch.banks[0];
        device.upload(bank.gradient.offset(4 * 2 * bank.size), &1.5f32.to_le_bytes(), STREAM).unwrap();
    });
}

#[test]
fn a_kernel_with_wrong_gradients_is_seen_in_every_type() {
    for data_type in TYPES {
        for pass in [Pass::Backward, Pass::Train] {
            let right = class(pass, data_type);
            let mut wrong = right.clone();
            spoil(&mut wrong.programs[0].accumulate, |exact| Expression::unary(Unary::Neg, exact));
            refused(verdict(&right, &wrong, |_, _| {}), "of seed 1");
        }
        let right = class(Pass::Backward, data_type);
        let mut wrong = right.clone();
        spoil(&mut wrong.frozen[0].body, |exact| Expression::unary(Unary::Neg, exact));
        refused(verdict(&right, &wrong, |_, _| {}), "of the output of seed 2 (EVALUATING) as");
    }
}

#[test]
fn programs_with_wrong_gradients_are_refused_although_their_kernels_do_what_they_say() {
    let blueprint = blueprint();
    let refused_program = |pass: Pass, spoil: &dyn Fn(&mut Program), check: &str| {
        let mut class = class(pass, DataType::F32);
        validate::programs(&class, &[&blueprint]).unwrap();
        spoil(&mut class.programs[0]);
        verdict(&class, &class, |_, _| {}).unwrap();
        refused(validate::programs(&class, &[&blueprint]), check);
    };
    for position in 0..3 {
        let spoil_one = move |program: &mut Program| {
            let step = &mut program.accumulate[position];
            step.expression = a_little_larger(step.expression.clone());
        };
        refused_program(Pass::Backward, &spoil_one, "is wrong: along a random direction");
        refused_program(
            Pass::Train,
            &|program| spoil(&mut program.accumulate, a_little_larger),
            "the gradient of the parameter",
        );
    }
    refused_program(Pass::Backward, &|program| spoil(&mut program.body, a_little_larger), "the gradient of");
    let mut class = class(Pass::Backward, DataType::F32);
    spoil(&mut class.frozen[0].body, a_little_larger);
    refused(validate::programs(&class, &[&blueprint]), "the gradient of x is wrong");
}
