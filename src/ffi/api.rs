//! The function table for hosts that open the library with `dlopen`.

use super::*;
use std::ffi::c_void;

macro_rules! table {
    ($($function:ident)+) => {
        /// The functions of the table, in order. Only ever append.
        pub const FUNCTIONS: &[&str] = &[$(stringify!($function)),+];

        /// The table. The header declares its fields with their types, made from the functions' own declarations.
        #[repr(C)]
        pub struct kasmina_api {
            struct_size: usize,
            functions: [*const c_void; FUNCTIONS.len()],
        }

        static API: kasmina_api = kasmina_api {
            struct_size: size_of::<kasmina_api>(),
            functions: [$($function as *const c_void),+],
        };
    };
}

table! {
    kasmina_abi_version
    kasmina_version
    kasmina_shutdown
    kasmina_set_log
    kasmina_get_statistics
    kasmina_error_status
    kasmina_error_message
    kasmina_error_attachment_count
    kasmina_error_attachment_name
    kasmina_error_attachment_text
    kasmina_error_destroy
    kasmina_bytes_data
    kasmina_bytes_length
    kasmina_bytes_destroy
    kasmina_blueprint_from_json
    kasmina_blueprint_from_library
    kasmina_blueprint_to_json
    kasmina_blueprint_hash
    kasmina_blueprint_chunk
    kasmina_blueprint_parameter_count
    kasmina_blueprint_destroy
    kasmina_layer_create
    kasmina_layer_get_info
    kasmina_layer_add_blueprint
    kasmina_layer_prepare
    kasmina_layer_state
    kasmina_layer_report
    kasmina_layer_save
    kasmina_layer_load
    kasmina_layer_to_bytes
    kasmina_layer_from_bytes
    kasmina_layer_destroy
    kasmina_layer_submit
    kasmina_layer_end_epoch
    kasmina_layer_roll_back
    kasmina_layer_export_array
    kasmina_layer_export_bank
    kasmina_memory_retain
    kasmina_memory_release
    kasmina_layer_forward
    kasmina_layer_backward
    kasmina_layer_train
    kasmina_layer_adamw
    kasmina_layer_copy
    kasmina_blueprint_initial_values
    kasmina_layer_set_strategy
    kasmina_layer_set_metric
    kasmina_layer_wait_for_kernels
    kasmina_snapshot_create
    kasmina_snapshot_take
    kasmina_snapshot_get_info
    kasmina_snapshot_destroy
    kasmina_layer_restore
    kasmina_loss_guard_judge
    kasmina_layer_set_time
    kasmina_error_get_class
}

// SAFETY: the table is constant and its pointers are functions.
unsafe impl Sync for kasmina_api {}

/// The functions of the library, for hosts that open it with dlopen: give KASMINA_ABI_VERSION of the header you compiled
/// with. NULL if the library is older than that. Static.
#[unsafe(no_mangle)]
pub extern "C" fn kasmina_get_api(version: u32) -> *const kasmina_api {
    if (1..=KASMINA_ABI_VERSION).contains(&version) { &raw const API } else { std::ptr::null() }
}
