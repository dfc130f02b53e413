//! Blueprints: made from JSON or from the library, and asked about.

use super::boundary::{call, call_for, destroy};
use super::convert;
use super::error::kasmina_error;
use super::handle::{Kind, Slab};
use super::kasmina_bytes;
use crate::Status;
use crate::fail;
use crate::graph::{self, Attributes, Blueprint};
use std::ffi::c_char;

/// A blueprint: what a seed computes. Immutable; any thread may use it at any time. 0 is no blueprint.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct kasmina_blueprint {
    /// Opaque.
    pub id: u64,
}

/// All blueprints that callers hold.
pub(super) static BLUEPRINTS: Slab<Blueprint> = Slab::new(Kind::Blueprint);

/// Makes a blueprint from JSON, which may come from anywhere: any bytes give a valid blueprint or an error that names
/// the node and the reason. The caller destroys the blueprint.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_blueprint_from_json(
    json: *const c_char,
    length: usize,
    blueprint: *mut kasmina_blueprint,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_blueprint_from_json", (blueprint, "blueprint"), error, || {
        // SAFETY: the caller promises `length` bytes.
        let json = unsafe { convert::slice(json.cast::<u8>(), length, "json") }?;
        Ok(kasmina_blueprint { id: BLUEPRINTS.insert(Blueprint::from_json(json)?)? })
    })
}

/// Makes a blueprint of the library, such as "bottleneck", for chunks of `chunk` channels. `attributes` is a JSON
/// object, such as {"width": 4}, or NULL for the defaults. The caller destroys the blueprint.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_blueprint_from_library(
    name: *const c_char,
    chunk: u64,
    attributes: *const c_char,
    blueprint: *mut kasmina_blueprint,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_blueprint_from_library", (blueprint, "blueprint"), error, || {
        // SAFETY: the caller promises text or null.
        let name = unsafe { convert::text(name, "name") }?;
        // SAFETY: as above.
        let attributes: Attributes = unsafe { convert::json(attributes, "attributes") }?;
        let blueprint = graph::library(name, convert::size(chunk, "chunk")?, &attributes)?;
        Ok(kasmina_blueprint { id: BLUEPRINTS.insert(blueprint)? })
    })
}

/// The blueprint as JSON. The caller destroys the bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_blueprint_to_json(
    blueprint: kasmina_blueprint,
    json: *mut *mut kasmina_bytes,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_blueprint_to_json", (json, "json"), error, || {
        BLUEPRINTS.read(blueprint.id, |blueprint| Ok(kasmina_bytes::owned(blueprint.to_json()?.into())))
    })
}

/// The blueprint's identity: 32 bytes that two blueprints share if and only if they compute the same graph, whatever its
/// names are.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_blueprint_hash(
    blueprint: kasmina_blueprint,
    hash: *mut u8,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_blueprint_hash", (hash.cast::<[u8; 32]>(), "hash"), error, || {
        BLUEPRINTS.read(blueprint.id, |blueprint| Ok(blueprint.hash()))
    })
}

/// How many channels a chunk has for this blueprint.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_blueprint_chunk(
    blueprint: kasmina_blueprint,
    chunk: *mut u64,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_blueprint_chunk", (chunk, "chunk"), error, || {
        BLUEPRINTS.read(blueprint.id, |blueprint| Ok(blueprint.chunk as u64))
    })
}

/// How many parameters one seed with this blueprint has.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_blueprint_parameter_count(
    blueprint: kasmina_blueprint,
    count: *mut u64,
    error: *mut *mut kasmina_error,
) -> Status {
    call_for("kasmina_blueprint_parameter_count", (count, "count"), error, || {
        BLUEPRINTS.read(blueprint.id, |blueprint| Ok(blueprint.parameter_count() as u64))
    })
}

/// The parameters that a seed germinates with, one parameter after the other: what the initializers say, with the random
/// ones drawn from `random_seed`. Equal seeds give equal values on every platform. `count` must be the parameter count of
/// the blueprint; `values` may be NULL if that is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_blueprint_initial_values(
    blueprint: kasmina_blueprint,
    random_seed: u64,
    values: *mut f64,
    count: u64,
    error: *mut *mut kasmina_error,
) -> Status {
    call("kasmina_blueprint_initial_values", error, || {
        BLUEPRINTS.read(blueprint.id, |blueprint| {
            let initial = blueprint.initialize(random_seed);
            if count != initial.len() as u64 {
                fail!(InvalidArgument, "count is {count}; the blueprint has {} parameters", initial.len());
            }
            if !initial.is_empty() {
                convert::check(values, "values")?;
                // SAFETY: neither null nor misaligned; the caller promises room for `count` numbers.
                unsafe { std::ptr::copy_nonoverlapping(initial.as_ptr(), values, initial.len()) };
            }
            Ok(())
        })
    })
}

/// Ends a blueprint's handle. Layers that it was added to keep what they need. Allowed after kasmina_shutdown.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kasmina_blueprint_destroy(
    blueprint: kasmina_blueprint,
    error: *mut *mut kasmina_error,
) -> Status {
    destroy("kasmina_blueprint_destroy", error, &BLUEPRINTS, blueprint.id)
}
