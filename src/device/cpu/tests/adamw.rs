//! AdamW against torch and against a plain f64 form.

use super::scene::{Memory, Numbers, close, decode, encode};
use crate::device::cpu::device;
use crate::device::{Adamw, Address, Stream};
use crate::graph::DataType;

/// Hyperparameters, and slots of a bank in host memory.
struct Bank {
    double: bool,
    size: usize,
    parameters: Memory,
    first: Memory,
    second: Memory,
    steps: Memory,
    mode: Memory,
    marks: Memory,
}

impl Bank {
    fn new(double: bool, size: usize, parameters: &[f64], mode: &[u8]) -> Bank {
        let data_type = if double { DataType::F64 } else { DataType::F32 };
        let zero = encode(&vec![0.0; parameters.len()], data_type);
        Bank {
            double,
            size,
            parameters: Memory::new(&encode(parameters, data_type)),
            first: Memory::new(&zero),
            second: Memory::new(&zero),
            steps: Memory::of(&vec![0u32; mode.len()]),
            mode: Memory::of(mode),
            marks: Memory::of(&vec![0u8; mode.len()]),
        }
    }

    fn data_type(&self) -> DataType {
        if self.double { DataType::F64 } else { DataType::F32 }
    }

    fn step(&mut self, gradient: &[f64]) {
        let mut gradient = Memory::new(&encode(gradient, self.data_type()));
        let update = Adamw {
            double: self.double,
            parameters: self.parameters.address(),
            gradient: gradient.address(),
            first_moment: self.first.address(),
            second_moment: self.second.address(),
            steps: self.steps.address(),
            mode: self.mode.address(),
            updated: 1,
            non_finite: self.marks.address(),
            capacity: self.mode.bytes().len(),
            size: self.size,
            learning_rate: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.1,
        };
        device().adamw(&update, Stream::default()).unwrap();
    }

    fn numbers(&self) -> [Vec<f64>; 3] {
        [&self.parameters, &self.first, &self.second].map(|memory| decode(&memory.bytes(), self.data_type()))
    }
}

/// ```python
/// p = torch.tensor([0.5, -1.25, 2.0, 1e-3], dtype=dtype, requires_grad=True)
/// o = torch.optim.AdamW([p], lr=0.01, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.1)
/// for g in ([0.1, -0.2, 0.3, 1e-4], [0.05, 0.4, -0.3, -2e-4], [-1.0, 0.25, 3.0, 0.0]):
///     p.grad = torch.tensor(g, dtype=dtype); o.step()
/// p, o.state[p]["exp_avg"], o.state[p]["exp_avg_sq"]
/// ```
#[test]
fn three_steps_give_the_numbers_of_torch() {
    let single = [
        [0.48475775122642517, -1.2455195188522339, 1.9782835245132446, -0.002495093736797571],
        [-0.08740000426769257, 0.04480000212788582, 0.2973000109195709, -9.899999895424116e-06],
        [0.001012477558106184, 0.0002622600586619228, 0.009179729968309402, 4.994001046032537e-11],
    ];
    let double = [
        [0.48475773805176225, -1.2455194954415416, 1.9782834152886717, -0.002495094468348845],
        [-0.08739999999999998, 0.04479999999999999, 0.29729999999999995, -9.899999999999998e-06],
        [0.001012477510000001, 0.0002622600400000003, 0.009179730090000008, 4.994001000000004e-11],
    ];
    for (is_double, expected) in [(false, single), (true, double)] {
        let mut bank = Bank::new(is_double, 4, &[0.5, -1.25, 2.0, 1e-3], &[1]);
        for gradient in [[0.1, -0.2, 0.3, 1e-4], [0.05, 0.4, -0.3, -2e-4], [-1.0, 0.25, 3.0, 0.0]] {
            bank.step(&gradient);
        }
        // Two units in the last place: torch's loop may fuse a multiplication and an addition.
        let tolerance = if is_double { 4e-16 } else { 2.4e-7 };
        for (numbers, expected) in bank.numbers().iter().zip(expected) {
            for (number, expected) in numbers.iter().zip(expected) {
                assert!((number - expected).abs() <= tolerance * expected.abs(), "{number} is not {expected}");
            }
        }
        assert_eq!(bank.steps.numbers::<u32>(), [3]);
    }
}

#[test]
fn many_large_slots_agree_with_a_plain_form_and_other_modes_keep_their_bits() {
    let (size, modes) = (40_000, [1u8, 0, 1, 2]);
    let mut numbers = Numbers(3);
    let parameters = numbers.list(size * 4);
    let mut bank = Bank::new(true, size, &parameters, &modes);
    let (mut p, mut m, mut v) = (parameters.clone(), vec![0.0; size * 4], vec![0.0; size * 4]);
    for step in 1..=3 {
        let gradient = numbers.list(size * 4);
        bank.step(&gradient);
        for place in (0..size * 4).filter(|place| modes[place / size] == 1) {
            let g = gradient[place];
            m[place] = 0.9 * m[place] + 0.1 * g;
            v[place] = 0.999 * v[place] + 0.001 * g * g;
            let (mean, square) = (m[place] / (1.0 - 0.9f64.powi(step)), v[place] / (1.0 - 0.999f64.powi(step)));
            p[place] -= 0.01 * 0.1 * p[place];
            p[place] -= 0.01 * mean / (square.sqrt() + 1e-8);
        }
    }
    let [parameters_now, first, second] = bank.numbers();
    close("parameters", &parameters_now, &p, 1e-13);
    close("first moment", &first, &m, 1e-13);
    close("second moment", &second, &v, 1e-13);
    assert_eq!(parameters_now[size..2 * size], parameters[size..2 * size]);
    assert_eq!(bank.steps.numbers::<u32>(), [3, 0, 3, 0]);
    assert_eq!(bank.marks.numbers::<u8>(), [0; 4]);
}

#[test]
fn a_gradient_that_is_not_finite_skips_its_slot_alone() {
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut bank = Bank::new(false, 3, &[1.0; 9], &[1, 1, 1]);
        bank.step(&[0.5, 0.5, 0.5, 0.5, bad, 0.5, 0.5, 0.5, 0.5]);
        let [parameters, first, _] = bank.numbers();
        assert_eq!(parameters[3..6], [1.0; 3]);
        assert_eq!(first[3..6], [0.0; 3]);
        assert!(parameters[..3].iter().chain(&parameters[6..]).all(|parameter| *parameter < 1.0));
        assert_eq!(bank.marks.numbers::<u8>(), [0, 1, 0]);
        assert_eq!(bank.steps.numbers::<u32>(), [1, 0, 1]);
        bank.step(&[0.5; 9]);
        assert_eq!(bank.steps.numbers::<u32>(), [2, 1, 2]);
        assert_eq!(bank.marks.numbers::<u8>(), [0, 1, 0], "the mark stays until somebody clears it");
    }
}

#[test]
fn missing_arrays_are_refused_and_an_empty_bank_is_fine() {
    let mut bank = Bank::new(false, 0, &[], &[1, 1]);
    bank.step(&[]);
    let nothing = Adamw {
        double: false,
        parameters: Address::NULL,
        gradient: Address::NULL,
        first_moment: Address::NULL,
        second_moment: Address::NULL,
        steps: Address::NULL,
        mode: Address::NULL,
        updated: 1,
        non_finite: Address::NULL,
        capacity: 1,
        size: 1,
        learning_rate: 0.01,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.1,
    };
    assert!(device().adamw(&nothing, Stream::default()).unwrap_err().message().contains("parameters array is null"));
    assert!(device().adamw(&Adamw { capacity: 0, ..nothing }, Stream::default()).is_ok());
}
