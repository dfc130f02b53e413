//! Any bytes as a program of calls of the C ABI: each returns a status, and none is that of a panic.
//!
//! The host that makes the calls keeps its side of the contract, which is that pointers are null or point to what the
//! header says. In everything else it errs: shapes, strides, types, sizes of structs, enumerations, flags, text, handles
//! that are stale, forged or of another kind, the order of calls, damaged checkpoints. `kasmina_shutdown` alone is left
//! out: it ends the process's use of the library.

mod blueprints;
mod host;
mod layers;
mod passes;
mod snapshots;
mod structs;
mod tensors;

use crate::generator::Choices;
use host::{Host, Outcome};

/// Calls that one input makes at most.
const MOST_CALLS: usize = 64;

/// One more than the bytes that choose the arguments of a call at most.
const ARGUMENT_BYTES: usize = 64;

/// A call of one exported function.
pub struct Call {
    /// Its name in the header; for the test that asks whether any is missing.
    #[allow(dead_code)]
    pub function: &'static str,
    /// Makes it, as the host's choices say.
    pub make: fn(&mut Host<'_>),
}

macro_rules! calls {
    ($($function:ident => $make:path,)+) => {
        &[$(Call { function: stringify!($function), make: $make },)+]
    };
}

/// Every function that takes part, in the order that bytes name them by. Only append: bytes that were kept mean these
/// positions.
pub const CALLS: &[Call] = calls! {
    kasmina_blueprint_from_library => blueprints::from_library,
    kasmina_layer_create => layers::create,
    kasmina_layer_add_blueprint => layers::add_blueprint,
    kasmina_layer_submit => layers::submit,
    kasmina_layer_end_epoch => layers::end_epoch,
    kasmina_layer_prepare => layers::prepare,
    kasmina_layer_forward => passes::forward,
    kasmina_layer_backward => passes::backward,
    kasmina_layer_train => passes::train,
    kasmina_layer_adamw => passes::adamw,
    kasmina_layer_roll_back => layers::roll_back,
    kasmina_layer_to_bytes => layers::to_bytes,
    kasmina_layer_from_bytes => layers::from_bytes,
    kasmina_layer_copy => layers::copy,
    kasmina_layer_export_array => layers::export_array,
    kasmina_layer_export_bank => layers::export_bank,
    kasmina_memory_retain => layers::retain,
    kasmina_memory_release => layers::release,
    kasmina_layer_get_info => layers::get_info,
    kasmina_layer_state => layers::state,
    kasmina_layer_report => layers::report,
    kasmina_layer_save => layers::save,
    kasmina_layer_load => layers::load,
    kasmina_layer_destroy => layers::destroy,
    kasmina_blueprint_from_json => blueprints::from_json,
    kasmina_blueprint_to_json => blueprints::to_json,
    kasmina_blueprint_hash => blueprints::hash,
    kasmina_blueprint_chunk => blueprints::chunk,
    kasmina_blueprint_parameter_count => blueprints::parameter_count,
    kasmina_blueprint_initial_values => blueprints::initial_values,
    kasmina_blueprint_destroy => blueprints::destroy,
    kasmina_get_statistics => blueprints::get_statistics,
    kasmina_set_log => blueprints::set_log,
    kasmina_layer_set_strategy => layers::set_strategy,
    kasmina_layer_set_metric => layers::set_metric,
    kasmina_layer_wait_for_kernels => layers::wait_for_kernels,
    kasmina_snapshot_create => snapshots::create,
    kasmina_snapshot_take => snapshots::take,
    kasmina_snapshot_get_info => snapshots::get_info,
    kasmina_layer_restore => snapshots::restore,
    kasmina_loss_guard_judge => snapshots::judge,
    kasmina_snapshot_destroy => snapshots::destroy,
    kasmina_layer_set_time => layers::set_time,
};

/// Makes the calls that the bytes say, gives everything back, and tells what came of each call. Panics if the library
/// breaks its word.
///
/// A call is the position of its function, the number of bytes that choose its arguments, and these. Arguments that are
/// not chosen are the usual ones.
pub fn call(bytes: &[u8]) -> Vec<Outcome> {
    let (mut program, mut host) = (Choices::new(bytes), Host::default());
    for _ in 0..MOST_CALLS {
        if program.is_empty() {
            break;
        }
        let (call, length) = (&CALLS[program.below(CALLS.len())], program.below(ARGUMENT_BYTES));
        host.choices = Choices::new(program.take(length));
        (call.make)(&mut host);
    }
    host.give_back()
}
