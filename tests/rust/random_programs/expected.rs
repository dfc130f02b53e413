//! What a launch must leave behind, by the reference interpreter, row by row.

use crate::case::{Case, Found, decode, encode};
use kasmina::compile::{Destination, Pass, Source, reference};
use kasmina::device::telemetry;
use kasmina::graph::{DataType, RowInput};

impl Case {
    /// What is wrong with what was found.
    pub fn compare(&self, found: &Found) -> Result<(), String> {
        let (pass, chunk, data_type) = (self.class.pass, self.class.chunk, self.class.data_type);
        let fallback = if pass == Pass::Backward { &self.output_gradient } else { &self.x };
        let mut gradients: Vec<Vec<f64>> = self.banks.iter().map(|bank| bank.gradient.clone()).collect();
        let mut alphas = self.alpha_gradient.clone().unwrap_or_default();
        let mut losses = self.loss.clone();
        let mut telemetry = self.telemetry.clone().unwrap_or_default();
        // By element: the number, and whether its bits must be those.
        let mut output: Vec<(f64, bool)> = self.output().numbers.iter().map(|number| (*number, true)).collect();
        let lies = self.output();
        let mut put = |row: usize, channel: usize, numbers: &[f64], exact: bool| {
            for (position, number) in numbers.iter().enumerate() {
                output[lies.place(row, channel + position)] = (*number, exact);
            }
        };
        for seed in 0..self.seeds {
            let channel = seed * chunk;
            let mut fallen = 0;
            for row in 0..self.rows {
                let rows = [&self.x, &self.output_gradient, &self.target].map(|it| self.chunk(it, row, channel, chunk));
                if !telemetry.is_empty() {
                    observe(pass, &rows, &mut telemetry[seed * telemetry::COLUMNS..][..telemetry::COLUMNS]);
                }
                let instead = self.chunk(fallback, row, channel, chunk);
                let Some((program, branch)) = self.program(seed) else {
                    put(row, channel, &instead, true);
                    continue;
                };
                let bank = &self.banks[branch];
                let first = self.slot[seed] as usize * bank.size;
                let outputs = reference::run(
                    program,
                    &reference::Inputs {
                        rows: 1,
                        x: &rows[0],
                        output_gradient: &rows[1],
                        target: &rows[2],
                        parameters: &bank.parameters[first..first + bank.size],
                        alpha: f64::from(self.alpha[seed].clamp(0.0, 1.0)),
                        loss_scale: self.loss_scale,
                        random: self.random,
                        seed: seed as u32,
                        first_row: row as u64,
                    },
                )
                .unwrap();
                fallen += outputs.fallback_rows;
                let own = program.outputs.iter().any(|output| {
                    let value = &program.values[output.value.index()];
                    output.target == Destination::Row && value.source == Source::Row(RowInput::X)
                });
                put(row, channel, &outputs.rows, outputs.fallback_rows > 0 || own);
                let gradient = &mut gradients[branch][first..first + bank.size];
                gradient.iter_mut().zip(&outputs.parameter_gradient).for_each(|(sum, number)| *sum += number);
                if !alphas.is_empty() {
                    alphas[seed] += outputs.alpha_gradient as f32;
                }
                losses[2 * seed] += outputs.loss;
            }
            if !telemetry.is_empty() && pass != Pass::Backward {
                telemetry[seed * telemetry::COLUMNS + telemetry::FALLBACK_ROWS] += fallen as f64;
            }
            if pass == Pass::Train && self.rows > 0 && self.program(seed).is_some() {
                losses[2 * seed + 1] += 1.0;
            }
        }
        let tail = self.seeds * chunk;
        for row in 0..self.rows {
            put(row, tail, &self.chunk(fallback, row, tail, self.hidden - tail), true);
        }
        let (computed, rounded) = match data_type {
            DataType::F64 => (1e-9, 1e-9),
            DataType::F32 => (3e-4, 3e-4),
            DataType::F16 => (3e-4, 2e-3),
            _ => (3e-4, 1e-2),
        };
        if pass == Pass::Train {
            output = self.output().numbers.iter().map(|number| (*number, true)).collect();
        }
        let bits = encode(data_type, &output.iter().map(|(number, _)| *number).collect::<Vec<_>>());
        let numbers = decode(data_type, &found.output);
        for (position, (number, exact)) in output.iter().enumerate() {
            let bytes = position * data_type.bytes()..(position + 1) * data_type.bytes();
            let same = found.output[bytes.clone()] == bits[bytes];
            if !same && (*exact && !number.is_nan() || !close(*number, numbers[position], rounded)) {
                let mut places = (0..self.rows).flat_map(|row| (0..self.hidden).map(move |channel| (row, channel)));
                let place = places.find(|(row, channel)| lies.place(*row, *channel) == position);
                let found = numbers[position];
                return Err(format!("output element {position}, (row, channel) {place:?}: {number:e}, not {found:e}"));
            }
        }
        for (branch, (expected, found)) in gradients.iter().zip(&found.gradients).enumerate() {
            all_close(&format!("gradient of branch {branch}"), expected, found, computed)?;
        }
        let widen = |numbers: &[f32]| -> Vec<f64> { numbers.iter().map(|number| f64::from(*number)).collect() };
        all_close("alpha gradient", &widen(&alphas), &widen(&found.alpha_gradient), computed.max(1e-5))?;
        all_close("loss", &losses, &found.loss, computed)?;
        all_close("telemetry", &telemetry, &found.telemetry, computed.max(1e-6))
    }
}

/// What the telemetry of a pass adds for the chunk of one row.
fn observe(pass: Pass, [x, output_gradient, _]: &[Vec<f64>; 3], row: &mut [f64]) {
    let finite = |number: &&f64| number.is_finite();
    match pass {
        Pass::Forward => {
            row[telemetry::COUNT] += x.len() as f64;
            for number in x.iter().filter(finite) {
                row[telemetry::SUM] += number;
                row[telemetry::SQUARES] += number * number;
                row[telemetry::MIN] = row[telemetry::MIN].min(*number);
                row[telemetry::MAX] = row[telemetry::MAX].max(*number);
                row[telemetry::DEAD] += f64::from(u8::from(number.abs() < telemetry::DEAD_BELOW));
            }
            let pairs = x.windows(2).filter(|pair| pair.iter().all(|number| number.is_finite()));
            row[telemetry::NEIGHBOURS] += pairs.map(|pair| pair[0] * pair[1]).sum::<f64>();
            row[telemetry::NON_FINITE] += x.iter().filter(|number| !number.is_finite()).count() as f64;
        }
        Pass::Backward => {
            let squares = output_gradient.iter().filter(finite).map(|number| number * number);
            row[telemetry::GRADIENT_SQUARES] += squares.sum::<f64>();
        }
        Pass::Train => {}
    }
}

fn all_close(name: &str, expected: &[f64], found: &[f64], tolerance: f64) -> Result<(), String> {
    assert_eq!(expected.len(), found.len());
    let differs = |position: &usize| !close(expected[*position], found[*position], tolerance);
    match (0..expected.len()).find(differs) {
        Some(at) => Err(format!("{name}, element {at}: {:e}, not {:e}", expected[at], found[at])),
        None => Ok(()),
    }
}

fn close(expected: f64, found: f64, tolerance: f64) -> bool {
    expected == found
        || expected.is_nan() && found.is_nan()
        || (expected - found).abs() <= tolerance * (1.0 + expected.abs()) && found.is_finite()
}
