//! Calls about snapshots of layers, and the guard over the loss that asks for them.

use super::blueprints::pointer;
use super::host::{Host, Kind, call};
use super::layers::{REASONS, is_json};
use super::structs::Structs;
use kasmina::Status;
use kasmina::ffi::*;

/// Snapshots that a host keeps.
const SNAPSHOTS: usize = 4;

fn handles(host: &mut Host<'_>) -> (kasmina_layer, kasmina_snapshot) {
    (kasmina_layer { id: host.handle(Kind::Layer) }, kasmina_snapshot { id: host.handle(Kind::Snapshot) })
}

pub fn create(host: &mut Host<'_>) {
    if host.snapshots.len() == SNAPSHOTS {
        return;
    }
    let (layer, stream) = (kasmina_layer { id: host.handle(Kind::Layer) }, host.stream());
    let mut snapshot = kasmina_snapshot { id: 0 };
    let place = host.place(&raw mut snapshot);
    if call!(host, kasmina_snapshot_create(layer, stream, place)) == Status::Ok {
        host.snapshots.push(snapshot.id);
    }
}

pub fn take(host: &mut Host<'_>) {
    let ((layer, snapshot), stream) = (handles(host), host.stream());
    call!(host, kasmina_snapshot_take(snapshot, layer, stream));
}

pub fn get_info(host: &mut Host<'_>) {
    let (_, snapshot) = handles(host);
    let mut info = Structs::new(&mut host.choices, &[kasmina_snapshot_info::default()]);
    let place = info.pointer(&mut host.choices);
    call!(host, kasmina_snapshot_get_info(snapshot, place));
}

pub fn restore(host: &mut Host<'_>) {
    let ((layer, snapshot), stream, reason) = (handles(host), host.stream(), host.text(REASONS));
    let mut restoration = std::ptr::null_mut();
    let place = host.place(&raw mut restoration);
    let status = call!(host, kasmina_layer_restore(layer, snapshot, pointer(&reason), stream, place));
    if status == Status::Ok && !place.is_null() {
        is_json(&host.take(restoration));
    }
}

/// Judges a loss by a guard that remembers something already, and may be nonsense.
pub fn judge(host: &mut Host<'_>) {
    let numbers = [0.0, 0.5, 2.0, -1.0, 1e308, -1e308, f64::NAN, f64::INFINITY];
    let counts = [0, 1, 10, u64::MAX];
    let guard = kasmina_loss_guard {
        struct_size: 0,
        deviations: host.choices.pick(&numbers),
        rise: host.choices.pick(&numbers),
        decay: host.choices.pick(&numbers),
        warm_up: host.choices.pick(&counts),
        mean: host.choices.pick(&numbers),
        variance: host.choices.pick(&numbers),
        accepted: host.choices.pick(&counts),
    };
    let loss = host.choices.pick(&numbers);
    let mut guard = Structs::new(&mut host.choices, &[guard]);
    let (guard, mut reason) = (guard.pointer(&mut host.choices), std::ptr::null_mut());
    let place = host.place(&raw mut reason);
    if call!(host, kasmina_loss_guard_judge(guard, loss, place)) == Status::Ok && !reason.is_null() {
        assert!(!host.take(reason).is_empty());
    }
}

pub fn destroy(host: &mut Host<'_>) {
    let (_, snapshot) = handles(host);
    if call!(host, kasmina_snapshot_destroy(snapshot)) == Status::Ok {
        host.ended(snapshot.id);
    }
}
