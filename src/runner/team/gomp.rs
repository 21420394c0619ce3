//! The interface of GNU's OpenMP runtime, as compiled code calls it (libgomp: libgomp_g.h, omp.h).
//! Within a region of ours the functions are ours, and outside of them GNU's.

use std::ffi::{CStr, c_int, c_long, c_uint, c_void};
use std::mem::transmute;
use std::sync::atomic::{AtomicBool, Ordering};

use super::foreign::{self, Hidden};
use super::pool;
use super::region::{self, Body, Region, next_share};
use super::share::{self, Chunk, Share};

/// Whether regions are ours.
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// From here on regions are ours.
pub(super) fn serve() {
    IS_OURS.store(true, Ordering::Release);
}

/// Runs a region, with one part for each of so many threads; 0 stands for the default.
///
/// # Safety
/// Several threads can call the body with the data at once.
#[unsafe(no_mangle)]
unsafe extern "C" fn GOMP_parallel(body: Body, data: *mut c_void, threads: c_uint, flags: c_uint) {
    if !IS_OURS.load(Ordering::Acquire) {
        static HIDDEN: Hidden = Hidden::new(c"GOMP_parallel");
        type Parallel = unsafe extern "C" fn(Body, *mut c_void, c_uint, c_uint);
        // SAFETY: it has the same interface, and the caller's promise holds for it.
        return unsafe { transmute::<*mut c_void, Parallel>(HIDDEN.address())(body, data, threads, flags) };
    }
    let size = match threads {
        _ if region::is_parallel() => 1,
        0 => foreign::default_size(),
        threads => threads,
    };
    // SAFETY: as the caller promises.
    let region = unsafe { Region::new(body, data, size.max(1)) };
    pool::run(&region);
}

/// Defines functions of the interface: each does its work with the innermost region of ours, or
/// calls the function of GNU's where there is none.
macro_rules! interface {
    ($(fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty, $work:expr;)*) => {
        /// The functions that are served.
        pub(super) const SERVED: &[&str] = &["GOMP_parallel", $(stringify!($name)),*];

        $(
            /// # Safety
            /// Pointers among the arguments can be written to.
            #[unsafe(no_mangle)]
            unsafe extern "C" fn $name($($argument: $type),*) -> $result {
                const NAME: &CStr = match CStr::from_bytes_with_nul(concat!(stringify!($name), "\0").as_bytes()) {
                    Ok(name) => name,
                    Err(_) => c"",
                };
                static HIDDEN: Hidden = Hidden::new(NAME);
                let work: fn(&Region, $($type),*) -> $result = $work;
                region::within(|region| work(region, $($argument),*)).unwrap_or_else(|| {
                    // SAFETY: it has the same interface, and the caller's promise holds for it.
                    unsafe {
                        transmute::<*mut c_void, unsafe extern "C" fn($($type),*) -> $result>(HIDDEN.address())(
                            $($argument),*
                        )
                    }
                })
            }
        )*
    };
}

interface! {
    fn omp_get_thread_num() -> c_int, |_| region::number() as c_int;
    fn omp_get_num_threads() -> c_int, |region| region.size as c_int;
    fn omp_in_parallel() -> c_int, |_| region::is_parallel().into();
    fn GOMP_barrier() -> (), |region| region.wait();
    fn GOMP_single_start() -> bool, |region| region.shares.is_first(next_share(), region.size);
    fn GOMP_sections_start(count: c_uint) -> c_uint, |region, count| {
        section(begin(region, Share::new(1, i64::from(count) + 1, 1, 1)))
    };
    fn GOMP_sections_next() -> c_uint, |_| section(share::next());
    fn GOMP_sections_end() -> (), |region| {
        share::end();
        region.wait();
    };
    fn GOMP_sections_end_nowait() -> (), |_| share::end();
    fn GOMP_loop_dynamic_start(
        first: c_long, end: c_long, step: c_long, chunk: c_long, from: *mut c_long, to: *mut c_long
    ) -> bool, |region, first, end, step, chunk, from, to| {
        hand_out(begin(region, Share::new(first, end, step, chunk)), from, to)
    };
    fn GOMP_loop_dynamic_next(from: *mut c_long, to: *mut c_long) -> bool, |_, from, to| {
        hand_out(share::next(), from, to)
    };
    fn GOMP_loop_ordered_dynamic_start(
        first: c_long, end: c_long, step: c_long, chunk: c_long, from: *mut c_long, to: *mut c_long
    ) -> bool, |region, first, end, step, chunk, from, to| {
        hand_out(begin(region, Share::new(first, end, step, chunk)), from, to)
    };
    fn GOMP_loop_ordered_dynamic_next(from: *mut c_long, to: *mut c_long) -> bool, |_, from, to| {
        share::pass_turn();
        hand_out(share::next(), from, to)
    };
    fn GOMP_ordered_start() -> (), |_| share::await_turn();
    fn GOMP_ordered_end() -> (), |_| {};
    fn GOMP_loop_end() -> (), |region| {
        share::end();
        region.wait();
    };
    fn GOMP_loop_end_nowait() -> (), |_| share::end();
}

fn begin(region: &Region, share: Share) -> Option<Chunk> {
    region.shares.begin(next_share(), region.size, share)
}

/// A section by its number, from 1; 0 stands for none.
fn section(chunk: Option<Chunk>) -> c_uint {
    chunk.map_or(0, |(number, _)| number as c_uint)
}

/// Tells the iterations of a chunk. Whether there is one.
fn hand_out(chunk: Option<Chunk>, from: *mut c_long, to: *mut c_long) -> bool {
    let Some((first, end)) = chunk else { return false };
    // SAFETY: compiled code hands over two places for them.
    unsafe {
        from.write(first);
        to.write(end);
    }
    true
}
