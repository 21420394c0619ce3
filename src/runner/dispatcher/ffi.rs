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

/// Slots for the values of a graph; only ever behind a pointer.
#[repr(C)]
pub(super) struct Frame {
    _opaque: [u8; 0],
}

/// The tensor in a slot.
pub(super) const FORM_TENSOR: i64 = 0;
/// A list of tensors.
pub(super) const FORM_TENSORS: i64 = 1;
/// The same; a slot below 0 is None.
pub(super) const FORM_OPTIONAL_TENSORS: i64 = 2;
/// The number in a slot.
pub(super) const FORM_NUMBER: i64 = 3;
/// The same, as a double.
pub(super) const FORM_DOUBLE: i64 = 4;
/// The same, where the operator takes a tensor.
pub(super) const FORM_WRAPPED: i64 = 5;
/// The same, so many times in a list of whole numbers.
pub(super) const FORM_REPEATED: i64 = 6;
/// A list of whole numbers.
pub(super) const FORM_INTS: i64 = 7;

/// An argument that comes out of slots.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    /// In the operator's schema.
    pub(super) place: usize,
    /// One of the forms.
    pub(super) form: i64,
    /// `length` slots; one of a number that is repeated.
    pub(super) slots: *const i64,
    /// Of whole numbers `length` of them, for slots below 0.
    pub(super) numbers: *const i64,
    /// Of a number that is repeated the times.
    pub(super) length: usize,
}

/// The slots of a result.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// 0: one slot, below 0 for nowhere. 1: a slot for each tensor of a list.
    pub(super) is_list: i64,
    /// `length` slots.
    pub(super) slots: *const i64,
    pub(super) length: usize,
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
    /// Makes empty slots; null on failure.
    pub(super) fn torchd_aten_frame_new(slots: usize) -> *mut Frame;
    /// Frees them with their values.
    pub(super) fn torchd_aten_frame_free(frame: *mut Frame);
    /// Empties a slot.
    pub(super) fn torchd_aten_frame_drop(frame: *mut Frame, slot: usize);
    /// Empties all slots.
    pub(super) fn torchd_aten_frame_clear(frame: *mut Frame);
    /// Puts a value into a slot. 0 on success.
    pub(super) fn torchd_aten_frame_set(frame: *mut Frame, slot: usize, value: Value) -> c_int;
    /// Tells the value in a slot. 0 on success.
    pub(super) fn torchd_aten_frame_get(frame: *const Frame, slot: usize, value: *mut Value) -> c_int;
    /// Puts a value of one frame into another. 0 on success.
    pub(super) fn torchd_aten_frame_pass(from: *const Frame, slot: usize, to: *mut Frame, place: usize) -> c_int;
    /// Tells a call its slots. 0 on success.
    pub(super) fn torchd_aten_bind(
        call: *mut Call,
        sources: *const Source,
        sources_length: usize,
        places: *const Place,
        places_length: usize,
        last_uses: *const usize,
        last_uses_length: usize,
    ) -> c_int;
    /// Calls with arguments out of slots, and puts the results into slots. 0 on success.
    pub(super) fn torchd_aten_step(call: *mut Call, frame: *mut Frame) -> c_int;
    /// Enters a region of autocast. 0 on success.
    pub(super) fn torchd_aten_autocast_enter(
        device_type: *const c_char,
        state: Autocast,
        before: *mut Autocast,
    ) -> c_int;
    /// Leaves it. 0 on success.
    pub(super) fn torchd_aten_autocast_leave(device_type: *const c_char, before: Autocast) -> c_int;
}
