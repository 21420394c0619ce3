//! Why a run ends before its last step: a reason for programs and words for people.

use std::fmt;
use std::io;

use tch::TchError;
use torchd::proto::v1::JobEndReason;

/// Why training cannot go on.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) reason: JobEndReason,
    pub(crate) message: String,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(reason: JobEndReason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }

    /// Training has diverged: a number that it needs to go on is infinite or not a number.
    pub(crate) fn diverged(step: u64, found: &str) -> Self {
        Self::new(JobEndReason::Diverged, format!("at step {step} {found}; a smaller learning rate may help"))
    }

    /// A batch was asked for behind the last one of its pass: a fault of torchd.
    pub(crate) fn no_examples() -> Self {
        Self::new(JobEndReason::Internal, "there are no more examples in this pass")
    }

    /// The machine lacks something for now. Nothing about the job follows from it: it is no last
    /// word, and the daemon starts another attempt.
    pub(crate) fn machine(message: impl Into<String>) -> Self {
        Self::new(JobEndReason::StartFailed, message)
    }

    /// A file of the job's folder could not be written.
    pub(crate) fn storage(what: impl fmt::Display) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::new(JobEndReason::Storage, format!("{what}: {error}"))
    }
}

impl From<TchError> for Failure {
    fn from(error: TchError) -> Self {
        let text = error.to_string();
        let message = first_line(&error);
        // The last ones are cuBLAS and cuDNN.
        let is_memory =
            ["out of memory", "can't allocate memory", "not enough memory", "bad_alloc", "STATUS_ALLOC_FAILED"];
        let reason = if is_memory.iter().any(|words| text.contains(words)) {
            JobEndReason::OutOfMemory
        } else {
            JobEndReason::Internal
        };
        Self { reason, message }
    }
}

/// The words of libtorch, which appends a stack trace of C++: the first line says what happened.
pub(crate) fn first_line(error: &TchError) -> String {
    let text = match error {
        // Without the words that tch puts before those of libtorch.
        TchError::Torch(text) => text.clone(),
        error => error.to_string(),
    };
    text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no message").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_libtorch_says_of_memory_is_told_apart() {
        let cpu = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried";
        assert_eq!(Failure::from(TchError::Torch(cpu.into())).reason, JobEndReason::OutOfMemory);
        let cublas = "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`";
        assert_eq!(Failure::from(TchError::Torch(cublas.into())).reason, JobEndReason::OutOfMemory);
        let shape = Failure::from(TchError::Torch("shape '[2]' is invalid\nframe #0: c10::Error".into()));
        assert_eq!(shape.reason, JobEndReason::Internal);
        assert_eq!(shape.message, "shape '[2]' is invalid");
    }
}
