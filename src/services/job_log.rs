//! ReadJobLog: the runner's output from a byte or from its last lines on, and what is added to it.

use std::io::{self, Read, Seek, SeekFrom};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{Stream, try_unfold};
use tokio::sync::watch::Receiver;
use tonic::{Response, Status};

use super::clients::{Clients, Hold};
use super::status;
use crate::gate::Wanted;
use crate::job::JobId;
use crate::journal::JobFolder;
use crate::manager::{JobError, Manager, View};
use crate::proto::v1;

/// Bytes in one message, at most.
const BLOCK: usize = 64 << 10;
/// A followed log is looked at this often.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The messages of a log.
pub(super) type Log = Pin<Box<dyn Stream<Item = Result<v1::ReadJobLogResponse, Status>> + Send>>;

/// A stream of a job's log. It reads when its client takes the message before.
pub(super) async fn read(
    manager: &Manager,
    clients: Clients,
    id: JobId,
    request: v1::ReadJobLogRequest,
) -> Result<Response<Log>, Status> {
    let views = manager.observe(&id).await.map_err(status::of)?;
    let folder = manager.folder(&id);
    let v1::ReadJobLogRequest { offset_bytes, tail_lines, follow, .. } = request;
    if offset_bytes > 0 && tail_lines > 0 {
        return Err(status::invalid_field(
            "tail_lines",
            "is set, and so is offset_bytes; only one can say where to begin",
        ));
    }
    if views.borrow().job.state.is_final() {
        let place = folder.path().to_owned();
        if !clients.read(move |_| place.try_exists()).await?.map_err(failed)? {
            let message = format!("the folder of {} is gone, and its log with it", id.name());
            return Err(status::not_found("torchd.v1.Job", &id.name(), message));
        }
    }
    let log = folder.clone();
    let (start, end) = match tail_lines {
        0 => (offset_bytes, clients.read(move |_| length(&log)).await?.map_err(failed)?),
        lines => {
            let start = clients.scan(move |wanted| start_of_last_lines(&log, lines, wanted));
            (start.await?.map_err(failed)?, u64::MAX)
        }
    };
    if start > end {
        let message = format!("is {start}, and the log of {} has {end} bytes", id.name());
        return Err(status::out_of_range("offset_bytes", message));
    }
    let hold = Hold::default();
    let reader = Reader { clients, folder, offset: start, follow, views, hold: hold.clone() };
    Ok(hold.of(Box::pin(try_unfold(reader, Reader::next))))
}

/// How far a log was sent.
struct Reader {
    clients: Clients,
    folder: JobFolder,
    offset: u64,
    follow: bool,
    views: Receiver<Arc<View>>,
    /// Room for the message that comes next.
    hold: Hold,
}

impl Reader {
    /// The next message; None after the last.
    async fn next(mut self) -> Result<Option<(v1::ReadJobLogResponse, Self)>, Status> {
        loop {
            // Asked before reading: what the log holds once the job has ended is all that it will
            // hold.
            let is_complete = !self.follow || self.views.borrow().job.state.is_final();
            let (log, offset) = (self.folder.clone(), self.offset);
            let (bytes, room) = self.clients.read_into(BLOCK, move |_| block(&log, offset)).await?;
            let bytes = bytes.map_err(failed)?;
            let whole = if bytes.len() < BLOCK && is_complete { bytes.len() } else { whole_characters(&bytes) };
            if whole > 0 {
                self.offset += whole as u64;
                self.hold.put(room);
                let text = String::from_utf8_lossy(&bytes[..whole]).into_owned();
                return Ok(Some((v1::ReadJobLogResponse { text, next_offset_bytes: self.offset }, self)));
            }
            if is_complete {
                return Ok(None);
            }
            // The daemon shuts down; an end of the stream would be the end of the log.
            if self.views.has_changed().is_err() && !self.views.borrow().job.state.is_final() {
                return Err(status::of(JobError::Gone));
            }
            drop(room);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

fn failed(error: io::Error) -> Status {
    status::of_io("the log cannot be read", &error)
}

/// How many bytes hold whole characters: a character that is cut off at the end is left for the
/// next message.
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

fn start_of_last_lines(log: &JobFolder, lines: u32, wanted: &Wanted) -> io::Result<u64> {
    let Some(mut file) = log.open_log()? else { return Ok(0) };
    let mut end = file.metadata()?.len();
    let (mut missing, mut is_last_byte) = (u64::from(lines), true);
    while end > 0 {
        wanted.check()?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_last_lines_begin_where_they_begin() {
        let folder = tempfile::tempdir().unwrap();
        let job = JobFolder::new(folder.path().into());
        let gate = crate::gate::Gate::new(1);
        let start_of = async |lines: u32| {
            let log = job.clone();
            gate.run(move |wanted| start_of_last_lines(&log, lines, wanted)).await.unwrap().unwrap()
        };
        std::fs::write(job.log(), "one\ntwo\nthree\n").unwrap();
        for (lines, start) in [(1, 8), (2, 4), (3, 0), (9, 0)] {
            assert_eq!(start_of(lines).await, start, "{lines}");
        }
        std::fs::write(job.log(), "one\ntwo").unwrap();
        assert_eq!(start_of(1).await, 4);
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
