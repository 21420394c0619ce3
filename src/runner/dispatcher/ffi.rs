//! ATen's dispatcher and autocast behind a C interface: the declarations of `aten.h`, which
//! documents each function. `build.rs` compiles the C++ and links it to the runner alone.

use std::ffi::{c_char, c_int, c_void};

pub(super) use torch_sys::C_tensor;

/// A value, by its tag.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Value {
    /// One of the constants below.
    pub(super) tag: i64,
    /// A whole number, or 0 and 1.
    pub(super) integer: i64,
    /// A number with a fraction.
    pub(super) number: f64,
    /// A tensor, or the first item of a list.
    pub(super) pointer: *const c_void,
    /// Items of a list.
    pub(super) length: usize,
}

/// None.
pub(super) const NONE: i64 = 0;
/// A tensor, a [`C_tensor`].
pub(super) const TENSOR: i64 = 1;
/// A whole number.
pub(super) const INT: i64 = 2;
/// A number with a fraction.
pub(super) const DOUBLE: i64 = 3;
/// True or false.
pub(super) const BOOL: i64 = 4;
/// A list of `i64`.
pub(super) const INTS: i64 = 5;
/// A list of `f64`.
pub(super) const DOUBLES: i64 = 6;
/// A list of `bool`.
pub(super) const BOOLS: i64 = 7;
/// A text, without a null byte at its end.
pub(super) const STRING: i64 = 8;
/// A list of pointers to tensors.
pub(super) const TENSORS: i64 = 9;
/// The same; null stands for None.
pub(super) const OPTIONAL_TENSORS: i64 = 10;
/// A device as a text.
pub(super) const DEVICE: i64 = 11;
/// The default of the operator's schema.
pub(super) const DEFAULT: i64 = 12;
/// A number where the operator takes a tensor.
pub(super) const WRAPPED_INT: i64 = 13;
/// The same.
pub(super) const WRAPPED_DOUBLE: i64 = 14;
/// The same.
pub(super) const WRAPPED_BOOL: i64 = 15;

/// An operator with arguments; only ever behind a pointer.
#[repr(C)]
pub(super) struct Call {
    _opaque: [u8; 0],
}

/// The state of autocast on a type of device.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Autocast {
    /// 0 or 1.
    pub(super) is_enabled: i32,
    /// c10's number of the type; -1 for the one that the device has.
    pub(super) data_type: i32,
    /// 0 or 1; -1 for what is set.
    pub(super) is_cached: i32,
}

unsafe extern "C" {
    /// The reason of this thread's last failure, until the next one.
    pub(super) fn torchd_aten_error() -> *const c_char;
    /// Gives the schema of every operator of a namespace to `take`, with `context`. 0 on success.
    pub(super) fn torchd_aten_schemas(
        name_space: *const c_char,
        context: *mut c_void,
        take: extern "C" fn(*mut c_void, *const c_char),
    ) -> c_int;
    /// Prepares a call with one argument for each of the schema; null on failure.
    pub(super) fn torchd_aten_prepare(
        name: *const c_char,
        overload: *const c_char,
        arguments: *const Value,
        length: usize,
    ) -> *mut Call;
    /// Frees a call.
    pub(super) fn torchd_aten_free(call: *mut Call);
    /// Calls, with arguments replaced at some places. 0 on success.
    pub(super) fn torchd_aten_run(
        call: *const Call,
        places: *const usize,
        arguments: *const Value,
        length: usize,
        results: *mut Value,
        most: usize,
        found: *mut usize,
    ) -> c_int;
    /// Enters a region of autocast. 0 on success.
    pub(super) fn torchd_aten_autocast_enter(
        device_type: *const c_char,
        state: Autocast,
        before: *mut Autocast,
    ) -> c_int;
    /// Leaves it. 0 on success.
    pub(super) fn torchd_aten_autocast_leave(device_type: *const c_char, before: Autocast) -> c_int;
}
