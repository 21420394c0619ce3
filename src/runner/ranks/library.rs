//! The libraries by which ranks exchange tensors, `libtdranks.so` and, on GPUs, `libtdnccl.so`.
//! `ranks.h` documents their functions.

use std::ffi::{CString, c_char, c_int, c_longlong, c_void};
use std::path::Path;
use std::ptr::NonNull;
use std::time::Duration;

use libloading::os::unix;
use tch::{Device, TchError, Tensor};
use torchd::job::order::Meeting;

use crate::library::{Wanted, told};

/// For ranks on the CPU, and for those on GPUs.
const CPU: Wanted = Wanted { file: "libtdranks.so", target: "ranks", built_for: "torchd_ranks_built_for\0" };
const CUDA: Wanted = Wanted { file: "libtdnccl.so", target: "ranks-nccl", ..CPU };

/// A rank among the others; only ever behind a pointer.
#[repr(C)]
struct Joined {
    _opaque: [u8; 0],
}

type Rows = *const c_longlong;
type JoinAt = unsafe extern "C" fn(
    *const c_char,
    c_int,
    c_int,
    *const c_char,
    *const c_char,
    *const c_char,
    c_int,
    c_int,
    c_longlong,
    c_longlong,
) -> *mut Joined;

/// Where ranks find each other.
pub(crate) enum Store<'a> {
    /// On one machine, by a file that none has used before.
    File(&'a Path),
    /// On several, in a place that other attempts may have used.
    At(&'a Meeting, u32),
}

/// Its functions.
#[derive(Debug, Clone, Copy)]
struct Functions {
    error: unsafe extern "C" fn() -> *const c_char,
    join_local: unsafe extern "C" fn(*const c_char, c_int, c_int, c_longlong, c_longlong) -> *mut Joined,
    join_at: JoinAt,
    spread: unsafe extern "C" fn(*mut Joined, *mut c_void, c_int) -> c_int,
    gather: unsafe extern "C" fn(*mut Joined, *mut c_void, *mut c_void) -> c_int,
    exchange: unsafe extern "C" fn(*mut Joined, *mut c_void, Rows, *mut c_void, Rows) -> c_int,
}

/// Connections to the other ranks. They end with the process.
pub(super) struct Group {
    functions: Functions,
    joined: NonNull<Joined>,
}

/// Whether the library for ranks on such a device is there and fits.
///
/// # Errors
/// Why it cannot be used, in words.
pub(crate) fn probe(device: Device) -> Result<(), String> {
    Functions::open(device).map(drop)
}

impl Functions {
    /// Those of the library for ranks on such a device.
    fn open(device: Device) -> Result<Self, String> {
        let wanted = if device.is_cuda() { CUDA } else { CPU };
        // SAFETY: the signatures are those of `ranks.h`, and it is never closed.
        wanted.open(|library| unsafe { Self::of(library) })
    }

    /// The functions of the library.
    ///
    /// # Safety
    /// It has them with these signatures, and is never closed.
    unsafe fn of(library: &unix::Library) -> Result<Self, libloading::Error> {
        // SAFETY: the caller's promise.
        unsafe {
            Ok(Self {
                error: *library.get(b"torchd_ranks_error\0")?,
                join_local: *library.get(b"torchd_ranks_join_local\0")?,
                join_at: *library.get(b"torchd_ranks_join_at\0")?,
                spread: *library.get(b"torchd_ranks_spread\0")?,
                gather: *library.get(b"torchd_ranks_gather\0")?,
                exchange: *library.get(b"torchd_ranks_exchange\0")?,
            })
        }
    }
}

impl Group {
    /// Joins the ranks of an attempt as one of so many, whose tensors are on the CPU or on the
    /// device.
    ///
    /// # Errors
    /// Why that cannot be, in the words of libtorch.
    pub(super) fn join(
        store: &Store<'_>,
        device: Device,
        (rank, count): (u32, u32),
        join: Duration,
        timeout: Duration,
    ) -> Result<Self, TchError> {
        let functions = Functions::open(device).map_err(TchError::Torch)?;
        let text = |bytes: &[u8]| CString::new(bytes).map_err(|error| TchError::Torch(error.to_string()));
        let milliseconds = |time: Duration| c_longlong::try_from(time.as_millis()).unwrap_or(c_longlong::MAX);
        let number = |of: u32| c_int::try_from(of).unwrap_or(c_int::MAX);
        let (join, timeout) = (milliseconds(join), milliseconds(timeout));
        let (rank, count) = (number(rank), number(count));
        let joined = match store {
            Store::File(path) => {
                let path = text(path.as_os_str().as_encoded_bytes())?;
                // SAFETY: the path ends with a null byte; it returns a group, or null.
                unsafe { (functions.join_local)(path.as_ptr(), rank, count, join, timeout) }
            }
            Store::At(Meeting { host, port, serves, address, interface }, attempt) => {
                let (host, address) = (text(host.as_bytes())?, text(address.as_bytes())?);
                let interface = text(interface.as_deref().unwrap_or_default().as_bytes())?;
                let prefix = text(format!("torchd/{attempt}").as_bytes())?;
                // SAFETY: as above.
                unsafe {
                    (functions.join_at)(
                        host.as_ptr(),
                        (*port).into(),
                        (*serves).into(),
                        prefix.as_ptr(),
                        address.as_ptr(),
                        interface.as_ptr(),
                        rank,
                        count,
                        join,
                        timeout,
                    )
                }
            }
        };
        let joined = NonNull::new(joined);
        joined.map(|joined| Self { functions, joined }).ok_or_else(|| failure(functions))
    }

    /// Puts the tensor of a rank into that of all. Both are contiguous.
    pub(super) fn spread(&self, tensor: &mut Tensor, from: u32) -> Result<(), TchError> {
        let from = c_int::try_from(from).unwrap_or(c_int::MAX);
        // SAFETY: the group lives, this is the thread that joined, and the tensor is one.
        self.check(unsafe { (self.functions.spread)(self.joined.as_ptr(), pointer(tensor), from) })
    }

    /// Puts the tensors of all ranks into one that is as long as all of them.
    pub(super) fn gather(&self, all: &mut Tensor, own: &mut Tensor) -> Result<(), TchError> {
        // SAFETY: as above.
        self.check(unsafe { (self.functions.gather)(self.joined.as_ptr(), pointer(all), pointer(own)) })
    }

    /// Sends each rank as many rows as `sent_rows` has for it, and receives rows from each.
    pub(super) fn exchange(
        &self,
        received: &mut Tensor,
        received_rows: &[c_longlong],
        sent: &mut Tensor,
        sent_rows: &[c_longlong],
    ) -> Result<(), TchError> {
        let (into, from) = (pointer(received), pointer(sent));
        // SAFETY: as above; both lists are as long as there are ranks, as the caller sees to.
        self.check(unsafe {
            (self.functions.exchange)(self.joined.as_ptr(), into, received_rows.as_ptr(), from, sent_rows.as_ptr())
        })
    }

    fn check(&self, status: c_int) -> Result<(), TchError> {
        if status == 0 { Ok(()) } else { Err(failure(self.functions)) }
    }
}

/// The words of a failure.
fn failure(functions: Functions) -> TchError {
    // SAFETY: the text ends with a null byte and lives until this thread's next failure.
    unsafe { told(functions.error) }
}

/// The tensor of libtorch behind one of tch.
fn pointer(tensor: &mut Tensor) -> *mut c_void {
    tensor.as_mut_ptr().cast()
}
