//! The doors: accepts connections, and notes for each what the kernel or TLS tells of its other
//! end.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use nix::libc;
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio_stream::{Stream, StreamExt};

use super::handshakes;
use super::tls::Certificates;
use super::visitor::{self, Visitor, Visitors};
use crate::access::{Connection, Peer, Strangers};

/// From failing to accept a connection to trying again.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// No user is in more groups. (NGROUPS_MAX of Linux)
const MOST_GROUPS: usize = 65_536;

/// The Unix socket. A connection whose process the kernel does not tell is dropped.
pub(super) fn unix(listener: UnixListener, strangers: Strangers) -> Visitors {
    let accepted = futures_util::stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let known = accepted.filter_map(move |accepted| match accepted {
        Ok(stream) => match peer(&stream) {
            Ok(peer) => {
                let stream = visitor::Stream::Unix(stream);
                Some(Ok(Visitor::new(stream, Connection::Unix(peer), &strangers)))
            }
            Err(error) => {
                tracing::warn!(%error, "a connection to the Unix socket is dropped: its process is not known");
                None
            }
        },
        Err(error) => Some(Err(error)),
    });
    Box::pin(paced(known))
}

/// TCP without TLS.
pub(super) fn plain(listener: TcpListener, strangers: Strangers) -> Visitors {
    let is_loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let accepted = futures_util::stream::unfold(listener, async |listener| Some((listener.accept().await, listener)));
    let known = accepted.map(move |accepted| {
        let (stream, from) = accepted?;
        // An answer is several small writes; held back until the first is acknowledged they would
        // take 40 ms.
        // A client that is gone already shows at its first byte.
        let _ = stream.set_nodelay(true);
        let connection = Connection::Plain { from, is_loopback };
        Ok(Visitor::new(visitor::Stream::Plain(stream), connection, &strangers))
    });
    Box::pin(paced(known))
}

/// TCP with TLS, by the certificates of the moment. `protocol` is what is spoken inside, as ALPN
/// names it.
pub(super) fn tls(
    listener: TcpListener,
    certificates: Arc<Certificates>,
    protocol: &'static [u8],
    strangers: Strangers,
) -> Visitors {
    Box::pin(handshakes::made(listener, certificates, protocol, strangers))
}

/// A connection cannot be accepted while there are no descriptors left, and is there again at once:
/// whoever does not wait then computes for nothing, and takes the time of those who could give
/// descriptors back.
fn paced<C>(incoming: impl Stream<Item = io::Result<C>>) -> impl Stream<Item = io::Result<C>> {
    incoming.then(async |accepted| {
        if let Err(error) = &accepted {
            accept_again(error).await;
        }
        accepted
    })
}

/// Tells an error of accepting a connection, and waits until the next may be tried.
pub(super) async fn accept_again(error: &io::Error) {
    if !matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) {
        tracing::error!(%error, "no connection can be accepted");
        tokio::time::sleep(ACCEPT_AGAIN).await;
    }
}

/// User and groups of the process at the other end, as they were when it connected.
fn peer(stream: &UnixStream) -> io::Result<Peer> {
    let told = stream.peer_cred()?;
    let process = process(stream.as_fd());
    let is_still = |process: io::Result<Option<OwnedFd>>| {
        process.is_ok_and(|process| process.is_none_or(|process| is_still(&process, told.pid())))
    };
    let mut groups = supplementary_groups(stream.as_fd())?;
    groups.push(told.gid());
    // Programs of jobs have our user, and no other: they gain no rights.
    let is_of_job =
        told.uid() == nix::unistd::Uid::effective().as_raw() && (may_be_of_job(told.pid()) || !is_still(process));
    Ok(Peer { uid: told.uid(), groups: groups.into(), is_of_job })
}

/// The mode in which torchd is the parent of a runner.
const SHIM: &str = "--shim";
/// Longer lines of parents are taken for those of a job.
const MOST_PARENTS: usize = 256;

/// Whether a process is of a job, or that cannot be told.
///
/// A program of a job can gain no privileges, which it hands on to all that it starts and cannot
/// take back. That tells nothing where the whole machine, a container, is like that: there the
/// parents tell, since a shim takes over what its job leaves without one.
fn may_be_of_job(pid: Option<i32>) -> bool {
    let Some(pid) = pid else { return true };
    // 0 is outside of what we see, and nothing of a job is.
    if pid == 0 {
        return false;
    }
    let is_mark = gains_no_privileges(1) == Some(false);
    (is_mark && gains_no_privileges(pid).unwrap_or(true)) || is_below_shim(pid)
}

/// Whether a process, and all that it starts, can gain no privileges; None where that cannot be
/// told.
fn gains_no_privileges(pid: i32) -> Option<bool> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let told = status.lines().find_map(|line| line.strip_prefix("NoNewPrivs:"))?;
    Some(told.trim() != "0")
}

/// Whether a process is below a shim, or that cannot be told.
fn is_below_shim(mut pid: i32) -> bool {
    for _ in 0..MOST_PARENTS {
        if pid <= 1 || pid == std::process::id() as i32 {
            return false;
        }
        let of = |name: &str| std::fs::read(format!("/proc/{pid}/{name}"));
        let (Ok(line), Ok(stat)) = (of("cmdline"), of("stat")) else { return true };
        if line.split(|byte| *byte == 0).nth(1) == Some(SHIM.as_bytes()) {
            return true;
        }
        // The name, in parentheses, may hold anything.
        let stat = String::from_utf8_lossy(&stat).into_owned();
        let parent = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1)?.parse().ok());
        let Some(parent) = parent else { return true };
        pid = parent;
    }
    true
}

/// A descriptor of the process that connected (SO_PEERPIDFD); None where the kernel is older than
/// Linux 6.5, and has none. An error where that process is gone already.
fn process(socket: BorrowedFd<'_>) -> io::Result<Option<OwnedFd>> {
    let mut descriptor: RawFd = -1;
    let mut bytes = size_of::<RawFd>() as libc::socklen_t;
    // SAFETY: the kernel writes a number of that size.
    let code = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut descriptor).cast(),
            &raw mut bytes,
        )
    };
    if code != 0 || descriptor < 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::ENOPROTOOPT) { Ok(None) } else { Err(error) };
    }
    // SAFETY: it is open, and nobody else has it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(descriptor) }))
}

/// Whether a process still has the id that it had when it connected: what was read of that id was
/// about it, and not about another one that got the id since.
fn is_still(process: &OwnedFd, pid: Option<i32>) -> bool {
    let about = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).unwrap_or_default();
    let told = about.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    told.is_some() && told == pid
}

/// SO_PEERGROUPS: the database of groups tells what a user has, and a process may have others.
fn supplementary_groups(socket: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut groups: Vec<libc::gid_t> = vec![0; 64];
    loop {
        let mut bytes = libc::socklen_t::try_from(size_of_val(groups.as_slice())).map_err(io::Error::other)?;
        // SAFETY: the kernel writes at most `bytes` bytes, which the vector has, and tells how many
        // it has written.
        let code = unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_PEERGROUPS,
                groups.as_mut_ptr().cast(),
                &raw mut bytes,
            )
        };
        let count = bytes as usize / size_of::<libc::gid_t>();
        if code == 0 {
            groups.truncate(count);
            return Ok(groups);
        }
        let error = io::Error::last_os_error();
        // It tells how many there are.
        if error.raw_os_error() != Some(libc::ERANGE) || count <= groups.len() || count > MOST_GROUPS {
            return Err(error);
        }
        groups.resize(count, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

    use rustix::process::PidfdFlags;

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_failure_to_accept_is_waited_out_and_one_of_a_client_is_not() {
        let failed = [24, 104, 103].map(|code| Err(Error::from_raw_os_error(code)));
        let accepted = paced(tokio_stream::iter(failed.into_iter().chain([Ok(7)])));
        let mut accepted = std::pin::pin!(accepted);
        let begun = Instant::now();
        let mut times = Vec::new();
        while let Some(one) = accepted.next().await {
            times.push((one.ok(), begun.elapsed().as_secs()));
        }
        // EMFILE, ECONNRESET, ECONNABORTED.
        assert_eq!(times, [(None, 1), (None, 1), (None, 1), (Some(7), 1)]);
    }

    #[test]
    fn a_process_that_has_ended_has_no_id_any_more() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let id = child.id() as i32;
        let opened = rustix::process::pidfd_open(rustix::process::Pid::from_child(&child), PidfdFlags::empty());
        let process = opened.unwrap();
        assert!(is_still(&process, Some(id)) && !is_still(&process, Some(id + 1)) && !is_still(&process, None));
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(!is_still(&process, Some(id)));
    }

    #[tokio::test]
    async fn the_kernel_tells_user_and_groups_of_the_other_end() {
        let (_client, server) = UnixStream::pair().unwrap();
        let peer = peer(&server).unwrap();
        assert!(!peer.is_of_job);
        assert_eq!(peer.uid, nix::unistd::Uid::effective().as_raw());
        assert!(peer.groups.contains(&nix::unistd::Gid::effective().as_raw()));
        for group in nix::unistd::getgroups().unwrap() {
            assert!(peer.groups.contains(&group.as_raw()), "{group}");
        }
    }
}
