//! The user who listens at an address of this machine: a stranger may have taken it while no daemon
//! ran.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::Uid;

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

/// The user who listens on a port of this machine's loopback; None where that cannot be told, or
/// several do.
pub(super) fn of_port(port: u16) -> Option<u32> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| fs::read_to_string(path).unwrap_or_default());
    of_port_in(&tables, port)
}

fn of_port_in(tables: &[String], port: u16) -> Option<u32> {
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let mut users = lines.filter_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (_, local) = fields.get(1)?.rsplit_once(':')?;
        let is_it = u16::from_str_radix(local, 16) == Ok(port) && *fields.get(3)? == LISTEN;
        if is_it { fields.get(7)?.parse::<u32>().ok() } else { None }
    });
    let first = users.next()?;
    users.all(|user| user == first).then_some(first)
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

    #[test]
    fn of_two_users_on_a_port_neither_is_told() {
        let line = |port: &str, state: &str, uid: u32| {
            format!(
                "   0: 0100007F:{port} 00000000:0000 {state} 00000000:00000000 00:00000000 00000000  {uid}        0 17 1\n"
            )
        };
        let table = |lines: &[String]| [format!("  sl  local_address\n{}", lines.concat())];
        assert_eq!(of_port_in(&table(&[line("1BA8", "0A", 7), line("1BA9", "0A", 8)]), 7080), Some(7));
        assert_eq!(of_port_in(&table(&[line("1BA8", "01", 7)]), 7080), None);
        assert_eq!(of_port_in(&table(&[line("1BA8", "0A", 7), line("1BA8", "0A", 8)]), 7080), None);
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
