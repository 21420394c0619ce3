//! The threads of computation: the part of an OpenMP runtime that libtorch calls, so that a
//! parallel region does not wait for a thread that has no core.
//!
//! GNU's runtime gives each thread of a team its part of a region, and the threads that are done
//! spin until the last one is. On a quiet machine nothing is faster. Beside another program a
//! thread loses its core, the others spin for nothing, and training is 25 times slower. Here each
//! part is offered to its thread, and the thread that began the region does the parts that nobody
//! has taken when its own is done. How long an idle thread spins follows the load
//! ([`patience`]).
//!
//! The parts are those of GNU's runtime: a part is known by its number, and libtorch shares its
//! work out by these numbers alone. So the numbers that a job computes depend on the number of
//! threads, and neither on the runtime nor on the load.
//!
//! The functions of the interface ([`gomp`]) have the names of GNU's. The program's own symbols
//! come before those of any library, so that libtorch finds them wherever it comes from, and those
//! that are not here in its own libgomp. A build of libtorch that needs more of a team than there
//! is here gets GNU's for everything ([`foreign`]).

mod barrier;
mod foreign;
mod gomp;
mod patience;
mod pool;
mod region;
mod share;
#[cfg(test)]
mod tests;

use torchd::job::spec::ThreadWait;

/// Takes the regions of libtorch over, which wait like this from here on. How they really do:
/// GNU's runtime goes on where a library that is loaded needs it.
pub(crate) fn begin(wait: ThreadWait) -> ThreadWait {
    if wait == ThreadWait::Openmp {
        return wait;
    }
    if let Some(name) = foreign::unserved(gomp::SERVED) {
        tracing::warn!("a library calls {name}: the threads of computation are those of its OpenMP runtime");
        return ThreadWait::Openmp;
    }
    patience::set(wait);
    gomp::serve();
    wait
}
