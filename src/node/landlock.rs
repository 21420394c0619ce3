//! Landlock, by which the kernel confines a process (landlock(7)): whether it is there.

use nix::errno::Errno;

/// The ABI of this kernel, or why it has none.
pub fn landlock_abi() -> Result<i64, String> {
    const ONLY_VERSION: u32 = 1;
    let nothing = std::ptr::null::<u8>();
    // SAFETY: with this flag the call reads no memory, and returns a number. (landlock(7))
    let abi = unsafe { nix::libc::syscall(nix::libc::SYS_landlock_create_ruleset, nothing, 0_usize, ONLY_VERSION) };
    match Errno::result(abi) {
        Ok(abi) => Ok(abi),
        Err(Errno::EOPNOTSUPP) => Err("Landlock is not among the kernel's lsm= parameters".into()),
        Err(_) => Err("the kernel has no Landlock, or a container forbids it".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_has_landlock_or_a_reason() {
        assert!(landlock_abi().is_ok_and(|abi| abi > 0) || landlock_abi().is_err_and(|why| why.contains("Landlock")));
    }
}
