//! TorchScript modules. They are code of strangers: it runs in a runner that is confined, and
//! nowhere else.

mod ffi;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::ptr::NonNull;

use tch::{Device, Tensor};

/// A module on a device.
pub(crate) struct Script(NonNull<ffi::Script>);

/// A tensor of a module.
pub(crate) struct Named {
    /// As in PyTorch's `state_dict`.
    pub(crate) name: String,
    pub(crate) tensor: Tensor,
    /// A parameter that wants a gradient.
    pub(crate) is_learned: bool,
}

/// A refusal of libtorch, in its words.
pub(crate) type Result<T> = std::result::Result<T, String>;

impl Script {
    /// Loads a module as `torch.jit.save` writes it.
    pub(crate) fn load(path: &Path, device: Device) -> Result<Self> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        let device = match device {
            Device::Cuda(index) => format!("cuda:{index}"),
            _ => "cpu".to_owned(),
        };
        let device = CString::new(device).map_err(|error| error.to_string())?;
        // SAFETY: both texts end with a null byte.
        let module = unsafe { ffi::torchd_script_load(path.as_ptr(), device.as_ptr()) };
        NonNull::new(module).map(Self).ok_or_else(last_error)
    }

    /// Parameters and buffers.
    pub(crate) fn tensors(&self) -> Result<Vec<Named>> {
        let mut found: Vec<(String, Tensor, c_int)> = Vec::new();
        // SAFETY: the module lives; `keep` gets the list back as it was given.
        let status = unsafe { ffi::torchd_script_tensors(self.0.as_ptr(), (&raw mut found).cast(), keep) };
        check(status)?;
        let named = |(name, tensor, usage)| Named { name, tensor, is_learned: usage == ffi::PARAMETER };
        Ok(found.into_iter().map(named).collect())
    }

    /// How many arguments a method takes; None where there is no such method.
    pub(crate) fn arguments(&self, method: &CStr) -> Option<usize> {
        // SAFETY: the module lives, and the name ends with a null byte.
        usize::try_from(unsafe { ffi::torchd_script_arguments(self.0.as_ptr(), method.as_ptr()) }).ok()
    }

    /// Switches between training and evaluation.
    pub(crate) fn train(&self, is_training: bool) -> Result<()> {
        // SAFETY: the module lives.
        check(unsafe { ffi::torchd_script_train(self.0.as_ptr(), c_int::from(is_training)) })
    }

    /// Calls a method. The tensors of the result by their paths: empty for the result itself, such
    /// as `1.accuracy` for those within it.
    pub(crate) fn call(&self, method: &CStr, inputs: &[&Tensor]) -> Result<Vec<(String, Tensor)>> {
        let tensors: Vec<*mut c_void> = inputs.iter().map(|tensor| tensor.as_ptr().cast_mut().cast()).collect();
        let mut found: Vec<(String, Tensor, c_int)> = Vec::new();
        // SAFETY: the module and the tensors live, the name ends with a null byte, and `keep` gets
        // the list back as it was given.
        let status = unsafe {
            ffi::torchd_script_call(
                self.0.as_ptr(),
                method.as_ptr(),
                tensors.as_ptr(),
                tensors.len(),
                (&raw mut found).cast(),
                keep,
            )
        };
        check(status)?;
        Ok(found.into_iter().map(|(path, tensor, _)| (path, tensor)).collect())
    }

    /// Saves the module with its weights as they are.
    pub(crate) fn save(&self, path: &Path) -> Result<()> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(|error| error.to_string())?;
        // SAFETY: the module lives, and the path ends with a null byte.
        check(unsafe { ffi::torchd_script_save(self.0.as_ptr(), path.as_ptr()) })
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // SAFETY: it was made by `torchd_script_load`, and is freed once.
        unsafe { ffi::torchd_script_free(self.0.as_ptr()) }
    }
}

/// Adds a tensor to a list.
extern "C" fn keep(context: *mut c_void, name: *const c_char, tensor: *mut c_void, usage: c_int) {
    // SAFETY: `context` is a list that nobody else uses meanwhile; the name ends with a null byte;
    // the tensor is a new one, which is ours.
    let (found, name, tensor) = unsafe {
        let found = &mut *context.cast::<Vec<(String, Tensor, c_int)>>();
        (found, CStr::from_ptr(name), Tensor::from_ptr(tensor.cast()))
    };
    found.push((name.to_string_lossy().into_owned(), tensor, usage));
}

fn check(status: c_int) -> Result<()> {
    if status == 0 { Ok(()) } else { Err(last_error()) }
}

/// The last failure in words. The interpreter tells it in the line after its trace, and the lines
/// of the user's own file before it.
fn last_error() -> String {
    // SAFETY: the text ends with a null byte and lives until this thread's next failure.
    let text = unsafe { CStr::from_ptr(ffi::torchd_script_error()) };
    words(&text.to_string_lossy())
}

/// The error of the interpreter in one line, with the line of the source.
fn words(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let is_trace = |line: &str| line.starts_with("Traceback of TorchScript");
    if !lines.iter().any(|line| is_trace(line)) {
        return lines.first().map_or_else(|| "no message".to_owned(), |&line| line.to_owned());
    }
    let error = lines.iter().rev().find(|line| line.contains("Error: ")).or(lines.last());
    let error = error.map_or("no message", |line| line.split_once("Error: ").map_or(*line, |(_, error)| error));
    // The innermost frame stands last; below its place is the line, marked by tildes.
    let place = lines.iter().rposition(|line| line.starts_with("File \"") && line.contains(", line "));
    let Some(place) = place else { return error.to_owned() };
    let marked = lines[place + 1..].iter().position(|line| line.starts_with('~')).map(|marked| place + marked);
    let source = marked.filter(|&line| line > place).map_or(String::new(), |line| format!(": {}", lines[line]));
    format!("{error} ({}{source})", lines[place])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_writes_where_it_is_not_confined() {
        let written = Path::new("/tmp/torchd-torchscript-writes");
        let script = Script::load(Path::new("tests/data/torchscript/writes.pt"), Device::Cpu).unwrap();
        assert!(!written.exists());
        script.call(c"forward", &[&Tensor::zeros([2, 6], (tch::Kind::Float, Device::Cpu))]).unwrap();
        std::fs::remove_file(written).unwrap();
    }

    #[test]
    fn the_interpreter_tells_an_error_and_its_line() {
        let text = "The following operation failed in the TorchScript interpreter.\n\
                    Traceback of TorchScript, serialized code (most recent call last):\n  \
                    File \"code/__torch__/net.py\", line 7, in forward\n    x: Tensor) -> Tensor:\n    return torch.mm(x, w)\n           ~~~~~~~~ <--- HERE\n\n\
                    Traceback of TorchScript, original code (most recent call last):\n  \
                    File \"/home/me/net.py\", line 12, in forward\n        def forward(self, x):\n            return x @ self.w\n                   ~~~~~~~~~~ <--- HERE\n\
                    RuntimeError: mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)\n";
        assert_eq!(
            words(text),
            "mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5) (File \"/home/me/net.py\", line 12, in forward: return x @ self.w)"
        );
        assert_eq!(words("open file failed, file path: x\nframe #0"), "open file failed, file path: x");
        assert_eq!(words(""), "no message");
    }
}
