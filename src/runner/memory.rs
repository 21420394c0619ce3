//! Settings of the allocator: freed memory stays with the process. A training step frees tensors
//! and asks for ones of the same sizes a moment later. By default glibc returns them to the kernel
//! in between, and every page of them is a fault in the next step: 13,800 a step for ResNet-18,
//! which is slower by a third.

use nix::libc;

/// Blocks up to this size come from the heap; larger ones are mapped one by one. It is the largest
/// that glibc takes.
const LARGEST_IN_HEAP: libc::c_int = 32 << 20;

/// Keeps freed memory for the next step. Both settings are needed: without the first the blocks of
/// a step are mapped, and unmapped when they are freed. (mallopt(3))
pub(crate) fn keep_freed() {
    // SAFETY: it changes two settings of the allocator, before there is another thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGEST_IN_HEAP);
        libc::mallopt(libc::M_TRIM_THRESHOLD, libc::c_int::MAX);
    }
}

/// The peak of the memory that this process has of its own, in bytes: resident pages that belong to
/// no file. Those of files, libtorch's code above all, are shared by all runners, and the kernel
/// takes them back when it needs them. Of one runner of one job there were 76 and 133 MB, as the
/// page cache had it.
///
/// It is a lower bound: the kernel keeps the peak of all pages, and of files it tells those of now.
pub(crate) fn own_peak_bytes() -> u64 {
    own_peak(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// The same by the text of /proc/self/status, which counts in kB.
fn own_peak(status: &str) -> u64 {
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).unwrap_or(0) * 1024
    };
    (of("RssAnon") + of("RssShmem")).max(of("VmHWM").saturating_sub(of("RssFile")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_its_own_is_that_of_no_file() {
        let status =
            |peak, own, files| format!("VmHWM:\t{peak} kB\nRssAnon:\t{own} kB\nRssFile: {files} kB\nRssShmem: 1 kB\n");
        // Of a peak of 300 at least 180 were no files'.
        assert_eq!(own_peak(&status(300, 100, 120)), 180 << 10);
        // Pages of files that came after the peak hide it.
        assert_eq!(own_peak(&status(300, 100, 250)), 101 << 10);
        assert_eq!(own_peak(""), 0);
        let before = own_peak_bytes();
        drop(std::hint::black_box(vec![1u8; 64 << 20]));
        assert!(own_peak_bytes() >= before.max(64 << 20), "{before}");
    }

    /// Page faults of this thread while it writes to some blocks, frees them, and does so again.
    fn faults_of_steps() -> i64 {
        let faults = || {
            // SAFETY: an all-zero rusage is one, and getrusage writes it.
            unsafe {
                let mut usage: libc::rusage = std::mem::zeroed();
                libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
                usage.ru_minflt
            }
        };
        let step = || drop(std::hint::black_box((0..12).map(|_| vec![1u8; 4 << 20]).collect::<Vec<_>>()));
        step();
        let before = faults();
        (0..5).for_each(|_| step());
        faults() - before
    }

    #[test]
    fn memory_that_a_step_has_freed_costs_the_next_one_no_page_faults() {
        // 12 blocks of 1024 pages, 5 times. Whether glibc gives all of them back is its own affair.
        let given_back = faults_of_steps();
        assert!(given_back > 10_000, "{given_back}: nothing was given back without the settings");
        keep_freed();
        let kept = faults_of_steps();
        assert!(kept < 1000, "{kept} faults, and {given_back} before");
    }
}
