use super::*;
use crate::device::{cpu, in_a_fork};
use crate::layer::Lifecycle;
use crate::layer::kernels::broken::{Broken, Fault};
use std::sync::atomic::Ordering;

const STREAM: Stream = Stream(0);

fn arrays(seeds: u32) -> StateArrays {
    let mut columns = Columns::new(seeds);
    for seed in 0..seeds {
        columns.set(seed, sample(seed));
    }
    StateArrays::new(columns, &cpu::device(), STREAM).unwrap()
}

fn verify(arrays: &mut StateArrays) -> Result<Vec<String>> {
    let read = arrays.read(STREAM)?;
    arrays.verify(read, STREAM)
}

fn sample(seed: u32) -> SeedState {
    SeedState {
        lifecycle: Lifecycle::ALL[seed as usize % 11],
        blueprint: seed as i32 - 3,
        slot: 7 * seed as i32,
        alpha: seed as f32 / 64.0,
        epochs_in_state: -(seed as i16),
        strategy: seed as i8 % 4,
        last_update_epoch: u32::MAX - seed,
        embargo: 1000 + seed as u16,
        error_count: seed as u16,
        flags: seed as u8 % 16,
        germinations: 3 * seed,
        strategy_memory: f64::from(seed) / 3.0,
    }
}

#[test]
fn what_is_set_is_got_and_touches_no_other_seed() {
    for seeds in [1, 5, 17, 33] {
        let mut columns = Columns::new(seeds);
        (0..seeds).for_each(|seed| columns.set(seed, sample(seed)));
        (0..seeds).for_each(|seed| assert_eq!(columns.get(seed), sample(seed)));
    }
}

#[test]
fn every_column_begins_at_a_multiple_of_16_bytes_on_the_device() {
    let arrays = arrays(13);
    for (column, (name, _)) in COLUMNS.iter().enumerate() {
        assert_eq!(arrays.device_column(column).unwrap().address().0 % 16, 0, "{name}");
    }
}

#[test]
fn the_device_holds_what_the_host_holds() {
    let arrays = arrays(13);
    for (column, (name, _)) in COLUMNS.iter().enumerate() {
        let buffer = arrays.device_column(column).unwrap();
        let mut bytes = vec![0; buffer.bytes()];
        cpu::device().download(&mut bytes, buffer.address(), STREAM).unwrap();
        assert_eq!(bytes, arrays.columns().column(column), "{name}");
    }
}

#[test]
fn whatever_columns_a_new_state_changes_both_copies_are_it_and_have_its_checksums() {
    let mut arrays = arrays(33);
    for round in 0..200_u32 {
        let seed = round * 7 % 33;
        let mut draft = arrays.columns().clone();
        assert_eq!(draft, *arrays.columns(), "round {round}");
        let (before, other) = (draft.get(seed), sample(round + 5));
        let after = match round % 5 {
            0 => other,
            1 => SeedState { lifecycle: other.lifecycle, ..before },
            2 => SeedState { alpha: other.alpha, strategy_memory: other.strategy_memory, ..before },
            3 => SeedState { flags: other.flags, ..before },
            _ => before,
        };
        draft.set(seed, after);
        if round % 10 == 9 {
            draft.pass_epoch();
        }
        let mut expected = draft.clone();
        expected.arrange();
        arrays.replace(draft, STREAM).unwrap();
        assert_eq!(*arrays.columns(), expected, "round {round}");
        assert_eq!(arrays.host.checksum(), expected.found_checksum(), "round {round}");
        assert!(verify(&mut arrays).unwrap().is_empty(), "round {round}");
    }
}

#[test]
fn a_state_that_follows_another_at_once_does_not_overtake_it_on_the_device() {
    let device: Arc<dyn Device> = Broken::new(|_| Fault::None);
    let mut arrays = StateArrays::new(Columns::new(33), &device, STREAM).unwrap();
    let between: Vec<_> = (0..3).map(|_| Buffer::new(&device, arrays.memory().bytes()).unwrap()).collect();
    for (round, copy) in (1..).zip(&between) {
        let mut columns = Columns::new(33);
        (0..33).for_each(|seed| columns.set(seed, sample(round * seed)));
        arrays.replace(columns, STREAM).unwrap();
        device.copy(copy.address(), arrays.memory().address(), copy.bytes(), STREAM).unwrap();
    }
    // What is read is there before it is compared.
    assert!(verify(&mut arrays).unwrap().is_empty());
    for (round, copy) in (1..).zip(&between) {
        let mut bytes = vec![0; copy.bytes()];
        device.download(&mut bytes, copy.address(), STREAM).unwrap();
        let columns = arrays.columns().of_bytes(&bytes);
        (0..33).for_each(|seed| assert_eq!(columns.get(seed), sample(round * seed), "round {round}"));
    }
}

#[test]
fn memory_that_is_still_to_be_copied_is_waited_for_before_it_goes() {
    let broken = Broken::new(|_| Fault::None);
    let device: Arc<dyn Device> = broken.clone();
    let (array, mut staging) = (Buffer::new(&device, 64).unwrap(), Staging::new(&device, 64).unwrap());
    staging.upload(array.address(), [(0..16, &[1; 16][..]), (16..32, &[2; 16]), (48..64, &[3; 16])], STREAM).unwrap();
    assert_eq!(broken.queued(), 2, "what lies together is one copy");
    drop(staging);
    assert_eq!(broken.queued(), 0);
    let mut bytes = [9; 64];
    device.download(&mut bytes, array.address(), STREAM).unwrap();
    assert_eq!(bytes.as_chunks().0, [[1; 16], [2; 16], [0; 16], [3; 16]]);
}

#[test]
fn the_one_checksum_is_that_of_all_bytes_after_the_version() {
    let columns = arrays(13).columns().clone();
    assert_eq!(columns.checksum(), columns.found_checksum());
}

#[test]
fn ready_are_the_seeds_with_these_blueprints_and_no_other_flag_moves() {
    let mut columns = arrays(33).columns().clone();
    let before = columns.clone();
    columns.mark_ready(&[0, 7, 29]);
    for (seed, was) in (0..).zip(before.iter()) {
        let ready = if [0, 7, 29].contains(&was.blueprint) { flags::READY } else { 0 };
        assert_eq!(columns.get(seed), SeedState { flags: was.flags & !flags::READY | ready, ..was });
    }
}

#[test]
fn a_flipped_bit_in_any_column_on_the_device_is_found_named_and_repaired() {
    let mut arrays = arrays(13);
    let intact = arrays.columns().clone();
    for (column, (name, _)) in COLUMNS.iter().enumerate() {
        let buffer = arrays.device_column(column).unwrap();
        let last = buffer.bytes() - 1;
        let damaged = [intact.column(column)[last] ^ 0x10];
        cpu::device().upload(buffer.address().offset(last), &damaged, STREAM).unwrap();
        let repairs = verify(&mut arrays).unwrap();
        assert!(repairs.len() == 1 && repairs[0].contains(name), "{name}: {repairs:?}");
        assert!(verify(&mut arrays).unwrap().is_empty(), "{name} was not repaired");
    }
}

#[test]
fn a_flipped_bit_on_the_host_is_repaired_from_the_device() {
    let mut arrays = arrays(13);
    let intact = arrays.columns().clone();
    for byte in 0..intact.len() {
        arrays.flip_host_bit(byte);
        assert_eq!(verify(&mut arrays).unwrap().len(), 1);
        assert_eq!(*arrays.columns(), intact);
    }
}

#[test]
fn damage_to_both_copies_is_an_error() {
    let mut arrays = arrays(13);
    arrays.flip_host_bit(0);
    let address = arrays.device_column(0).unwrap().address();
    cpu::device().upload(address, &[9], STREAM).unwrap();
    assert_eq!(verify(&mut arrays).unwrap_err().status(), crate::Status::StateCorrupted);
}

#[test]
fn columns_from_outside_must_fit_and_hold_real_states() {
    let columns = arrays(5).columns().clone();
    let mut parts: [&[u8]; COLUMNS.len()] = std::array::from_fn(|column| columns.column(column));
    assert_eq!(Columns::from_parts(5, parts).unwrap(), columns);
    assert!(Columns::from_parts(6, parts).is_err());
    parts[0] = &[0, 1, 2, 11, 4];
    assert!(Columns::from_parts(5, parts).unwrap_err().message().contains("11 is no lifecycle state"));
}

#[test]
fn kernels_find_seeds_that_apply_a_blueprint_at_the_front_and_those_in_training_at_the_end() {
    use Lifecycle::{Culled, Dormant, Fossilized, Germinated, Grafting, Training};
    let order = |columns: &Columns| -> Vec<u32> {
        let bytes = columns.pieces[ORDER].bytes()[..columns.seeds * size_of::<u32>()].as_chunks().0;
        bytes.iter().map(|seed| u32::from_le_bytes(*seed)).collect()
    };
    let mut columns = Columns::new(8);
    let states = [Training, Dormant, Grafting, Germinated, Training, Fossilized, Culled, Dormant];
    for (seed, lifecycle) in (0..).zip(states) {
        columns.set(seed, SeedState { lifecycle, ..SeedState::dormant(0) });
    }
    columns.arrange();
    assert_eq!((columns.applying, columns.training), (2, 2));
    assert_eq!(order(&columns), [2, 5, 1, 3, 6, 7, 0, 4]);
    (0..8).for_each(|seed| columns.set(seed, SeedState::dormant(0)));
    columns.arrange();
    assert_eq!((columns.applying, columns.training), (0, 0));
    assert_eq!(order(&columns), [0, 1, 2, 3, 4, 5, 6, 7]);
}

#[test]
fn a_state_that_could_not_be_written_is_not_the_hosts() {
    let device = Broken::new(|_| Fault::None);
    let mut arrays = StateArrays::new(Columns::new(13), &(device.clone() as Arc<dyn Device>), STREAM).unwrap();
    let before = arrays.columns().clone();
    let mut columns = before.clone();
    columns.set(3, SeedState { lifecycle: Lifecycle::Culled, ..before.get(3) });
    device.refused_bytes.store(arrays.ranges[LIFECYCLE].len(), Ordering::SeqCst);
    assert!(arrays.replace(columns, STREAM).is_err());
    assert_eq!(*arrays.columns(), before);
    assert!(verify(&mut arrays).unwrap().is_empty());
}

/// On old systems a page that a fork shares is another one once it is written, and a card goes on reading the one that was locked.
#[test]
fn after_a_fork_the_state_leaves_through_pages_that_were_locked_since() {
    let device = Broken::new(|_| Fault::None);
    let mut arrays = StateArrays::new(Columns::new(13), &(device.clone() as Arc<dyn Device>), STREAM).unwrap();
    for (seed, forks) in (0..).zip([false, true, false]) {
        let mut columns = arrays.columns().clone();
        columns.set(seed, sample(seed + 1));
        let locks = device.locks.load(Ordering::SeqCst);
        if forks {
            assert!(in_a_fork(|| true));
        }
        arrays.replace(columns, STREAM).unwrap();
        assert_eq!(device.locks.load(Ordering::SeqCst) > locks, forks);
        assert!(verify(&mut arrays).unwrap().is_empty());
    }
}
