//! ATen's dispatcher and autocast behind a C interface: the declarations of `aten.h`, which
//! documents each function.
//!
//! A crate of its own, so that the daemon and the client do not link libtorch, and the C++ is
//! compiled only after a change of it.

use std::ffi::{c_char, c_int, c_void};

pub use torch_sys::C_tensor;

/// A value, by its tag.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct Value {
    /// One of the constants below.
    pub tag: i64,
    /// A whole number, or 0 and 1.
    pub integer: i64,
    /// A number with a fraction.
    pub number: f64,
    /// A tensor, or the first item of a list.
    pub pointer: *const c_void,
    /// Items of a list.
    pub length: usize,
}

/// None.
pub const NONE: i64 = 0;
/// A tensor, a [`C_tensor`].
pub const TENSOR: i64 = 1;
/// A whole number.
pub const INT: i64 = 2;
/// A number with a fraction.
pub const DOUBLE: i64 = 3;
/// True or false.
pub const BOOL: i64 = 4;
/// A list of `i64`.
pub const INTS: i64 = 5;
/// A list of `f64`.
pub const DOUBLES: i64 = 6;
/// A list of `bool`.
pub const BOOLS: i64 = 7;
/// A text, without a null byte at its end.
pub const STRING: i64 = 8;
/// A list of pointers to tensors.
pub const TENSORS: i64 = 9;
/// The same; null stands for None.
pub const OPTIONAL_TENSORS: i64 = 10;
/// A device as a text.
pub const DEVICE: i64 = 11;
/// The default of the operator's schema.
pub const DEFAULT: i64 = 12;
/// A number where the operator takes a tensor.
pub const WRAPPED_INT: i64 = 13;
/// The same.
pub const WRAPPED_DOUBLE: i64 = 14;
/// The same.
pub const WRAPPED_BOOL: i64 = 15;

/// An operator with arguments; only ever behind a pointer.
#[repr(C)]
pub struct Call {
    _opaque: [u8; 0],
}

/// The state of autocast on a type of device.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub struct Autocast {
    /// 0 or 1.
    pub is_enabled: i32,
    /// c10's number of the type; -1 for the one that the device has.
    pub data_type: i32,
    /// 0 or 1; -1 for what is set.
    pub is_cached: i32,
}

unsafe extern "C" {
    /// The reason of this thread's last failure, until the next one.
    pub fn torchd_aten_error() -> *const c_char;
    /// Gives the schema of every operator of a namespace to `take`, with `context`. 0 on success.
    pub fn torchd_aten_schemas(
        name_space: *const c_char,
        context: *mut c_void,
        take: extern "C" fn(*mut c_void, *const c_char),
    ) -> c_int;
    /// Prepares a call with one argument for each of the schema; null on failure.
    pub fn torchd_aten_prepare(
        name: *const c_char,
        overload: *const c_char,
        arguments: *const Value,
        length: usize,
    ) -> *mut Call;
    /// Frees a call.
    pub fn torchd_aten_free(call: *mut Call);
    /// Calls, with arguments replaced at some places. 0 on success.
    pub fn torchd_aten_run(
        call: *const Call,
        places: *const usize,
        arguments: *const Value,
        length: usize,
        results: *mut Value,
        most: usize,
        found: *mut usize,
    ) -> c_int;
    /// Enters a region of autocast. 0 on success.
    pub fn torchd_aten_autocast_enter(device_type: *const c_char, state: Autocast, before: *mut Autocast) -> c_int;
    /// Leaves it. 0 on success.
    pub fn torchd_aten_autocast_leave(device_type: *const c_char, before: Autocast) -> c_int;
}
