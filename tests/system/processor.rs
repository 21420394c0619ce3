//! The processor on which PyTorch computed numbers that are compared with. Others differ in the
//! last bits.

use std::fs;

use serde_json::Value;

/// Whether libtorch computes here as on the machine of a `reference.json`.
pub(crate) fn is_that_of(reference: &Value) -> bool {
    let facts = fs::read_to_string("/proc/cpuinfo").unwrap();
    let has = |flags: &[&str]| flags.iter().all(|flag| facts.split_whitespace().any(|found| found == *flag));
    // As `torch.backends.cpu.get_cpu_capability()` tells. (ATen/native/DispatchStub.cpp)
    let found = match () {
        () if has(&["avx512vl", "avx512bw", "avx512dq", "fma"]) => "AVX512",
        () if has(&["avx2", "fma"]) => "AVX2",
        () => "DEFAULT",
    };
    reference["cpu"] == found
}

/// Whether a number is the expected one, but for what processors differ in.
pub(crate) fn is_close(found: f64, expected: f64) -> bool {
    (found - expected).abs() <= 1e-3 * expected.abs()
}
