//! TorchScript modules behind a C interface: the declarations of `script.h`, which documents each
//! function. `build.rs` compiles the C++ and links it to the runner alone.

use std::ffi::{c_char, c_int, c_void};

/// A module; only ever behind a pointer.
#[repr(C)]
pub(super) struct Script {
    _opaque: [u8; 0],
}

/// A parameter that wants a gradient.
pub(super) const PARAMETER: c_int = 2;

/// Takes a tensor with its name and its use.
pub(super) type Take = extern "C" fn(context: *mut c_void, name: *const c_char, tensor: *mut c_void, usage: c_int);

unsafe extern "C" {
    pub(super) fn torchd_script_error() -> *const c_char;
    pub(super) fn torchd_script_load(path: *const c_char, device: *const c_char) -> *mut Script;
    pub(super) fn torchd_script_free(module: *mut Script);
    pub(super) fn torchd_script_tensors(module: *mut Script, context: *mut c_void, take: Take) -> c_int;
    pub(super) fn torchd_script_arguments(module: *const Script, method: *const c_char) -> i64;
    pub(super) fn torchd_script_train(module: *mut Script, is_training: c_int) -> c_int;
    pub(super) fn torchd_script_call(
        module: *mut Script,
        method: *const c_char,
        tensors: *const *mut c_void,
        length: usize,
        context: *mut c_void,
        take: Take,
    ) -> c_int;
    pub(super) fn torchd_script_save(module: *mut Script, path: *const c_char) -> c_int;
}
