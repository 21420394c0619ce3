//! The doors: accepts connections, and notes for each what the kernel or TLS tells of its other
//! end.

use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::stream::BoxStream;
use nix::libc;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio_rustls::server::TlsStream;
use tokio_stream::{Stream, StreamExt};

use super::handshakes;
use super::tls::Certificates;
use crate::access::{Connection, Peer};

/// From failing to accept a connection to trying again.
const ACCEPT_AGAIN: Duration = Duration::from_secs(1);
/// No user is in more groups. (NGROUPS_MAX of Linux)
const MOST_GROUPS: usize = 65_536;

/// A connection, and who is at its other end.
pub(super) struct Visitor {
    pub(super) io: Io,
    pub(super) connection: Connection,
}

/// Connections as they come.
pub(super) type Visitors = BoxStream<'static, io::Result<Visitor>>;

/// The bytes of a connection.
pub(super) enum Io {
    Unix(UnixStream),
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The Unix socket. A connection whose process the kernel does not tell is dropped.
pub(super) fn unix(listener: UnixListener) -> Visitors {
    let accepted = futures_util::stream::unfold(listener, async |listener| {
        let accepted = listener.accept().await.map(|(stream, _)| stream);
        Some((accepted, listener))
    });
    let known = accepted.filter_map(|accepted| match accepted {
        Ok(stream) => match peer(&stream) {
            Ok(peer) => Some(Ok(Visitor { io: Io::Unix(stream), connection: Connection::Unix(peer) })),
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
pub(super) fn plain(listener: TcpListener) -> Visitors {
    let is_loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let accepted = futures_util::stream::unfold(listener, async |listener| Some((listener.accept().await, listener)));
    let known = accepted.map(move |accepted| {
        let (stream, from) = accepted?;
        // An answer is several small writes; held back until the first is acknowledged they would
        // take 40 ms.
        // A client that is gone already shows at its first byte.
        let _ = stream.set_nodelay(true);
        Ok(Visitor { io: Io::Plain(stream), connection: Connection::Plain { from, is_loopback } })
    });
    Box::pin(paced(known))
}

/// TCP with TLS, by the certificates of the moment. `protocol` is what is spoken inside, as ALPN
/// names it.
pub(super) fn tls(listener: TcpListener, certificates: Arc<Certificates>, protocol: &'static [u8]) -> Visitors {
    Box::pin(handshakes::made(listener, certificates, protocol))
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
    let mut groups = supplementary_groups(stream.as_fd())?;
    groups.push(told.gid());
    // Programs of jobs have our user, and no other: they gain no rights.
    let is_of_job = told.uid() == nix::unistd::Uid::effective().as_raw() && may_be_of_job(told.pid());
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

impl AsyncRead for Io {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }
}

impl AsyncWrite for Io {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_flush(context),
            Self::Plain(stream) => Pin::new(stream).poll_flush(context),
            Self::Tls(stream) => Pin::new(stream).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(context),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(context, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Unix(stream) => stream.is_write_vectored(),
            Self::Plain(stream) => stream.is_write_vectored(),
            Self::Tls(stream) => stream.is_write_vectored(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Error;

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
