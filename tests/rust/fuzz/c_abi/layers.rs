//! Calls about layers, their checkpoints and their memory.

use super::blueprints::pointer;
use super::host::{Exported, Host, Kind, call};
use super::passes::EMPTY;
use super::structs::Structs;
use crate::checkpoint;
use kasmina::Status;
use kasmina::ffi::*;
use kasmina::graph::DataType;

/// Checkpoints that a host keeps.
const CHECKPOINTS: usize = 4;

/// The second lets seeds pass quickly through their lives.
const SETTINGS: &[&std::ffi::CStr] = &[
    c"{\"minimum_epochs\":{\"germinated\":0,\"training\":0,\"grafting\":0,\"stabilization\":0,\"evaluating\":0,\"fine_tuning\":0},\"ramp_steps\":1,\"embargo_epochs\":0,\"fallback_blocks_promotion\":false,\"gates\":{\"statistics_change\":1e300},\"training\":{\"loss_threshold\":1e300,\"epoch_limit\":2}}",
    c"{}",
    c"{\"max_active_seeds\":1,\"training\":{\"places\":1,\"learning_rate\":1e30}}",
    c"{\"ramp_steps\":0}",
    c"{\"training\":{\"beta1\":null}}",
];

pub(super) const REASONS: &[&std::ffi::CStr] = &[c"as the controller says", c"\\\"crc32\\\":\\\"", c"\xf0\x9f\x8c\xb1"];

fn handle(host: &mut Host<'_>) -> kasmina_layer {
    kasmina_layer { id: host.handle(Kind::Layer) }
}

/// Makes a layer, mostly one that the newest blueprint fits.
pub fn create(host: &mut Host<'_>) {
    let mut chunk = 4;
    if let Some(&id) = host.blueprints.last() {
        call!(host, kasmina_blueprint_chunk(kasmina_blueprint { id }, &raw mut chunk));
    }
    let seeds = host.choices.pick(&[2, 3, 1, 7, 12, 0, u64::MAX, u64::from(u32::MAX), 1 << 40]);
    let tail = host.choices.pick(&[0, 1, 2, 5]);
    let hidden = match host.choices.below(24) {
        23 => host.choices.pick(&[0, 1, u64::MAX, i64::MAX as u64, 1 << 40]),
        _ => chunk.saturating_mul(seeds).saturating_add(tail),
    };
    let (device_type, device_index) = host.device();
    let parameter_type = host.number(&[DataType::F32 as i32, DataType::F64 as i32]);
    let settings = host.text(SETTINGS);
    let config = kasmina_layer_config {
        struct_size: 0,
        hidden,
        seeds,
        device_type,
        device_index,
        parameter_type,
        flags: u32::from(host.choices.once_in(32)),
        settings: pointer(&settings),
    };
    let mut config = Structs::new(&mut host.choices, &[config]);
    let (config, mut layer) = (config.pointer(&mut host.choices), kasmina_layer { id: 0 });
    let place = host.place(&raw mut layer);
    if call!(host, kasmina_layer_create(config, place)) == Status::Ok {
        host.layers.push(layer.id);
    }
}

pub fn add_blueprint(host: &mut Host<'_>) {
    let (layer, blueprint) = (handle(host), kasmina_blueprint { id: host.handle(Kind::Blueprint) });
    let capacity = host.choices.pick(&[1, 2, 3, 7, 12, 0, 13, u64::MAX, u64::from(u32::MAX)]);
    let mut index = 0;
    let place = host.place(&raw mut index);
    call!(host, kasmina_layer_add_blueprint(layer, blueprint, capacity, place));
}

/// Submits some commands, mostly with evidence that opens every gate.
pub fn submit(host: &mut Host<'_>) {
    let layer = handle(host);
    let count = host.choices.pick(&[1, 1, 2, 3, 0]);
    let reasons: Vec<_> = (0..count).map(|_| host.text(REASONS)).collect();
    let commands: Vec<_> = reasons.iter().map(|reason| command(host, reason)).collect();
    let mut commands = Structs::new(&mut host.choices, &commands);
    let (pointer, count) = (commands.pointer(&mut host.choices), commands.count);
    call!(host, kasmina_layer_submit(layer, pointer, count));
}

fn command(host: &mut Host<'_>, reason: &Option<Vec<u8>>) -> kasmina_command {
    let seed = host.choices.pick(&[0, 0, 0, 1, 2, 6, 11, u32::MAX]);
    let action = host.number(&[1, 3, 4, 5, 6, 7, 8, 2, 9, 10, 11, 12, 13]);
    let blueprint = host.choices.pick(&[0, 0, 0, 1, 2, -1, i32::MAX, i32::MIN]);
    let strategy = host.number(&[0, 0, 0, 1, 2, 3, 4]);
    let mut evidence = |good: f64| {
        let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0, 1e300];
        if host.choices.once_in(12) { host.choices.pick(&odd) } else { good }
    };
    let [validation_delta, stability, improvement, error_rate] = [1.0, 1.0, 1.0, 0.0].map(&mut evidence);
    kasmina_command {
        struct_size: 0,
        seed,
        action,
        blueprint,
        strategy,
        validation_delta,
        stability,
        improvement,
        error_rate,
        reason: pointer(reason),
    }
}

pub fn end_epoch(host: &mut Host<'_>) {
    let (layer, stream, mut summary) = (handle(host), host.stream(), std::ptr::null_mut());
    let place = host.place(&raw mut summary);
    let status = call!(host, kasmina_layer_end_epoch(layer, stream, place));
    if status == Status::Ok && !place.is_null() {
        is_json(&host.take(summary));
    }
}

pub fn set_metric(host: &mut Host<'_>) {
    let layer = handle(host);
    let metric = host.choices.pick(&[0.5, 0.75, -1e308, 1e308, f64::NAN, f64::INFINITY]);
    call!(host, kasmina_layer_set_metric(layer, metric));
}

pub fn set_time(host: &mut Host<'_>) {
    let layer = handle(host);
    let seconds = host.choices.pick(&[0.0, 61.0, 1e9, -1.0, 1e308, f64::NAN, f64::INFINITY]);
    call!(host, kasmina_layer_set_time(layer, seconds));
}

/// Increment, what is added to the memory, and status.
static ANSWERS: [(f64, f64, i32); 6] =
    [(0.25, 1.0, 0), (1e300, 1e308, 0), (-0.5, 0.0, 0), (f64::NAN, 0.0, 0), (0.25, f64::NAN, 0), (0.5, 1.0, 7)];

/// A strategy that answers as its user data, one of [`ANSWERS`], says.
unsafe extern "C-unwind" fn answer(
    seen: *const kasmina_grafting,
    memory: *mut f64,
    increment: *mut f64,
    user_data: *mut std::ffi::c_void,
) -> i32 {
    // SAFETY: the library gives what the header says, and the user data is an answer.
    unsafe {
        assert!((*seen).struct_size == size_of::<kasmina_grafting>() && (0.0..1.0).contains(&(*seen).alpha));
        let (rise, kept, status) = *user_data.cast::<(f64, f64, i32)>();
        (*increment, *memory) = (rise, *memory + kept);
        status
    }
}

pub fn set_strategy(host: &mut Host<'_>) {
    let (layer, answer_of) = (handle(host), host.choices.below(ANSWERS.len()));
    let callback: kasmina_strategy_callback = if host.choices.once_in(8) { None } else { Some(answer) };
    let user_data = (&raw const ANSWERS[answer_of]).cast_mut().cast();
    call!(host, kasmina_layer_set_strategy(layer, callback, user_data));
}

pub fn prepare(host: &mut Host<'_>) {
    let layer = handle(host);
    let data_type = host.number(&[0, 3, 1, 2, 4, 6]);
    let flags = host.choices.pick(&[0, 2, 2, 1, 1 << 31]);
    call!(host, kasmina_layer_prepare(layer, data_type, flags));
}

pub fn wait_for_kernels(host: &mut Host<'_>) {
    let layer = handle(host);
    call!(host, kasmina_layer_wait_for_kernels(layer));
}

pub fn roll_back(host: &mut Host<'_>) {
    let (layer, stream) = (handle(host), host.stream());
    let (seed, reason) = (host.choices.pick(&[0, 1, 2, 11, u32::MAX]), host.text(REASONS));
    call!(host, kasmina_layer_roll_back(layer, seed, pointer(&reason), stream));
}

pub fn to_bytes(host: &mut Host<'_>) {
    let (layer, stream, mut bytes) = (handle(host), host.stream(), std::ptr::null_mut());
    let place = host.place(&raw mut bytes);
    if call!(host, kasmina_layer_to_bytes(layer, stream, place)) == Status::Ok {
        let bytes = host.take(bytes);
        if host.checkpoints.len() < CHECKPOINTS {
            host.checkpoints.push(bytes);
        }
    }
}

/// Reads a checkpoint as it was written, damaged, or forged so that its checksum is right.
pub fn from_bytes(host: &mut Host<'_>) {
    let written = host.checkpoints.last().cloned();
    let bytes = match (host.choices.below(4), written) {
        (0, Some(written)) => written,
        (1, Some(written)) => checkpoint::damaged(written, &mut host.choices),
        (2, Some(written)) => checkpoint::with_other_words(&written, &mut host.choices),
        _ => {
            let length = host.choices.below(64);
            host.choices.take(length).to_vec()
        }
    };
    let ((device_type, device_index), mut layer) = (host.device(), kasmina_layer { id: 0 });
    let place = host.place(&raw mut layer);
    let data = bytes.as_ptr().cast();
    if call!(host, kasmina_layer_from_bytes(data, bytes.len(), device_type, device_index, place)) == Status::Ok {
        host.layers.push(layer.id);
    }
}

pub fn copy(host: &mut Host<'_>) {
    let (layer, stream, (device_type, device_index)) = (handle(host), host.stream(), host.device());
    let parameter_type = host.number(&[0, 3, 1]);
    let mut copy = kasmina_layer { id: 0 };
    let place = host.place(&raw mut copy);
    let status = call!(host, kasmina_layer_copy(layer, device_type, device_index, parameter_type, stream, place));
    if status == Status::Ok {
        host.layers.push(copy.id);
    }
}

pub fn export_array(host: &mut Host<'_>) {
    let (layer, array) = (handle(host), host.number(&[3, 0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14]));
    let mut tensor = Structs::new(&mut host.choices, &[EMPTY]);
    let (given, mut memory) = (tensor.pointer(&mut host.choices), kasmina_memory { id: 0 });
    let place = host.place(&raw mut memory);
    if call!(host, kasmina_layer_export_array(layer, array, place, given)) == Status::Ok {
        hold(host, memory, &tensor.first());
    }
}

pub fn export_bank(host: &mut Host<'_>) {
    let (layer, blueprint) = (handle(host), host.choices.pick(&[0, 0, 1, u32::MAX]));
    let array = host.number(&[0, 1, 2, 3, 4, 5, 6]);
    let mut tensor = Structs::new(&mut host.choices, &[EMPTY]);
    let (given, mut memory) = (tensor.pointer(&mut host.choices), kasmina_memory { id: 0 });
    let place = host.place(&raw mut memory);
    if call!(host, kasmina_layer_export_bank(layer, blueprint, array, place, given)) == Status::Ok {
        hold(host, memory, &tensor.first());
        // The host may write parameters, and nobody says that they are numbers.
        if let (0, true, Some(exported)) = (array, host.choices.once_in(4), host.memory.last()) {
            let byte = host.choices.below(256) as u8;
            // SAFETY: the memory is held, and no call is in progress.
            unsafe { exported.data.write_bytes(byte, exported.bytes) };
        }
    }
}

/// Keeps memory that was exported, which is all there.
fn hold(host: &mut Host<'_>, memory: kasmina_memory, tensor: &kasmina_tensor) {
    // SAFETY: the memory is held, so the tensor's pointers are valid.
    let shape = unsafe { std::slice::from_raw_parts(tensor.shape, tensor.rank as usize) };
    let elements: i64 = shape.iter().product();
    let bytes = match tensor.data_type {
        3 | 5 => 8,
        0 | 4 | 11 => 4,
        1 | 2 | 9 | 10 => 2,
        _ => 1,
    };
    let exported = Exported { id: memory.id, data: tensor.data.cast(), bytes: elements as usize * bytes };
    exported.touch();
    host.memory.push(exported);
}

pub fn retain(host: &mut Host<'_>) {
    let (id, mut retained) = (host.handle(Kind::Memory), kasmina_memory { id: 0 });
    let place = host.place(&raw mut retained);
    if call!(host, kasmina_memory_retain(kasmina_memory { id }, place)) == Status::Ok {
        let place = host.memory.iter().find(|memory| memory.id == id).map(|memory| (memory.data, memory.bytes));
        let (data, bytes) = place.unwrap_or((std::ptr::null_mut(), 0));
        host.memory.push(Exported { id: retained.id, data, bytes });
    }
}

pub fn release(host: &mut Host<'_>) {
    let id = host.handle(Kind::Memory);
    if let Some(memory) = host.memory.iter().find(|memory| memory.id == id) {
        memory.touch();
    }
    if call!(host, kasmina_memory_release(kasmina_memory { id })) == Status::Ok {
        host.ended(id);
    }
}

pub fn get_info(host: &mut Host<'_>) {
    let layer = handle(host);
    let mut info = Structs::new(&mut host.choices, &[kasmina_layer_info::default()]);
    let place = info.pointer(&mut host.choices);
    call!(host, kasmina_layer_get_info(layer, place));
}

pub fn state(host: &mut Host<'_>) {
    let (layer, mut bytes) = (handle(host), std::ptr::null_mut());
    let place = host.place(&raw mut bytes);
    if call!(host, kasmina_layer_state(layer, place)) == Status::Ok {
        assert!(host.take(bytes).len().is_multiple_of(16));
    }
}

pub fn report(host: &mut Host<'_>) {
    let (layer, mut bytes) = (handle(host), std::ptr::null_mut());
    let place = host.place(&raw mut bytes);
    if call!(host, kasmina_layer_report(layer, place)) == Status::Ok {
        is_json(&host.take(bytes));
    }
}

/// Where nothing can be written or read.
const PATHS: &[&std::ffi::CStr] = &[c"/", c"", c"/no/such/folder/layer.kasmina", c"/dev/null/layer", c".."];

pub fn save(host: &mut Host<'_>) {
    let (layer, stream, path) = (handle(host), host.stream(), host.choices.pick(PATHS));
    let path = if host.choices.once_in(8) { std::ptr::null() } else { path.as_ptr() };
    assert_ne!(call!(host, kasmina_layer_save(layer, path, stream)), Status::Ok);
}

pub fn load(host: &mut Host<'_>) {
    let ((device_type, device_index), path) = (host.device(), host.choices.pick(PATHS));
    let path = if host.choices.once_in(8) { std::ptr::null() } else { path.as_ptr() };
    let mut layer = kasmina_layer { id: 0 };
    let place = host.place(&raw mut layer);
    assert_ne!(call!(host, kasmina_layer_load(path, device_type, device_index, place)), Status::Ok);
}

pub fn destroy(host: &mut Host<'_>) {
    let layer = handle(host);
    if call!(host, kasmina_layer_destroy(layer)) == Status::Ok {
        host.ended(layer.id);
    }
}

pub(super) fn is_json(bytes: &[u8]) {
    let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(bytes);
    assert!(parsed.is_ok(), "{}", String::from_utf8_lossy(bytes));
}
