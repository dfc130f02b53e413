//! Grafting strategies of the host's own: callbacks that are asked when an epoch ends, with no lock held.

use super::boundary::call;
use super::error::kasmina_error;
use super::kasmina_layer;
use super::layer::LAYERS;
use crate::layer::{Answers, GraftingInput, Inquiry, UserStrategy};
use crate::{Result, Status, fail};
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::Arc;

/// What is known of a seed that grafts when an epoch ends. NAN stands for what is not known.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kasmina_grafting {
    /// sizeof(kasmina_grafting) of the library: a later version may add fields at the end.
    pub struct_size: usize,
    /// Which seed.
    pub seed: u32,
    /// The epoch that is ending; the first is 1.
    pub epoch: u32,
    /// Epochs that ended since the seed began to graft, with this one.
    pub epochs_in_state: u32,
    /// The seed's blend weight so far.
    pub alpha: f32,
    /// The metric that kasmina_layer_set_metric was given for this epoch.
    pub metric: f64,
    /// How much higher it is than the last one that was known.
    pub improvement: f64,
    /// Root mean square of the chunk's finite elements in this epoch, before the seed's blueprint.
    pub root_mean_square: f64,
    /// Root of the sum of the squares of the output gradient's elements in this epoch; 0 without a backward pass.
    pub gradient_norm: f64,
}

/// A strategy: says in `*increment`, which is 0 before, by how much the seed's alpha rises. It must not be below 0; alpha
/// ends at 1. `*memory` is what the strategy remembers of the seed: 0 when it germinates, kept in checkpoints. Returns 0,
/// or any other number if it failed: then alpha and memory stay as they are, and the epoch's summary says so. Must not
/// throw. May call the library, but not end an epoch.
pub type kasmina_strategy_callback = Option<
    unsafe extern "C-unwind" fn(
        seen: *const kasmina_grafting,
        memory: *mut f64,
        increment: *mut f64,
        user_data: *mut c_void,
    ) -> i32,
>;

/// Sets the strategy of the layer's seeds that germinate with KASMINA_STRATEGY_USER; NULL ends it, and their alpha is
/// held. kasmina_layer_end_epoch calls it for each such seed that grafts and is not paused, on its own thread and with no
/// lock held. An end of an epoch in progress on another thread may still call the strategy before. Checkpoints and copies
/// of the layer have no callback.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_set_strategy(
    layer: kasmina_layer,
    callback: kasmina_strategy_callback,
    user_data: *mut c_void,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_set_strategy", error, || {
        let strategy = callback.map(|callback| {
            let callback = Callback { function: callback, user_data: user_data as usize };
            Arc::new(move |seen: &GraftingInput, memory: &mut f64| callback.call(seen, memory)) as UserStrategy
        });
        LAYERS.write(layer.id, |layer| {
            layer.set_strategy(strategy);
            Ok(())
        })
    })
}

/// Gives the trainer's metric for the running epoch, for the strategies that want it: higher is better. A number that is
/// not finite is no metric. The next kasmina_layer_end_epoch uses it up.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_layer_set_metric(
    layer: kasmina_layer,
    metric: f64,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_layer_set_metric", error, || {
        LAYERS.write(layer.id, |layer| {
            layer.set_metric(metric);
            Ok(())
        })
    })
}

thread_local! {
    static IS_ASKING: Cell<bool> = const { Cell::new(false) };
}

/// Puts questions to the host's strategy. Called when no lock is held.
pub(super) fn ask(inquiry: &Inquiry) -> Answers {
    if inquiry.is_empty() {
        return Answers::default();
    }
    IS_ASKING.set(true);
    // A panic of the strategy does not come through here: it is an answer.
    let answers = inquiry.ask();
    IS_ASKING.set(false);
    answers
}

/// Refuses what would ask the strategy again while it is being asked, without end.
pub(super) fn refuse_inside() -> Result<()> {
    if IS_ASKING.get() {
        fail!(Unsupported, "a strategy may not end an epoch; end it when the strategy has returned");
    }
    Ok(())
}

/// A host's function and its own pointer.
struct Callback {
    function: unsafe extern "C-unwind" fn(*const kasmina_grafting, *mut f64, *mut f64, *mut c_void) -> i32,
    user_data: usize,
}

impl Callback {
    fn call(&self, seen: &GraftingInput, memory: &mut f64) -> Result<f64> {
        let given = kasmina_grafting {
            struct_size: size_of::<kasmina_grafting>(),
            seed: seen.seed,
            epoch: seen.epoch,
            epochs_in_state: seen.epochs_in_state.unsigned_abs().into(),
            alpha: seen.alpha,
            metric: seen.metric,
            improvement: seen.improvement,
            root_mean_square: seen.root_mean_square,
            gradient_norm: seen.gradient_norm,
        };
        let mut increment = 0.0;
        // SAFETY: the host promises that the callback may be called with its pointer; the others live for the call.
        let status = unsafe { (self.function)(&given, memory, &mut increment, self.user_data as *mut c_void) };
        if status != 0 {
            fail!(InvalidArgument, "it returned {status}");
        }
        Ok(increment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::UserStrategy;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    const SEEN: GraftingInput = GraftingInput {
        seed: 3,
        epoch: 7,
        epochs_in_state: 2,
        alpha: 0.5,
        metric: f64::NAN,
        improvement: f64::NAN,
        root_mean_square: 1.0,
        gradient_norm: 0.0,
    };

    fn strategy(
        function: unsafe extern "C-unwind" fn(*const kasmina_grafting, *mut f64, *mut f64, *mut c_void) -> i32,
    ) -> UserStrategy {
        let callback = Callback { function, user_data: 0 };
        Arc::new(move |seen: &GraftingInput, memory: &mut f64| callback.call(seen, memory))
    }

    unsafe extern "C-unwind" fn panics(_: *const kasmina_grafting, _: *mut f64, _: *mut f64, _: *mut c_void) -> i32 {
        panic!("on purpose")
    }

    unsafe extern "C-unwind" fn answers(
        seen: *const kasmina_grafting,
        memory: *mut f64,
        increment: *mut f64,
        _: *mut c_void,
    ) -> i32 {
        // SAFETY: the library gives what the header says.
        unsafe {
            *increment = f64::from((*seen).alpha) / 4.0;
            *memory += f64::from((*seen).epoch);
            i32::from((*seen).epoch == 8)
        }
    }

    #[test]
    fn a_panic_of_a_host_written_in_rust_unwinds_to_whoever_asks() {
        assert!(catch_unwind(AssertUnwindSafe(|| strategy(panics)(&SEEN, &mut 0.0))).is_err());
    }

    #[test]
    fn a_status_other_than_0_is_a_failure() {
        let mut memory = 1.0;
        assert_eq!(strategy(answers)(&SEEN, &mut memory).unwrap(), 0.125);
        assert_eq!(memory, 8.0);
        let error = strategy(answers)(&GraftingInput { epoch: 8, ..SEEN }, &mut memory).unwrap_err();
        assert_eq!(error.message(), "it returned 1");
    }
}
