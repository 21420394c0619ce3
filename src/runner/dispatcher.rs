//! Calls libtorch's operators by name through ATen's dispatcher, and enters regions of autocast:
//! tch binds neither. Autograd records a call as it does in eager PyTorch.
//!
//! A call is prepared once, with the arguments that never change, and run with the others.

mod ffi;
mod frame;

use std::ffi::{CStr, CString, c_char, c_void};
use std::marker::PhantomData;
use std::ptr::NonNull;

use tch::{TchError, Tensor};
use torchd::exported::arithmetic::Number;

pub(crate) use self::frame::{Bound, Form, Frame, Item, Place, Source};

/// Results of an operator, at most: the largest number in libtorch 2.11 is 7.
const MOST_RESULTS: usize = 16;
/// Arguments that change from call to call, at most.
const MOST_CHANGED: usize = 8;

/// An operator with the arguments that are the same in each call.
#[derive(Debug)]
pub(crate) struct Call(NonNull<ffi::Call>);

/// An argument.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Argument<'a> {
    /// The default of the operator's schema.
    Default,
    /// Python's None.
    None,
    /// A tensor.
    Tensor(&'a Tensor),
    /// A number; data types, layouts and memory formats are whole numbers.
    Number(Number),
    /// A number where the operator takes a tensor.
    Wrapped(Number),
    /// Whole numbers.
    Ints(&'a [i64]),
    /// Numbers with fractions.
    Floats(&'a [f64]),
    /// Truths.
    Bools(&'a [bool]),
    /// A text.
    Text(&'a str),
    /// A device, such as `cuda:0`.
    Device(&'a str),
    /// A list of tensors.
    Tensors(&'a [Handle<'a>]),
}

/// A tensor in a list.
#[repr(transparent)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handle<'a> {
    tensor: *const ffi::C_tensor,
    lives: PhantomData<&'a Tensor>,
}

/// A result.
#[derive(Debug)]
pub(crate) enum Output {
    /// Nothing.
    None,
    /// A tensor.
    Tensor(Tensor),
    /// A number.
    Number(Number),
    /// A list of tensors.
    Tensors(Vec<Tensor>),
}

/// The schemas of all operators of a library, such as `aten`.
pub(crate) fn schemas(library: &str) -> Result<Vec<String>, TchError> {
    extern "C" fn take(context: *mut c_void, text: *const c_char) {
        // SAFETY: `context` is the list below, which nobody else uses meanwhile; `text` ends with a
        // null byte and lives until this returns.
        let (found, text) = unsafe { (&mut *context.cast::<Vec<String>>(), CStr::from_ptr(text)) };
        found.push(text.to_string_lossy().into_owned());
    }
    let library = CString::new(library).map_err(|error| TchError::Torch(error.to_string()))?;
    let mut found: Vec<String> = Vec::new();
    // SAFETY: the library's name ends with a null byte; `take` gets the list back as it was given.
    let status = unsafe { ffi::torchd_aten_schemas(library.as_ptr(), (&raw mut found).cast(), take) };
    check(status)?;
    Ok(found)
}

impl Call {
    /// An operator by its name, such as `aten::add`, and its overload, which is empty for the
    /// default one; with one argument for each of its schema.
    pub(crate) fn prepare(name: &str, overload: &str, arguments: &[Argument<'_>]) -> Result<Self, TchError> {
        let text = |text: &str| CString::new(text).map_err(|error| TchError::Torch(error.to_string()));
        let (name, overload) = (text(name)?, text(overload)?);
        let values: Vec<_> = arguments.iter().map(Argument::value).collect();
        // SAFETY: both names end with a null byte; the values point to what `arguments` borrows.
        let call = unsafe { ffi::torchd_aten_prepare(name.as_ptr(), overload.as_ptr(), values.as_ptr(), values.len()) };
        NonNull::new(call).map(Self).ok_or_else(last_error)
    }

    /// Calls it with other arguments at some places of the schema.
    pub(crate) fn run(&self, places: &[usize], arguments: &[Argument<'_>]) -> Result<Outputs, TchError> {
        let length = places.len().min(arguments.len());
        if length > MOST_CHANGED {
            return Err(TchError::Torch(format!("{length} arguments are given; {MOST_CHANGED} at most are taken")));
        }
        let mut values = [NOTHING; MOST_CHANGED];
        for (value, argument) in values.iter_mut().zip(arguments) {
            *value = argument.value();
        }
        let mut results = Outputs { values: [NOTHING; MOST_RESULTS], next: 0, found: 0 };
        // SAFETY: the call lives; places and values have `length` items or more, and the values
        // point to what `arguments` borrows; there is room for MOST_RESULTS results.
        let status = unsafe {
            ffi::torchd_aten_run(
                self.0.as_ptr(),
                places.as_ptr(),
                values.as_ptr(),
                length,
                results.values.as_mut_ptr(),
                MOST_RESULTS,
                &raw mut results.found,
            )
        };
        check(status)?;
        Ok(results)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // SAFETY: it was made by `torchd_aten_prepare`, and is freed once.
        unsafe { ffi::torchd_aten_free(self.0.as_ptr()) }
    }
}

/// The results of a call, in their order.
pub(crate) struct Outputs {
    values: [ffi::Value; MOST_RESULTS],
    next: usize,
    found: usize,
}

impl Iterator for Outputs {
    type Item = Output;

    fn next(&mut self) -> Option<Output> {
        if self.next == self.found {
            return None;
        }
        let value = self.values[self.next];
        self.next += 1;
        // SAFETY: libtorch wrote it, and it is taken once.
        Some(unsafe { output(value) })
    }
}

/// The value that libtorch has written.
///
/// # Safety
/// A tensor, or a list of them, in the value is taken over: it may be done once.
unsafe fn output(value: ffi::Value) -> Output {
    match value.tag {
        // SAFETY: the pointer is a new tensor, which is ours.
        ffi::TENSOR => Output::Tensor(unsafe { Tensor::from_ptr(value.pointer.cast_mut().cast()) }),
        ffi::INT => Output::Number(Number::Int(value.integer)),
        ffi::DOUBLE => Output::Number(Number::Float(value.number)),
        ffi::BOOL => Output::Number(Number::Bool(value.integer != 0)),
        ffi::TENSORS => {
            let list = value.pointer.cast::<*mut ffi::C_tensor>();
            // SAFETY: the list has so many new tensors, which are ours, and so is the list.
            Output::Tensors(unsafe {
                let tensors = (0..value.length).map(|place| Tensor::from_ptr(*list.add(place))).collect();
                nix::libc::free(list.cast_mut().cast());
                tensors
            })
        }
        _ => Output::None,
    }
}

impl Drop for Outputs {
    fn drop(&mut self) {
        // Results that nobody took are freed.
        self.for_each(drop);
    }
}

impl<'a> From<&'a Tensor> for Handle<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Self { tensor: tensor.as_ptr(), lives: PhantomData }
    }
}

const NOTHING: ffi::Value =
    ffi::Value { tag: ffi::NONE, integer: 0, number: 0.0, pointer: std::ptr::null(), length: 0 };

impl Argument<'_> {
    fn value(&self) -> ffi::Value {
        fn list<T>(tag: i64, items: &[T]) -> ffi::Value {
            ffi::Value { tag, pointer: items.as_ptr().cast(), length: items.len(), ..NOTHING }
        }
        fn number(number: Number, [int, double, bool]: [i64; 3]) -> ffi::Value {
            match number {
                Number::Int(integer) => ffi::Value { tag: int, integer, ..NOTHING },
                Number::Float(number) => ffi::Value { tag: double, number, ..NOTHING },
                Number::Bool(is) => ffi::Value { tag: bool, integer: i64::from(is), ..NOTHING },
            }
        }
        match *self {
            Self::Default => ffi::Value { tag: ffi::DEFAULT, ..NOTHING },
            Self::None => NOTHING,
            Self::Tensor(tensor) => ffi::Value { tag: ffi::TENSOR, pointer: tensor.as_ptr().cast(), ..NOTHING },
            Self::Number(plain) => number(plain, [ffi::INT, ffi::DOUBLE, ffi::BOOL]),
            Self::Wrapped(wrapped) => number(wrapped, [ffi::WRAPPED_INT, ffi::WRAPPED_DOUBLE, ffi::WRAPPED_BOOL]),
            Self::Ints(items) => list(ffi::INTS, items),
            Self::Floats(items) => list(ffi::DOUBLES, items),
            Self::Bools(items) => list(ffi::BOOLS, items),
            Self::Text(text) => list(ffi::STRING, text.as_bytes()),
            Self::Device(text) => list(ffi::DEVICE, text.as_bytes()),
            Self::Tensors(items) => list(ffi::TENSORS, items),
        }
    }
}

/// A region of autocast on a type of device. It ends when this is dropped; regions end in the
/// reverse order of their beginnings.
pub(crate) struct Autocast {
    device_type: &'static CStr,
    before: ffi::Autocast,
}

impl Autocast {
    /// Enters a region. The type is c10's number; None leaves the one that the device has, and for
    /// the cache what is set.
    pub(crate) fn enter(
        is_cuda: bool,
        is_enabled: bool,
        dtype: Option<i64>,
        is_cached: Option<bool>,
    ) -> Result<Self, TchError> {
        let state = ffi::Autocast {
            is_enabled: i32::from(is_enabled),
            data_type: dtype.and_then(|dtype| i32::try_from(dtype).ok()).unwrap_or(-1),
            is_cached: is_cached.map_or(-1, i32::from),
        };
        let device_type = if is_cuda { c"cuda" } else { c"cpu" };
        let mut before = ffi::Autocast::default();
        // SAFETY: the name ends with a null byte, and `before` is written.
        check(unsafe { ffi::torchd_aten_autocast_enter(device_type.as_ptr(), state, &raw mut before) })?;
        Ok(Self { device_type, before })
    }
}

impl Drop for Autocast {
    fn drop(&mut self) {
        // SAFETY: the name ends with a null byte. It fails for an unknown device alone.
        unsafe { ffi::torchd_aten_autocast_leave(self.device_type.as_ptr(), self.before) };
    }
}

fn check(status: i32) -> Result<(), TchError> {
    if status == 0 { Ok(()) } else { Err(last_error()) }
}

fn last_error() -> TchError {
    // SAFETY: the text ends with a null byte and lives until this thread's next failure.
    let text = unsafe { CStr::from_ptr(ffi::torchd_aten_error()) };
    TchError::Torch(text.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;

    fn one(outputs: Outputs) -> Tensor {
        match outputs.into_iter().next() {
            Some(Output::Tensor(tensor)) => tensor,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn operators_are_called_by_name_with_defaults_and_autograd() {
        let x = Tensor::from_slice(&[1f32, 2.0]).set_requires_grad(true);
        let add = Call::prepare("aten::add", "Tensor", &[Argument::None, Argument::None, Argument::Default]).unwrap();
        let sum = one(add.run(&[0, 1], &[Argument::Tensor(&x), Argument::Tensor(&x)]).unwrap());
        assert_eq!(Vec::<f32>::try_from(&sum).unwrap(), [2.0, 4.0]);
        sum.sum(Kind::Float).backward();
        assert_eq!(Vec::<f32>::try_from(x.grad()).unwrap(), [2.0, 2.0]);
    }

    #[test]
    fn a_number_in_place_of_a_tensor_keeps_the_type_of_the_tensor() {
        let x = Tensor::from_slice(&[1f32]);
        let half = Argument::Wrapped(Number::Float(0.5));
        let mul = Call::prepare("aten::mul", "Tensor", &[Argument::None, half]).unwrap();
        let product = one(mul.run(&[0], &[Argument::Tensor(&x)]).unwrap());
        assert_eq!((product.kind(), f64::try_from(product).unwrap()), (Kind::Float, 0.5));
    }

    #[test]
    fn lists_numbers_and_several_results_come_back() {
        let x = Tensor::arange(6, (Kind::Float, Device::Cpu));
        let split = Call::prepare(
            "aten::split_with_sizes",
            "",
            &[Argument::Tensor(&x), Argument::Ints(&[2, 4]), Argument::Default],
        );
        let parts: Vec<_> = split.unwrap().run(&[], &[]).unwrap().collect();
        assert!(matches!(&parts[..], [Output::Tensors(parts)] if parts[1].size() == [4]), "{parts:?}");
        let cat = Call::prepare("aten::cat", "", &[Argument::None, Argument::Default]).unwrap();
        let twice = [Handle::from(&x), Handle::from(&x)];
        assert_eq!(one(cat.run(&[0], &[Argument::Tensors(&twice)]).unwrap()).size(), [12]);
        let item = Call::prepare("aten::sym_size", "int", &[Argument::Tensor(&x), Argument::Number(Number::Int(0))]);
        let size: Vec<_> = item.unwrap().run(&[], &[]).unwrap().collect();
        assert!(matches!(size[..], [Output::Number(Number::Int(6))]), "{size:?}");
    }

    #[test]
    fn what_libtorch_refuses_comes_back_as_its_words() {
        let (x, y) = (Tensor::from_slice(&[1f32, 2.0]), Tensor::from_slice(&[1f32, 2.0, 3.0]));
        let add = Call::prepare("aten::add", "Tensor", &[Argument::None, Argument::None, Argument::Default]).unwrap();
        let told = |result: Result<Outputs, TchError>| result.err().unwrap().to_string();
        assert!(told(add.run(&[0, 1], &[Argument::Tensor(&x), Argument::Tensor(&y)])).contains("must match the size"));
        // An argument of another type, and a place beyond the schema.
        assert!(!told(add.run(&[0, 1], &[Argument::Text("x"), Argument::Tensor(&x)])).is_empty());
        assert!(!told(add.run(&[7], &[Argument::Tensor(&x)])).is_empty());
        for (name, overload, arguments) in [
            ("aten::none", "", &[][..]),
            ("aten::add", "Tensor", &[Argument::Default]),
            ("aten::add", "Tensor", &[Argument::Default, Argument::Default, Argument::Default]),
        ] {
            assert!(!Call::prepare(name, overload, arguments).unwrap_err().to_string().is_empty());
        }
    }

    #[test]
    fn every_operator_of_aten_is_told_with_a_schema_that_is_read() {
        let schemas = schemas("aten").unwrap();
        let read = torchd::exported::operators::Operators::new(schemas.iter().map(String::as_str));
        assert!(schemas.len() > 3000, "{}", schemas.len());
        assert_eq!(read.len(), schemas.len());
        assert_eq!(read.find("aten::conv2d", "").unwrap().parameters.len(), 7);
    }

    #[test]
    fn a_region_of_autocast_ends_with_its_guard() {
        let x = Tensor::ones([2, 2], (Kind::Float, Device::Cpu));
        let kind = || x.matmul(&x).kind();
        {
            let _region = Autocast::enter(false, true, Some(15), None).unwrap();
            assert_eq!(kind(), Kind::BFloat16);
            let _inner = Autocast::enter(false, false, None, None).unwrap();
            assert_eq!(kind(), Kind::Float);
        }
        assert_eq!(kind(), Kind::Float);
    }
}
