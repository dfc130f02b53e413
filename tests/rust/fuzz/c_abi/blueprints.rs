//! Calls about blueprints and about the process.

use super::host::{Host, Kind, call};
use super::structs::Structs;
use crate::generator;
use kasmina::Status;
use kasmina::ffi::*;
use std::ffi::{c_char, c_void};

const NAMES: &[&std::ffi::CStr] = &[
    c"residual",
    c"attention",
    c"mlp",
    c"conv",
    c"bottleneck",
    c"low_rank",
    c"squeeze_excite",
    c"normalized_mlp",
    c"identity",
];

const ATTRIBUTES: &[&std::ffi::CStr] = &[
    c"{}",
    c"{\"width\": 2}",
    c"{\"rank\": 1}",
    c"{\"width\": -1}",
    c"{\"width\": 1e9}",
    c"[",
    c"{\"rank\": 4294967296}",
];

fn handle(host: &mut Host<'_>) -> kasmina_blueprint {
    kasmina_blueprint { id: host.handle(Kind::Blueprint) }
}

pub fn from_library(host: &mut Host<'_>) {
    let name = host.text(NAMES);
    let chunk = host.choices.pick(&[4, 4, 8, 3, 1, 2, 5, 7, 0, u64::MAX, 1 << 32]);
    let attributes = if host.choices.below(4) == 1 { host.text(ATTRIBUTES) } else { None };
    let mut blueprint = kasmina_blueprint { id: 0 };
    let place = host.place(&raw mut blueprint);
    let status = call!(host, kasmina_blueprint_from_library(pointer(&name), chunk, pointer(&attributes), place));
    if status == Status::Ok {
        host.blueprints.push(blueprint.id);
    }
}

pub fn from_json(host: &mut Host<'_>) {
    let (null, raw, damaged) = (host.choices.once_in(32), host.choices.once_in(8), host.choices.once_in(16));
    let mut blueprint = kasmina_blueprint { id: 0 };
    let (place, at, byte) = (host.place(&raw mut blueprint), host.choices.below(256), host.choices.below(256));
    let rest = host.choices.take(usize::MAX);
    let mut json = if raw { rest.to_vec() } else { generator::blueprint(rest).into_bytes() };
    if damaged && !json.is_empty() {
        let at = at * 16 % json.len();
        json[at] = byte as u8;
    }
    let data = if null { std::ptr::null() } else { json.as_ptr().cast::<c_char>() };
    if call!(host, kasmina_blueprint_from_json(data, json.len(), place)) == Status::Ok {
        host.blueprints.push(blueprint.id);
    }
}

pub fn to_json(host: &mut Host<'_>) {
    let (blueprint, mut bytes) = (handle(host), std::ptr::null_mut());
    let place = host.place(&raw mut bytes);
    if call!(host, kasmina_blueprint_to_json(blueprint, place)) == Status::Ok {
        let json = host.take(bytes);
        let mut copy = kasmina_blueprint { id: 0 };
        let status = call!(host, kasmina_blueprint_from_json(json.as_ptr().cast(), json.len(), &raw mut copy));
        assert_eq!(status, Status::Ok, "what was written is read");
        let hashes = [blueprint, copy].map(|blueprint| {
            let mut hash = [0_u8; 32];
            call!(host, kasmina_blueprint_hash(blueprint, hash.as_mut_ptr()));
            hash
        });
        assert_eq!(hashes[0], hashes[1]);
        host.blueprints.insert(0, copy.id);
    }
}

pub fn hash(host: &mut Host<'_>) {
    let (blueprint, mut hash) = (handle(host), [0_u8; 32]);
    let place = host.place(hash.as_mut_ptr());
    call!(host, kasmina_blueprint_hash(blueprint, place));
}

pub fn chunk(host: &mut Host<'_>) {
    let (blueprint, mut chunk) = (handle(host), 0);
    let place = host.place(&raw mut chunk);
    call!(host, kasmina_blueprint_chunk(blueprint, place));
}

pub fn parameter_count(host: &mut Host<'_>) {
    let (blueprint, mut count) = (handle(host), 0);
    let place = host.place(&raw mut count);
    call!(host, kasmina_blueprint_parameter_count(blueprint, place));
}

pub fn initial_values(host: &mut Host<'_>) {
    let (blueprint, mut count) = (handle(host), 0);
    call!(host, kasmina_blueprint_parameter_count(blueprint, &raw mut count));
    let mut values = vec![0.0; count as usize];
    let place = host.place(values.as_mut_ptr());
    // A count that is not the blueprint's is refused, so that nothing is written beyond the values.
    let count = if host.choices.once_in(8) { host.choices.pick(&[count + 1, u64::MAX]) } else { count };
    call!(host, kasmina_blueprint_initial_values(blueprint, 7, place, count));
}

pub fn destroy(host: &mut Host<'_>) {
    let blueprint = handle(host);
    if call!(host, kasmina_blueprint_destroy(blueprint)) == Status::Ok {
        host.ended(blueprint.id);
    }
}

pub fn get_statistics(host: &mut Host<'_>) {
    let empty = kasmina_statistics {
        struct_size: 0,
        compiled: 0,
        memory_hits: 0,
        disk_hits: 0,
        failed: 0,
        compile_seconds: 0.0,
        waiting: 0,
        disk_errors: 0,
        validated: 0,
        refused: 0,
        validation_seconds: 0.0,
        stepped_down: 0,
        given_up: 0,
        running: 0,
        cancelled: 0,
        timed_out: 0,
    };
    let mut statistics = Structs::new(&mut host.choices, &[empty]);
    let place = statistics.pointer(&mut host.choices);
    call!(host, kasmina_get_statistics(place));
}

/// A callback that calls the library, as it may.
unsafe extern "C" fn listen(_level: i32, message: *const c_char, _user_data: *mut c_void) {
    let (mut statistics, mut error) = ([0_usize; 11], std::ptr::null_mut());
    statistics[0] = size_of_val(&statistics);
    // SAFETY: the message is text, and the struct has the size that it states.
    unsafe {
        assert!(!std::ffi::CStr::from_ptr(message).is_empty());
        let status = kasmina_get_statistics(statistics.as_mut_ptr().cast(), &raw mut error);
        super::host::returned("kasmina_get_statistics", status, error, true);
    }
}

pub fn set_log(host: &mut Host<'_>) {
    let level = host.number(&[4, 0, 1, 2, 3]);
    let callback: kasmina_log_callback = if host.choices.once_in(4) { None } else { Some(listen) };
    call!(host, kasmina_set_log(callback, std::ptr::null_mut(), level));
}

/// Where a text is, or null.
pub fn pointer(text: &Option<Vec<u8>>) -> *const c_char {
    text.as_ref().map_or(std::ptr::null(), |text| text.as_ptr().cast())
}
