//! Slots for the values of a graph, and calls that take their arguments out of them and put their
//! results into them: the values stay on libtorch's side, and nothing is allocated for a call.

use std::ptr::NonNull;

use tch::{TchError, Tensor};
use torchd::exported::arithmetic::Number;

use super::{Argument, Call, Output, check, ffi, last_error, output};

/// Slots. One that is empty has no value.
#[derive(Debug)]
pub(crate) struct Frame(NonNull<ffi::Frame>);

/// A call that is bound to slots of a frame.
#[derive(Debug)]
pub(crate) struct Bound(Call);

/// The source of an argument that changes from call to call.
#[derive(Debug)]
pub(crate) struct Source {
    /// The place of the argument in the operator's schema.
    pub(crate) place: usize,
    pub(crate) form: Form,
}

/// How an argument is made of slots.
#[derive(Debug)]
pub(crate) enum Form {
    /// The tensor in a slot.
    Tensor(usize),
    /// A list of tensors.
    Tensors(Vec<usize>),
    /// A list of tensors, some of which are None.
    OptionalTensors(Vec<Option<usize>>),
    /// The number in a slot.
    Number(usize),
    /// The same, with a fraction.
    Float(usize),
    /// The same, where the operator takes a tensor.
    Wrapped(usize),
    /// The same, so many times in a list of whole numbers.
    Repeated { slot: usize, times: usize },
    /// Whole numbers.
    Ints(Vec<Item>),
}

/// A whole number of a list.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Item {
    /// The number in a slot.
    Slot(usize),
    /// A number.
    Number(i64),
}

/// The slots of a result.
#[derive(Debug)]
pub(crate) enum Place {
    /// Nowhere.
    Nothing,
    /// One slot.
    One(usize),
    /// The tensors of a list, each into its slot.
    Many(Vec<usize>),
}

impl Frame {
    /// So many slots, all empty.
    ///
    /// # Errors
    /// If there is no memory.
    pub(crate) fn new(slots: usize) -> Result<Self, TchError> {
        // SAFETY: it takes nothing but a number.
        let frame = unsafe { ffi::torchd_aten_frame_new(slots) };
        NonNull::new(frame).map(Self).ok_or_else(last_error)
    }

    /// Puts another handle on a tensor into a slot.
    pub(crate) fn set_tensor(&mut self, slot: usize, tensor: &Tensor) -> Result<(), TchError> {
        self.set(slot, Argument::Tensor(tensor))
    }

    /// Puts a number into a slot.
    pub(crate) fn set_number(&mut self, slot: usize, number: Number) -> Result<(), TchError> {
        self.set(slot, Argument::Number(number))
    }

    /// Puts Python's None into a slot.
    pub(crate) fn set_none(&mut self, slot: usize) -> Result<(), TchError> {
        self.set(slot, Argument::None)
    }

    fn set(&mut self, slot: usize, value: Argument<'_>) -> Result<(), TchError> {
        // SAFETY: the frame lives; the value points to what the argument borrows.
        check(unsafe { ffi::torchd_aten_frame_set(self.0.as_ptr(), slot, value.value()) })
    }

    /// The value in a slot, which stays there.
    ///
    /// # Errors
    /// If the slot is empty.
    pub(crate) fn get(&self, slot: usize) -> Result<Output, TchError> {
        let mut value = super::NOTHING;
        // SAFETY: the frame lives, and there is room for the value.
        check(unsafe { ffi::torchd_aten_frame_get(self.0.as_ptr(), slot, &raw mut value) })?;
        // SAFETY: it was written just now, and is taken once.
        Ok(unsafe { output(value) })
    }

    /// Puts the value in a slot into a slot of another frame, and leaves it here.
    ///
    /// # Errors
    /// If the slot is empty.
    pub(crate) fn pass(&self, slot: usize, to: &mut Self, place: usize) -> Result<(), TchError> {
        // SAFETY: both frames live.
        check(unsafe { ffi::torchd_aten_frame_pass(self.0.as_ptr(), slot, to.0.as_ptr(), place) })
    }

    /// Empties a slot.
    pub(crate) fn free(&mut self, slot: usize) {
        // SAFETY: the frame lives. A slot beyond its last one is passed over.
        unsafe { ffi::torchd_aten_frame_drop(self.0.as_ptr(), slot) }
    }

    /// Empties all slots.
    pub(crate) fn clear(&mut self) {
        // SAFETY: the frame lives.
        unsafe { ffi::torchd_aten_frame_clear(self.0.as_ptr()) }
    }
}

impl Drop for Frame {
    fn drop(&mut self) {
        // SAFETY: it was made by `torchd_aten_frame_new`, and is freed once.
        unsafe { ffi::torchd_aten_frame_free(self.0.as_ptr()) }
    }
}

/// Slots as the C interface takes them.
struct Lists {
    form: i64,
    slots: Vec<i64>,
    /// For whole numbers, those where a slot is below 0.
    numbers: Vec<i64>,
    length: usize,
}

/// No slot.
const NOWHERE: i64 = -1;

impl Form {
    fn lists(&self) -> Lists {
        let one = |form, slot| Lists { form, slots: vec![number(slot)], numbers: Vec::new(), length: 1 };
        let many = |form, slots: Vec<i64>| Lists { form, length: slots.len(), slots, numbers: Vec::new() };
        match self {
            Self::Tensor(slot) => one(ffi::FORM_TENSOR, *slot),
            Self::Tensors(slots) => many(ffi::FORM_TENSORS, slots.iter().map(|slot| number(*slot)).collect()),
            Self::OptionalTensors(slots) => {
                let slots = slots.iter().map(|slot| slot.map_or(NOWHERE, number));
                many(ffi::FORM_OPTIONAL_TENSORS, slots.collect())
            }
            Self::Number(slot) => one(ffi::FORM_NUMBER, *slot),
            Self::Float(slot) => one(ffi::FORM_DOUBLE, *slot),
            Self::Wrapped(slot) => one(ffi::FORM_WRAPPED, *slot),
            Self::Repeated { slot, times } => Lists { length: *times, ..one(ffi::FORM_REPEATED, *slot) },
            Self::Ints(items) => {
                let both = items.iter().map(|item| match item {
                    Item::Slot(slot) => (number(*slot), 0),
                    Item::Number(number) => (NOWHERE, *number),
                });
                let (slots, numbers) = both.unzip();
                Lists { numbers, ..many(ffi::FORM_INTS, slots) }
            }
        }
    }
}

fn number(slot: usize) -> i64 {
    i64::try_from(slot).unwrap_or(i64::MAX)
}

impl Bound {
    /// The call with arguments out of slots, and with results that go into slots; `last_uses` are
    /// empty after it.
    ///
    /// # Errors
    /// If the schema has no such places.
    pub(crate) fn new(call: Call, sources: &[Source], places: &[Place], last_uses: &[usize]) -> Result<Self, TchError> {
        let lists: Vec<_> = sources.iter().map(|source| source.form.lists()).collect();
        let sources: Vec<_> = sources
            .iter()
            .zip(&lists)
            .map(|(Source { place, .. }, Lists { form, slots, numbers, length })| {
                let numbers = if numbers.is_empty() { std::ptr::null() } else { numbers.as_ptr() };
                ffi::Source { place: *place, form: *form, slots: slots.as_ptr(), numbers, length: *length }
            })
            .collect();
        let slots: Vec<(i64, Vec<i64>)> = places
            .iter()
            .map(|place| match place {
                Place::Nothing => (0, vec![NOWHERE]),
                Place::One(slot) => (0, vec![number(*slot)]),
                Place::Many(slots) => (1, slots.iter().map(|slot| number(*slot)).collect()),
            })
            .collect();
        let places: Vec<_> = slots
            .iter()
            .map(|(is_list, slots)| ffi::Place { is_list: *is_list, slots: slots.as_ptr(), length: slots.len() })
            .collect();
        // SAFETY: the call lives; every list has as many items as it is told, and is copied.
        let status = unsafe {
            ffi::torchd_aten_bind(
                call.0.as_ptr(),
                sources.as_ptr(),
                sources.len(),
                places.as_ptr(),
                places.len(),
                last_uses.as_ptr(),
                last_uses.len(),
            )
        };
        check(status)?;
        Ok(Self(call))
    }

    /// Calls the operator. `&mut self`: the call fills lists of its own anew.
    ///
    /// # Errors
    /// The operator's, or an empty slot, or one with a value that it does not take.
    pub(crate) fn run(&mut self, frame: &mut Frame) -> Result<(), TchError> {
        // SAFETY: call and frame live, and nobody else uses them meanwhile.
        check(unsafe { ffi::torchd_aten_step(self.0.0.as_ptr(), frame.0.as_ptr()) })
    }
}
