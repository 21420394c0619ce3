//! The one map from what can go wrong to what a client sees: a canonical code, a message for
//! people, details for programs.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, PreconditionViolation, QuotaViolation, StatusExt};

use crate::compat::UnknownRuntime;
use crate::job::state::Refusal;
use crate::job::{JobId, Violation, Violations};
use crate::journal::{Damaged, JobFolder, JournalError};
use crate::manager::JobError;
use crate::shortage::is_shortage;
use crate::uploads::UploadError;

/// The domain of every ErrorInfo.
pub(super) const DOMAIN: &str = "torchd";

/// A client that found the queue full may ask again after this.
const RETRY_FULL_QUEUE: Duration = Duration::from_secs(5);

/// A client whose files did not answer may ask again after this.
const RETRY_FILES: Duration = Duration::from_secs(10);
/// A client that found the machine short of descriptors, processes or memory may ask again after
/// this.
const RETRY_SHORTAGE: Duration = Duration::from_secs(5);

/// A client that found too many others before it may ask again after this.
const RETRY_BUSY: Duration = Duration::from_secs(5);

/// A client that found the state folder full may ask again after this.
const RETRY_FULL_STATE: Duration = Duration::from_secs(60);

/// An error travels in headers, of which clients take 8 kilobytes. Limit of one text in bytes, ...
const TEXT_BYTES: usize = 500;
/// ... and of all the mistakes of a request.
const VIOLATIONS_BYTES: usize = 3500;

/// A text that is short enough, without its middle where it was not.
fn abridged(text: impl Into<String>) -> String {
    let text = text.into();
    if text.len() <= TEXT_BYTES {
        return text;
    }
    let boundary = |mut place: usize| {
        while !text.is_char_boundary(place) {
            place -= 1;
        }
        place
    };
    let (head, tail) = (boundary(TEXT_BYTES / 2), boundary(text.len() - TEXT_BYTES / 2));
    format!("{} [{} bytes left out] {}", &text[..head], tail - head, &text[tail..])
}

/// An error with its ErrorInfo and more.
fn status(code: Code, reason: &str, message: impl Into<String>, mut details: ErrorDetails) -> Status {
    details.set_error_info(reason, DOMAIN, HashMap::new());
    Status::with_error_details(code, abridged(message), details)
}

/// An error that has nothing but its ErrorInfo.
pub(super) fn plain(code: Code, reason: &str, message: impl Into<String>) -> Status {
    status(code, reason, message, ErrorDetails::new())
}

/// Mistakes in a request, each with the path of its field.
pub(super) fn invalid(violations: &Violations, prefix: &str) -> Status {
    let told = |Violation { field, description, .. }: &Violation| {
        FieldViolation::new(abridged(format!("{prefix}{field}")), abridged(description))
    };
    let mut bytes = 0;
    let fields: Vec<_> = violations
        .0
        .iter()
        .map(told)
        .take_while(|violation| {
            bytes += violation.field.len() + violation.description.len();
            bytes <= VIOLATIONS_BYTES
        })
        .collect();
    let first = fields.first().map(|first| format!("{} {}", first.field, first.description)).unwrap_or_default();
    let message = match violations.0.len() {
        1 => first,
        count if count > fields.len() => format!("{count} mistakes, {} of them told; the first: {first}", fields.len()),
        count => format!("{count} mistakes, the first: {first}"),
    };
    status(Code::InvalidArgument, "INVALID_REQUEST", message, ErrorDetails::with_bad_request(fields))
}

/// One mistake in a request.
pub(super) fn invalid_field(field: &str, description: impl Into<String>) -> Status {
    let mut violations = Violations::default();
    violations.add(field, description);
    invalid(&violations, "")
}

/// Something that is not there.
pub(super) fn not_found(kind: &str, name: &str, message: String) -> Status {
    let details = ErrorDetails::with_resource_info(kind, abridged(name), "", abridged(&message));
    status(Code::NotFound, "NOT_FOUND", message, details)
}

/// A job of somebody else.
pub(super) fn not_owner(id: &JobId, owner: &str, caller: &str) -> Status {
    let whose = if owner.is_empty() { "was made before jobs had owners" } else { &format!("belongs to {owner}") };
    let message = format!("{} {whose}, and {caller} is no admin here; only its owner and admins change it", id.name());
    let details = ErrorDetails::with_resource_info("torchd.v1.Job", id.name(), owner, abridged(&message));
    status(Code::PermissionDenied, "NOT_OWNER", message, details)
}

/// A runtime that the catalogue does not have.
pub(super) fn unknown_runtime(unknown: &UnknownRuntime) -> Status {
    not_found("torchd.v1.Runtime", &unknown.asked, unknown.to_string())
}

/// A position behind the end of something.
pub(super) fn out_of_range(field: &str, message: String) -> Status {
    let details = ErrorDetails::with_bad_request_violation(field, abridged(&message));
    status(Code::OutOfRange, "BEYOND_THE_END", message, details)
}

/// The status for an error of the manager.
pub(super) fn of(error: JobError) -> Status {
    let message = error.to_string();
    match error {
        JobError::Invalid(violations) => invalid(&violations, "spec."),
        JobError::OwnerQueueFull { ref owner, .. } => owner_quota(owner, RETRY_FULL_QUEUE, message),
        JobError::OwnerStateFull { ref owner, .. } | JobError::OwnerHasNoRoom { ref owner, .. } => {
            owner_quota(owner, RETRY_FULL_STATE, message)
        }
        JobError::QueueFull { .. } => status(
            Code::ResourceExhausted,
            "QUEUE_FULL",
            message,
            ErrorDetails::with_retry_info(Some(RETRY_FULL_QUEUE)),
        ),
        JobError::FilesUnavailable(_) => {
            status(Code::Unavailable, "FILES_UNAVAILABLE", message, ErrorDetails::with_retry_info(Some(RETRY_FILES)))
        }
        JobError::StateFull { .. } | JobError::NoRoom { .. } => status(
            Code::ResourceExhausted,
            "STATE_FULL",
            message,
            ErrorDetails::with_retry_info(Some(RETRY_FULL_STATE)),
        ),
        JobError::RequestTaken { job, .. } => {
            let details = ErrorDetails::with_resource_info("torchd.v1.Job", job.name(), "", abridged(&message));
            status(Code::AlreadyExists, "REQUEST_ID_TAKEN", message, details)
        }
        JobError::Unknown(id) => not_found("torchd.v1.Job", &id.name(), message),
        JobError::Refused { id, refusal } => {
            let kind = match refusal {
                Refusal::AlreadyEnded(_) => "JOB_ENDED",
                Refusal::EndedBeforePause(_) | Refusal::EndedBeforePriority(_) => "JOB_ENDED",
                Refusal::NotEnded(_) => "JOB_NOT_ENDED",
                Refusal::BeingCancelled => "JOB_BEING_CANCELLED",
                Refusal::NotPaused(_) => "JOB_NOT_PAUSED",
                Refusal::Impossible { .. } => return plain(Code::Internal, "INTERNAL", message),
            };
            let violation = PreconditionViolation::new(kind, id.name(), refusal.to_string());
            status(Code::FailedPrecondition, kind, message, ErrorDetails::with_precondition_failure(vec![violation]))
        }
        JobError::BadCheckpoints { id, damaged } => {
            let violation = |damaged: &Damaged| {
                let subject = format!("{}/{}", id.name(), JobFolder::checkpoint_name(damaged.step));
                PreconditionViolation::new("BAD_CHECKPOINT", subject, abridged(&damaged.problem))
            };
            let mut bytes = 0;
            let told = damaged.iter().map(violation).take_while(|violation| {
                bytes += violation.subject.len() + violation.description.len();
                bytes <= VIOLATIONS_BYTES
            });
            let details = ErrorDetails::with_precondition_failure(told.collect::<Vec<_>>());
            status(Code::FailedPrecondition, "BAD_CHECKPOINT", message, details)
        }
        JobError::DataChanged { id, what } => {
            let violation = PreconditionViolation::new("DATA_CHANGED", id.name(), abridged(what));
            let details = ErrorDetails::with_precondition_failure(vec![violation]);
            status(Code::FailedPrecondition, "DATA_CHANGED", message, details)
        }
        JobError::NothingToBeginWith(id) => {
            let violation = PreconditionViolation::new("WARM_START_RESUME", id.name(), abridged(&message));
            let details = ErrorDetails::with_precondition_failure(vec![violation]);
            status(Code::FailedPrecondition, "WARM_START_RESUME", message, details)
        }
        JobError::LeftAlone { is_unread: true, .. } => {
            status(Code::Unavailable, "FOLDER_UNREAD", message, ErrorDetails::with_retry_info(Some(RETRY_FILES)))
        }
        JobError::LeftAlone { id, why, is_unread: false } => {
            let violation = PreconditionViolation::new("FOLDER_UNUSABLE", id.name(), abridged(why));
            let details = ErrorDetails::with_precondition_failure(vec![violation]);
            status(Code::FailedPrecondition, "FOLDER_UNUSABLE", message, details)
        }
        JobError::RunnerBroken(what) => {
            let violation = PreconditionViolation::new("RUNNER", "torchd-runner", abridged(what));
            let details = ErrorDetails::with_precondition_failure(vec![violation]);
            status(Code::FailedPrecondition, "RUNNER_BROKEN", message, details)
        }
        JobError::ShuttingDown | JobError::Gone => plain(Code::Unavailable, "SHUTTING_DOWN", message),
        JobError::Shortage { .. } => shortage(message),
        JobError::Busy(_) => busy(message),
        JobError::Store(_) => internal("STORE_FAILED", message),
        JobError::Folder { what, cause } => of_io(&what, &cause),
    }
}

/// The status for an error about uploads.
pub(super) fn of_upload(error: UploadError) -> Status {
    let message = error.to_string();
    let kind = "torchd.v1.UploadedFile";
    let quota = |subject: &str| {
        let violation = QuotaViolation::new(subject, abridged(&message));
        status(Code::ResourceExhausted, "UPLOAD_QUOTA", &*message, ErrorDetails::with_quota_failure(vec![violation]))
    };
    let precondition = |reason: &str, subject: &str| {
        let violation = PreconditionViolation::new(reason, abridged(subject), abridged(&message));
        let details = ErrorDetails::with_precondition_failure(vec![violation]);
        status(Code::FailedPrecondition, reason, &*message, details)
    };
    let full = |message: &str| {
        let details = ErrorDetails::with_retry_info(Some(RETRY_FULL_STATE));
        status(Code::ResourceExhausted, "DISK_FULL", message, details)
    };
    match &error {
        UploadError::Unknown(name) => not_found(kind, name.as_str(), message),
        UploadError::Exists(name) => {
            let details = ErrorDetails::with_resource_info(kind, abridged(name.as_str()), "", abridged(&message));
            status(Code::AlreadyExists, "FILE_EXISTS", message, details)
        }
        UploadError::Active(_) => {
            status(Code::Aborted, "UPLOAD_ACTIVE", message, ErrorDetails::with_retry_info(Some(RETRY_BUSY)))
        }
        UploadError::TooManyAtOnce(_) => busy(message),
        UploadError::NotAFile { name, .. } => precondition("NOT_A_FILE", name.as_str()),
        UploadError::OtherFile { name, .. } => precondition("UPLOAD_OF_ANOTHER_FILE", name.as_str()),
        UploadError::Quota { .. } => quota("uploads.quota_bytes"),
        UploadError::TooManyFiles(_) => quota("uploads.max_files"),
        UploadError::NoRoom { .. } | UploadError::DiskFull(_) => full(&message),
        UploadError::BehindTheEnd { .. } => out_of_range("begin.offset_bytes", message),
        UploadError::TooLong(_) => out_of_range("data", message),
        UploadError::WrongChecksum { .. } => plain(Code::DataLoss, "WRONG_CHECKSUM", message),
        UploadError::Io(cause) => of_io("the folder of uploads cannot be used", cause),
    }
}

/// An owner has as much as one may.
fn owner_quota(owner: &str, retry: Duration, message: String) -> Status {
    let mut details = ErrorDetails::with_retry_info(Some(retry));
    details.set_quota_failure(vec![QuotaViolation::new(abridged(owner), abridged(&message))]);
    status(Code::ResourceExhausted, "OWNER_QUOTA", message, details)
}

/// The machine lacks something for the moment.
fn shortage(message: String) -> Status {
    let details = ErrorDetails::with_retry_info(Some(RETRY_SHORTAGE));
    status(Code::ResourceExhausted, "MACHINE_SHORT", message, details)
}

/// The limits that all clients share are reached.
pub(super) fn busy(message: String) -> Status {
    let details = ErrorDetails::with_retry_info(Some(RETRY_BUSY));
    status(Code::ResourceExhausted, "BUSY", message, details)
}

/// A client has not read its answer in time. It may ask for the rest at once.
pub(super) fn not_read(limit: Duration) -> Status {
    let details = ErrorDetails::with_retry_info(Some(Duration::ZERO));
    status(Code::DeadlineExceeded, "ANSWER_NOT_READ", format!("the answer was not read within {limit:?}"), details)
}

/// The status for a file that cannot be read; `what` names the file and the failed operation.
pub(super) fn of_io(what: &str, error: &io::Error) -> Status {
    let message = format!("{what}: {error}");
    if is_shortage(error) { shortage(message) } else { internal("STORAGE_FAILED", message) }
}

/// The status for a journal that cannot be read.
pub(super) fn of_journal(error: JournalError) -> Status {
    match &error {
        JournalError::Io(cause) => of_io("the journal cannot be read", cause),
        JournalError::Frame(_) | JournalError::Unknown { .. } => {
            plain(Code::DataLoss, "JOURNAL_DAMAGED", error.to_string())
        }
    }
}

/// Something that is not the client's fault; logged, because nobody else will tell.
pub(super) fn internal(reason: &str, message: impl Into<String>) -> Status {
    let message = message.into();
    tracing::error!(reason, "{message}");
    plain(Code::Internal, reason, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_that_is_short_of_something_is_not_at_fault() {
        let told = |errno: i32| {
            let status = of_io("the log cannot be read", &io::Error::from_raw_os_error(errno));
            let details = status.get_error_details();
            let reason = details.error_info().unwrap().reason.clone();
            (status.code(), reason, details.retry_info().is_some())
        };
        // EMFILE and EIO.
        assert_eq!(told(24), (Code::ResourceExhausted, "MACHINE_SHORT".into(), true));
        assert_eq!(told(5), (Code::Internal, "STORAGE_FAILED".into(), false));
    }
}
