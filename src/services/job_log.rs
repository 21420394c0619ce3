//! ReadJobLog: the runner's output from a byte or from its last lines on, and what is added to it.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::status;
use crate::job::JobId;
use crate::journal::JobFolder;
use crate::manager::{JobError, Manager, View};
use crate::proto::v1;

/// Bytes in one message, at most.
const BLOCK: usize = 64 << 10;
/// A followed log is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(200);

type Answer = Result<v1::ReadJobLogResponse, Status>;

/// A stream of a job's log.
pub(super) async fn read(
    manager: Manager,
    id: JobId,
    request: v1::ReadJobLogRequest,
) -> Result<ReceiverStream<Answer>, Status> {
    let views = manager.observe(&id).await.map_err(status::of)?;
    let folder = manager.folder(&id);
    let v1::ReadJobLogRequest { offset_bytes, tail_lines, follow, .. } = request;
    if offset_bytes > 0 && tail_lines > 0 {
        return Err(status::invalid_field(
            "tail_lines",
            "is set, and so is offset_bytes; only one can say where to begin",
        ));
    }
    let log = folder.clone();
    let start = blocking(move || match tail_lines {
        0 => Ok((offset_bytes, length(&log)?)),
        lines => Ok((start_of_last_lines(&log, lines)?, u64::MAX)),
    });
    let (start, end) = start.await?;
    if start > end {
        let message = format!("is {start}, and the log of {} has {end} bytes", id.name());
        return Err(status::out_of_range("offset_bytes", message));
    }
    let (sender, receiver) = mpsc::channel(4);
    tokio::spawn(async move {
        if let Err(error) = send_log(folder, start, follow, views, &sender).await {
            // The client has gone away where this fails.
            let _ = sender.send(Err(error)).await;
        }
    });
    Ok(ReceiverStream::new(receiver))
}

async fn send_log(
    folder: JobFolder,
    mut offset: u64,
    follow: bool,
    views: tokio::sync::watch::Receiver<Arc<View>>,
    sender: &mpsc::Sender<Answer>,
) -> Result<(), Status> {
    loop {
        // Asked before reading: what the log holds once the job has ended is all that it will hold.
        let is_complete = !follow || views.borrow().job.state.is_final();
        loop {
            let log = folder.clone();
            let bytes = blocking(move || block(&log, offset)).await?;
            let whole = if bytes.len() < BLOCK && is_complete { bytes.len() } else { whole_characters(&bytes) };
            if whole == 0 {
                break;
            }
            offset += whole as u64;
            let text = String::from_utf8_lossy(&bytes[..whole]).into_owned();
            if sender.send(Ok(v1::ReadJobLogResponse { text, next_offset_bytes: offset })).await.is_err() {
                return Ok(());
            }
        }
        if is_complete {
            return Ok(());
        }
        // The daemon shuts down; an end of the stream would be the end of the log.
        if views.has_changed().is_err() && !views.borrow().job.state.is_final() {
            return Err(status::of(JobError::Gone));
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = sender.closed() => return Ok(()),
        }
    }
}

/// How many bytes hold whole characters: a character that is cut off at the end is left for the next message.
fn whole_characters(bytes: &[u8]) -> usize {
    match std::str::from_utf8(bytes) {
        Err(error) if error.error_len().is_none() => error.valid_up_to(),
        _ => bytes.len(),
    }
}

fn block(log: &JobFolder, offset: u64) -> io::Result<Vec<u8>> {
    let Some(mut file) = log.open_log()? else { return Ok(Vec::new()) };
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(BLOCK as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A log that is not there yet is empty.
fn length(log: &JobFolder) -> io::Result<u64> {
    log.open_log()?.map_or(Ok(0), |file| Ok(file.metadata()?.len()))
}

fn start_of_last_lines(log: &JobFolder, lines: u32) -> io::Result<u64> {
    let Some(mut file) = log.open_log()? else { return Ok(0) };
    let mut end = file.metadata()?.len();
    let (mut missing, mut is_last_byte) = (u64::from(lines), true);
    while end > 0 {
        let start = end.saturating_sub(BLOCK as u64);
        let mut bytes = vec![0; (end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(&mut bytes)?;
        for (place, byte) in bytes.iter().enumerate().rev() {
            // The newline that ends the last line begins no further one.
            if *byte == b'\n' && !is_last_byte {
                missing -= 1;
                if missing == 0 {
                    return Ok(start + place as u64 + 1);
                }
            }
            is_last_byte = false;
        }
        end = start;
    }
    Ok(0)
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Status> {
    let result = tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten();
    result.map_err(|error| status::internal("STORAGE_FAILED", format!("the log cannot be read: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_lines_begin_where_they_begin() {
        let folder = tempfile::tempdir().unwrap();
        let log = JobFolder::new(folder.path().into());
        std::fs::write(log.log(), "one\ntwo\nthree\n").unwrap();
        for (lines, start) in [(1, 8), (2, 4), (3, 0), (9, 0)] {
            assert_eq!(start_of_last_lines(&log, lines).unwrap(), start, "{lines}");
        }
        std::fs::write(log.log(), "one\ntwo").unwrap();
        assert_eq!(start_of_last_lines(&log, 1).unwrap(), 4);
    }

    #[test]
    fn a_pipe_in_the_place_of_the_log_is_not_waited_for_and_a_link_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let log = JobFolder::new(folder.path().into());
        nix::unistd::mkfifo(&log.log(), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(block(&log, 0).unwrap_err().to_string().contains("a pipe"));
        std::fs::remove_file(log.log()).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", log.log()).unwrap();
        assert!(block(&log, 0).unwrap().is_empty());
    }

    #[test]
    fn a_character_is_never_cut_in_two() {
        let text = "aé€".as_bytes();
        let whole: Vec<_> = (0..=text.len()).map(|length| whole_characters(&text[..length])).collect();
        assert_eq!(whole, [0, 1, 1, 3, 3, 3, 6]);
        assert_eq!(whole_characters(b"a\xffb"), 3);
    }
}
