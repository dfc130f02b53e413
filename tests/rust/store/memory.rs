//! The memory cache keeps to its bounds and forgets what was not used.

use crate::samples::key;
use kasmina::store::MemoryCache;
use std::sync::Arc;

fn code(length: usize) -> Arc<[u8]> {
    vec![7; length].into()
}

#[test]
fn the_least_recently_used_goes_first() {
    let cache = MemoryCache::new(3, usize::MAX);
    for chunk in [1, 2, 3] {
        cache.insert(&key(chunk), code(chunk));
    }
    assert_eq!(cache.get(&key(1)), Some(code(1)));
    cache.insert(&key(4), code(4));
    assert_eq!(cache.entries(), 3);
    assert_eq!(cache.get(&key(2)), None);
    for chunk in [1, 3, 4] {
        assert_eq!(cache.get(&key(chunk)), Some(code(chunk)));
    }
}

#[test]
fn what_is_used_often_outlives_what_is_only_newer_but_not_for_ever() {
    let cache = MemoryCache::new(4, usize::MAX);
    cache.insert(&key(1), code(1));
    for _ in 0..20 {
        assert_eq!(cache.get(&key(1)), Some(code(1)));
    }
    let mut insertions = 0;
    // A scan: kernels that are used once each.
    for chunk in 2..200 {
        cache.insert(&key(chunk), code(chunk));
        insertions += 1;
        if chunk <= 12 {
            assert_eq!(cache.entries(), 4.min(chunk));
        }
        if chunk == 12 {
            assert!(cache.get(&key(1)).is_some(), "a scan drives it out");
        }
    }
    assert_eq!(insertions, 198);
    assert_eq!(cache.get(&key(1)), None, "it stays although nobody wants it any more");
}

#[test]
fn machine_code_that_somebody_holds_stays_and_the_bounds_hold_all_the_same() {
    let cache = MemoryCache::new(2, usize::MAX);
    let held: Vec<_> = [1, 2].map(|chunk| (chunk, code(chunk))).into();
    held.iter().for_each(|(chunk, code)| cache.insert(&key(*chunk), code.clone()));
    for chunk in 3..10 {
        cache.insert(&key(chunk), code(chunk));
        assert!(cache.get(&key(chunk)).is_none() && cache.entries() == 2, "there is no room for it");
    }
    for (chunk, code) in &held {
        assert!(cache.get(&key(*chunk)).is_some_and(|found| Arc::ptr_eq(&found, code)));
    }
    drop(held);
    cache.insert(&key(3), code(3));
    assert_eq!((cache.entries(), cache.get(&key(3))), (2, Some(code(3))));
}

#[test]
fn bytes_are_bounded_and_counted_back_when_entries_go() {
    let preimage = key(1).preimage().len();
    let cache = MemoryCache::new(100, 2 * (preimage + 100));
    cache.insert(&key(1), code(100));
    cache.insert(&key(2), code(100));
    assert_eq!((cache.entries(), cache.bytes()), (2, 2 * (preimage + 100)));
    cache.insert(&key(3), code(101));
    assert_eq!((cache.entries(), cache.bytes()), (1, preimage + 101));
    cache.insert(&key(3), code(5));
    assert_eq!((cache.entries(), cache.bytes()), (1, preimage + 5));
}

#[test]
fn what_alone_is_over_the_bound_evicts_nothing() {
    let cache = MemoryCache::new(100, key(1).preimage().len() + 100);
    cache.insert(&key(1), code(100));
    cache.insert(&key(2), code(1000));
    assert_eq!(cache.get(&key(1)), Some(code(100)));
    assert_eq!(cache.get(&key(2)), None);
}

#[test]
fn a_cache_of_no_entries_keeps_nothing() {
    let cache = MemoryCache::new(0, 1000);
    cache.insert(&key(1), code(1));
    assert_eq!((cache.entries(), cache.bytes(), cache.get(&key(1))), (0, 0, None));
}

#[test]
fn threads_share_it_and_the_bounds_hold() {
    let cache = MemoryCache::new(8, usize::MAX);
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let cache = &cache;
            scope.spawn(move || {
                for round in 0..500 {
                    let chunk = 1 + (round * 7 + thread) % 20;
                    cache.insert(&key(chunk), code(chunk));
                    let found = cache.get(&key(1 + round % 20));
                    assert!(found.is_none_or(|found| found.len() == 1 + round % 20));
                    assert!(cache.entries() <= 8);
                }
            });
        }
    });
    let bytes: usize =
        (1..=20).filter_map(|chunk| Some(key(chunk).preimage().len() + cache.get(&key(chunk))?.len())).sum();
    assert_eq!((cache.entries(), cache.bytes()), (8, bytes));
}
