//! Regions as compiled code begins them, on threads of the tests' own.

use std::collections::BTreeMap;
use std::ffi::c_void;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Barrier, Mutex};
use std::thread::{self, ThreadId};

use torchd::job::spec::ThreadWait;

use super::patience::Patience;
use super::pool;
use super::region::{self, Region};
use super::share::{self, Share};

/// Runs a region of so many parts.
fn run(size: u32, part: &(impl Fn(u32) + Sync)) {
    unsafe extern "C" fn body<F: Fn(u32)>(data: *mut c_void) {
        // SAFETY: `run` hands it over, and waits for the region.
        unsafe { (*data.cast::<F>())(region::number()) };
    }
    fn body_of<F: Fn(u32)>(_: &F) -> region::Body {
        body::<F>
    }
    let data = std::ptr::from_ref(part).cast_mut().cast();
    // SAFETY: the parts can run at once: `part` is Sync, and it is there until they are done.
    let region = unsafe { Region::new(body_of(part), data, size) };
    pool::run(&region);
}

#[test]
fn each_part_is_done_once_in_every_region() {
    for (size, regions) in [(1, 10), (2, 20_000), (5, 2_000), (3, 2_000)] {
        for _ in 0..regions {
            let counts: Vec<AtomicU32> = (0..size).map(|_| AtomicU32::new(0)).collect();
            run(size, &|number| {
                counts[number as usize].fetch_add(1, Ordering::Relaxed);
            });
            assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1), "{size}: {counts:?}");
        }
    }
}

#[test]
fn parts_that_need_each_other_have_a_thread_each() {
    // More than there are cores, and a barrier that is not ours: nobody can do two of the parts.
    for _ in 0..50 {
        let (all, threads) = (Barrier::new(6), Mutex::new(Vec::<ThreadId>::new()));
        run(6, &|_| {
            all.wait();
            threads.lock().unwrap().push(thread::current().id());
        });
        let mut threads = threads.into_inner().unwrap();
        threads.sort_unstable_by_key(|id| format!("{id:?}"));
        threads.dedup();
        assert_eq!(threads.len(), 6);
    }
}

#[test]
fn a_barrier_lets_nobody_through_before_all_are_there() {
    let (before, after) = (AtomicU32::new(0), AtomicU32::new(0));
    run(4, &|_| {
        for round in 1..=500 {
            before.fetch_add(1, Ordering::SeqCst);
            region::within(Region::wait).unwrap();
            assert_eq!(before.load(Ordering::SeqCst), 4 * round);
            after.fetch_add(1, Ordering::SeqCst);
            region::within(Region::wait).unwrap();
        }
    });
    assert_eq!(after.into_inner(), 2000);
}

#[test]
fn regions_within_regions_have_one_part_and_their_own_numbers() {
    let seen = Mutex::new(Vec::new());
    run(3, &|outer| {
        run(1, &|inner| {
            assert!(region::is_parallel());
            seen.lock().unwrap().push((outer, inner, region::within(|region| region.size)));
        });
        assert_eq!(region::number(), outer);
    });
    let mut seen = seen.into_inner().unwrap();
    seen.sort_unstable();
    assert_eq!(seen, [(0, 0, Some(1)), (1, 0, Some(1)), (2, 0, Some(1))]);
    assert_eq!((region::number(), region::is_parallel(), region::within(|_| ())), (0, false, None));
}

#[test]
fn threads_that_begin_regions_at_once_do_not_meet() {
    thread::scope(|threads| {
        for _ in 0..3 {
            threads.spawn(|| {
                let sum = AtomicU64::new(0);
                for _ in 0..500 {
                    run(3, &|number| {
                        sum.fetch_add(u64::from(number), Ordering::Relaxed);
                    });
                }
                assert_eq!(sum.into_inner(), 1500);
            });
        }
    });
}

/// Does a part of a loop, and tells each iteration.
fn iterations(share: Share, step: i64, tell: impl Fn(i64)) {
    let mut chunk = region::within(|region| region.shares.begin(region::next_share(), region.size, share)).unwrap();
    while let Some((from, to)) = chunk {
        let all = std::iter::successors(Some(from), |at| at.checked_add(step));
        all.take_while(|at| if step > 0 { *at < to } else { *at > to }).for_each(&tell);
        chunk = share::next();
    }
    share::end();
}

#[test]
fn every_iteration_of_a_loop_is_done_once() {
    for (first, end, step, chunk) in
        [(0, 1000, 1, 7), (0, 0, 1, 1), (5, -21, -3, 2), (i64::MAX - 5, i64::MAX, 2, 1000), (-3, 50, 4, 1)]
    {
        let counts = Mutex::new(BTreeMap::new());
        // Two loops, which parts may be in at once.
        run(4, &|_| {
            for round in 0..2 {
                iterations(Share::new(first, end, step, chunk), step, |at| {
                    *counts.lock().unwrap().entry((round, at)).or_insert(0) += 1;
                });
            }
        });
        let expected: BTreeMap<_, _> = (0..2)
            .flat_map(|round| {
                let all = std::iter::successors(Some(first), move |at| at.checked_add(step));
                all.take_while(move |at| if step > 0 { *at < end } else { *at > end }).map(move |at| ((round, at), 1))
            })
            .collect();
        assert_eq!(counts.into_inner().unwrap(), expected, "{first} {end} {step} {chunk}");
    }
}

#[test]
fn ordered_blocks_come_in_the_order_of_their_iterations() {
    let order = Mutex::new(Vec::new());
    run(4, &|_| {
        let share = Share::new(0, 200, 1, 3);
        let mut chunk = region::within(|region| region.shares.begin(region::next_share(), region.size, share)).unwrap();
        while let Some((from, to)) = chunk {
            for at in from..to {
                share::await_turn();
                order.lock().unwrap().push(at);
            }
            share::pass_turn();
            chunk = share::next();
        }
        share::end();
    });
    assert_eq!(order.into_inner().unwrap(), (0..200).collect::<Vec<_>>());
}

#[test]
fn a_block_for_one_is_done_by_one() {
    let count = AtomicU32::new(0);
    run(4, &|_| {
        for _ in 0..300 {
            if region::within(|region| region.shares.is_first(region::next_share(), region.size)).unwrap() {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    assert_eq!(count.into_inner(), 300);
}

#[test]
fn a_thread_that_waits_much_for_a_core_makes_the_others_patient() {
    let patience = Patience::new();
    patience.set(ThreadWait::Adaptive, 3000, 5);
    // The machine is busy for as long as that is seen, and a while longer.
    let looks = [
        (0.0, 0, 3000),
        (0.5, 100, 5),
        (0.0, 1000, 5),
        (0.5, 1050, 5),
        (0.01, 2100, 3000),
        // Found busy again soon: for twice as long from now on.
        (0.4, 2200, 5),
        (0.0, 4100, 5),
        (0.0, 4300, 3000),
        // And after a while as at first.
        (0.4, 9000, 5),
        (0.0, 10_100, 3000),
    ];
    assert_eq!(patience.pauses(), 5);
    for (share, millis, pauses) in looks {
        patience.adapt(share, millis);
        assert_eq!(patience.pauses(), pauses, "{millis}");
    }
}
