//! The user who listens at an address of this machine: a stranger may have taken it while no daemon
//! ran.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::Uid;
use tokio::net::TcpStream;

/// A listening socket, in the kernel's table. (include/net/tcp_states.h)
const LISTEN: &str = "0A";

/// Refuses a Unix socket on which a user listens who is neither us, nor root, nor the owner of its
/// folder: anybody can put a socket into a folder such as /tmp.
pub(super) fn check_socket(path: &Path, listener: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let owner = fs::metadata(folder)?.uid();
    if listener == 0 || listener == Uid::effective().as_raw() || listener == owner {
        return Ok(());
    }
    let why = format!(
        "uid {listener} listens there, who is neither you, nor root, nor the owner of {}: it may be no torchd",
        folder.display()
    );
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

/// The listener on a port: the user, and the number of the socket.
type Listener = (u32, u64);

/// Connects to a port of this machine on which that user listens, and refuses any other.
pub(super) async fn connect(authority: &str, port: u16, user: u32) -> io::Result<TcpStream> {
    let before = listening(port);
    let stream = TcpStream::connect(authority).await?;
    // The same socket before and after: nobody else had the port meanwhile.
    if before.is_none_or(|(found, _)| found != user) || listening(port) != before {
        let why = format!("uid {user} does not listen on port {port}, or not alone: it may be no torchd");
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, why));
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The user who listens on a port of this machine's loopback; None where that cannot be told, or
/// several do.
pub(super) fn of_port(port: u16) -> Option<u32> {
    listening(port).map(|(user, _)| user)
}

fn listening(port: u16) -> Option<Listener> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    listening_in(&tables, port)
}

/// The first listener, where the same user has all that there are.
fn listening_in(tables: &[String], port: u16) -> Option<Listener> {
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let mut listeners = lines.filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(local, 16) == Ok(port) && *fields.get(3)? == LISTEN;
        if is_it { Some((fields.get(7)?.parse().ok()?, fields.get(9)?.parse().ok()?)) } else { None }
    });
    let first: Listener = listeners.next()?;
    listeners.all(|(user, _)| user == first.0).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_user_who_listens_is_told_by_the_kernel() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(of_port(port), Some(Uid::effective().as_raw()));
        drop(listener);
        assert_eq!(of_port(port), None);
    }

    #[tokio::test]
    async fn a_port_on_which_another_user_listens_is_not_connected_to() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let us = Uid::effective().as_raw();
        connect(&address.to_string(), address.port(), us).await.unwrap();
        let error = connect(&address.to_string(), address.port(), us + 1).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    }

    #[test]
    fn of_two_users_on_a_port_neither_is_told() {
        let line = |port: &str, state: &str, uid: u32| {
            format!(
                "   0: 0100007F:{port} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  {uid}        0 17 1\n"
            )
        };
        let table = |lines: &[String]| [format!("  sl  local_address\n{}", lines.concat())];
        assert_eq!(listening_in(&table(&[line("1BA8", "0A", 7), line("1BA9", "0A", 8)]), 7080), Some((7, 17)));
        assert_eq!(listening_in(&table(&[line("1BA8", "01", 7)]), 7080), None);
        assert_eq!(listening_in(&table(&[line("1BA8", "0A", 7), line("1BA8", "0A", 8)]), 7080), None);
    }

    #[test]
    fn a_socket_of_a_stranger_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        check_socket(&path, 0).unwrap();
        check_socket(&path, Uid::effective().as_raw()).unwrap();
        let error = check_socket(&path, 4_000_000_001).unwrap_err();
        assert!(error.to_string().contains("uid 4000000001 listens there"), "{error}");
    }
}
