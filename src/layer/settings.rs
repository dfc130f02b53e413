//! What a layer can be told: every threshold, limit and rate, each with its default.

use super::grafting::MAXIMUM_RAMP_STEPS;
use crate::{Result, fail};
use serde::{Deserialize, Serialize};

/// The settings of a layer. In JSON every field may be left out; an unknown one is an error.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What reports call the layer.
    pub layer_id: String,
    /// From this, the seed's number and how often it has germinated follow the parameters of a new germination.
    pub random_seed: u64,
    /// How many seeds may be in states 1 to 6 at once.
    pub max_active_seeds: u32,
    /// How many bytes of device memory seeds may hold at once: for each seed with a slot its parameters, their gradient, and
    /// what optimisers keep of them. `None` is as many as the banks have.
    pub max_seed_bytes: Option<u64>,
    /// Epochs a culled seed must wait before it can be reset.
    pub embargo_epochs: u16,
    /// Epochs in which a fixed ramp takes alpha from 0 to 1; 1 to 1000.
    pub ramp_steps: u32,
    /// Whether a seed that fell back to identity in some row is kept from every promotion.
    pub fallback_blocks_promotion: bool,
    /// Whether the tensor cores of a CUDA device may multiply f32 rounded to TF32, which has 11 bits, instead of as exactly as
    /// f32 allows. As `torch.backends.cuda.matmul.allow_tf32`; the CPU ignores it.
    pub allow_tf32: bool,
    /// How long a seed must have been in a state before it may be promoted.
    pub minimum_epochs: MinimumEpochs,
    /// Constants of the other grafting strategies.
    pub grafting: GraftingSettings,
    /// Thresholds of the gates.
    pub gates: GateSettings,
    /// Isolated training.
    pub training: TrainingSettings,
    /// The circuit breakers of the layer and its blueprints.
    pub breakers: BreakerSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            layer_id: "layer".to_owned(),
            random_seed: 0,
            max_active_seeds: 100_000,
            max_seed_bytes: None,
            embargo_epochs: 3,
            ramp_steps: 30,
            fallback_blocks_promotion: true,
            allow_tf32: false,
            minimum_epochs: MinimumEpochs::default(),
            grafting: GraftingSettings::default(),
            gates: GateSettings::default(),
            training: TrainingSettings::default(),
            breakers: BreakerSettings::default(),
        }
    }
}

/// Epochs that a seed spends in a state at least, before the next promotion.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MinimumEpochs {
    /// In GERMINATED.
    pub germinated: u16,
    /// In TRAINING.
    pub training: u16,
    /// In GRAFTING.
    pub grafting: u16,
    /// In STABILIZATION.
    pub stabilization: u16,
    /// In EVALUATING.
    pub evaluating: u16,
    /// In FINE_TUNING.
    pub fine_tuning: u16,
}

impl Default for MinimumEpochs {
    fn default() -> Self {
        Self { germinated: 1, training: 1, grafting: 1, stabilization: 1, evaluating: 1, fine_tuning: 1 }
    }
}

/// Constants of the grafting strategies 1 to 3.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GraftingSettings {
    /// By how much alpha rises in an epoch in which nothing speaks against it; 0.001 to 1.
    pub base_rate: f64,
    /// PERFORMANCE_LINKED: how much of the momentum stays from one epoch to the next.
    pub momentum: f64,
    /// PERFORMANCE_LINKED: how many times `base_rate` is added for a momentum of 1.
    pub gain: f64,
    /// DRIFT_CONTROLLED and GRAD_NORM_GATED: how much of the running mean stays from one epoch to the next.
    pub mean_decay: f64,
    /// DRIFT_CONTROLLED: how far the chunk's root mean square may be from its running mean, as a fraction of the mean.
    pub drift_limit: f64,
    /// GRAD_NORM_GATED: least gradient norm.
    pub gradient_norm_low: f64,
    /// GRAD_NORM_GATED: greatest gradient norm.
    pub gradient_norm_high: f64,
}

impl Default for GraftingSettings {
    fn default() -> Self {
        Self {
            base_rate: 1.0 / 30.0,
            momentum: 0.9,
            gain: 10.0,
            mean_decay: 0.9,
            drift_limit: 0.12,
            gradient_norm_low: 0.1,
            gradient_norm_high: 1.0,
        }
    }
}

/// Thresholds of the gates.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GateSettings {
    /// STABILIZATION to EVALUATING: how far the chunk's statistics may move from one epoch to the next.
    pub statistics_change: f64,
    /// EVALUATING to FINE_TUNING: the validation delta must be above this.
    pub validation_delta: f64,
    /// EVALUATING to FINE_TUNING: least stability.
    pub evaluation_stability: f64,
    /// EVALUATING to CULLED: a seed that asks for fine-tuning with a validation delta below this is culled.
    pub cull_validation_delta: f64,
    /// The same with an error rate above this.
    pub cull_error_rate: f64,
    /// The same with more errors than this since it germinated.
    pub cull_errors: u16,
    /// FINE_TUNING to FOSSILIZED: least total improvement.
    pub improvement: f64,
    /// FINE_TUNING to FOSSILIZED: least stability.
    pub fossilization_stability: f64,
}

impl Default for GateSettings {
    fn default() -> Self {
        Self {
            statistics_change: 0.2,
            validation_delta: 0.0,
            evaluation_stability: 0.8,
            cull_validation_delta: -0.05,
            cull_error_rate: 0.1,
            cull_errors: 5,
            improvement: 0.01,
            fossilization_stability: 0.95,
        }
    }
}

/// Isolated training: AdamW on the squared error of the blueprint against its target.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainingSettings {
    /// Learning rate.
    pub learning_rate: f64,
    /// Decay of the running mean of the gradient.
    pub beta1: f64,
    /// Decay of the running mean of its square.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub epsilon: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Epochs after which a seed that has not reached the threshold stops training: it has failed.
    pub epoch_limit: u16,
    /// Mean squared error at which a seed stops training: it has succeeded.
    pub loss_threshold: f64,
    /// How many seeds may train at once.
    pub places: u32,
}

impl Default for TrainingSettings {
    fn default() -> Self {
        Self {
            learning_rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.01,
            epoch_limit: 100,
            loss_threshold: 0.01,
            places: 1024,
        }
    }
}

/// When a circuit breaker opens, and what closes it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BreakerSettings {
    /// Failures within the window that open it; 0 is never.
    pub failures: u32,
    /// How long a failure counts.
    pub window_seconds: f64,
    /// How long it stays open before trials may begin.
    pub open_seconds: f64,
    /// Seeds that may try at once while it is half open, and epochs that have to pass without a failure to close it.
    pub trials: u32,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 3, window_seconds: 60.0, open_seconds: 60.0, trials: 3 }
    }
}

impl Settings {
    /// Reads settings from JSON and checks them.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` naming the field.
    pub fn from_json(bytes: &[u8]) -> Result<Settings> {
        let settings: Settings = serde_json::from_slice(bytes)
            .map_err(|cause| crate::error!(InvalidArgument, "these are not layer settings").caused_by(cause))?;
        settings.check()?;
        Ok(settings)
    }

    /// Refuses numbers that mean nothing.
    ///
    /// # Errors
    ///
    /// `InvalidArgument` naming the field, its value and what it may be.
    pub fn check(&self) -> Result<()> {
        if !(1..=MAXIMUM_RAMP_STEPS).contains(&self.ramp_steps) {
            fail!(InvalidArgument, "ramp_steps is {}; a ramp takes 1 to {MAXIMUM_RAMP_STEPS} epochs", self.ramp_steps);
        }
        if self.breakers.trials == 0 {
            fail!(InvalidArgument, "breakers.trials is 0; a breaker that opened would stay open for good");
        }
        let (gates, training, grafting) = (&self.gates, &self.training, &self.grafting);
        let slowest = 1.0 / f64::from(MAXIMUM_RAMP_STEPS);
        if !(slowest..=1.0).contains(&grafting.base_rate) {
            fail!(InvalidArgument, "grafting.base_rate is {}; it must be in [{slowest}, 1]", grafting.base_rate);
        }
        let (low, high) = (grafting.gradient_norm_low, grafting.gradient_norm_high);
        if low > high {
            fail!(InvalidArgument, "grafting.gradient_norm_low is {low}, above grafting.gradient_norm_high, {high}");
        }
        for (name, value) in [
            ("gates.statistics_change", gates.statistics_change),
            ("gates.evaluation_stability", gates.evaluation_stability),
            ("gates.cull_error_rate", gates.cull_error_rate),
            ("gates.fossilization_stability", gates.fossilization_stability),
            ("grafting.gain", grafting.gain),
            ("grafting.drift_limit", grafting.drift_limit),
            ("grafting.gradient_norm_low", low),
            ("grafting.gradient_norm_high", high),
            ("breakers.window_seconds", self.breakers.window_seconds),
            ("breakers.open_seconds", self.breakers.open_seconds),
            ("training.learning_rate", training.learning_rate),
            ("training.weight_decay", training.weight_decay),
            ("training.epsilon", training.epsilon),
            ("training.loss_threshold", training.loss_threshold),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                fail!(InvalidArgument, "{name} is {value}; it must be a number not below 0");
            }
        }
        for (name, value) in [
            ("gates.validation_delta", gates.validation_delta),
            ("gates.cull_validation_delta", gates.cull_validation_delta),
            ("gates.improvement", gates.improvement),
        ] {
            if !value.is_finite() {
                fail!(InvalidArgument, "{name} is {value}; it must be a finite number");
            }
        }
        for (name, value) in [
            ("grafting.momentum", grafting.momentum),
            ("grafting.mean_decay", grafting.mean_decay),
            ("training.beta1", training.beta1),
            ("training.beta2", training.beta2),
        ] {
            if !(0.0..1.0).contains(&value) {
                fail!(InvalidArgument, "{name} is {value}; it must be in [0, 1)");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_setting_has_a_default_and_json_gives_back_what_it_was_given() {
        assert_eq!(Settings::from_json(b"{}").unwrap(), Settings::default());
        let settings = Settings {
            ramp_steps: 7,
            training: TrainingSettings { learning_rate: 0.1 + 0.2, ..TrainingSettings::default() },
            ..Settings::default()
        };
        assert_eq!(Settings::from_json(&serde_json::to_vec(&settings).unwrap()).unwrap(), settings);
    }

    #[test]
    fn the_documentation_lists_every_setting_and_its_default() {
        fn list(prefix: &str, fields: &serde_json::Map<String, serde_json::Value>, rows: &mut BTreeSet<String>) {
            for (name, value) in fields {
                match value {
                    serde_json::Value::Object(fields) => list(&format!("{prefix}{name}."), fields, rows),
                    value => drop(rows.insert(format!("`{prefix}{name}` | {value}").replace('"', ""))),
                }
            }
        }
        let settings = serde_json::to_value(Settings::default()).unwrap();
        let mut expected = BTreeSet::new();
        list("", settings.as_object().unwrap(), &mut expected);
        let rows = include_str!("../../docs/settings.md").lines().filter_map(|line| line.strip_prefix("| `"));
        let found = rows.map(|row| format!("`{}", row.rsplit_once(" | ").unwrap().0));
        assert_eq!(found.collect::<BTreeSet<_>>(), expected);
    }

    #[test]
    fn unknown_fields_and_numbers_that_mean_nothing_are_refused_by_name() {
        for (json, word) in [
            (r#"{"ramp_step": 3}"#, "ramp_step"),
            (r#"{"training": {"lr": 1}}"#, "lr"),
            (r#"{"ramp_steps": 0}"#, "ramp_steps is 0"),
            (r#"{"ramp_steps": 1001}"#, "ramp_steps is 1001"),
            (r#"{"training": {"learning_rate": -1}}"#, "training.learning_rate is -1"),
            (r#"{"training": {"beta2": 1}}"#, "training.beta2 is 1"),
            (r#"{"grafting": {"base_rate": 0}}"#, "grafting.base_rate is 0"),
            (r#"{"grafting": {"momentum": 1}}"#, "grafting.momentum is 1"),
            (r#"{"grafting": {"mean_decay": -0.1}}"#, "grafting.mean_decay is -0.1"),
            (r#"{"grafting": {"drift_limit": -1}}"#, "grafting.drift_limit is -1"),
            (r#"{"grafting": {"gradient_norm_low": 2}}"#, "grafting.gradient_norm_low is 2"),
            (r#"{"gates": {"statistics_change": -0.1}}"#, "gates.statistics_change is -0.1"),
            (r#"{"breakers": {"open_seconds": -1}}"#, "breakers.open_seconds is -1"),
            (r#"{"breakers": {"trials": 0}}"#, "breakers.trials is 0"),
        ] {
            let error = Settings::from_json(json.as_bytes()).unwrap_err();
            assert!(error.to_string().contains(word), "{error}");
        }
    }
}
