//! Where a daemon is looked for.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// gRPC over TCP, where nothing else is said.
const DEFAULT_PORT: u16 = 7080;
/// The socket of a service.
const OF_MACHINE: &str = "/run/torchd/torchd.sock";

/// An address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// As people write it.
    pub(super) told: String,
    pub(super) kind: Kind,
}

/// How it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Unix(PathBuf),
    /// Without encryption; the port where it is on this machine.
    Plain {
        authority: String,
        loopback: Option<u16>,
    },
    Tls {
        authority: String,
    },
}

impl Place {
    /// Reads `host:port`, `http://host:port`, `https://host:port` or `unix:path`.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let right = "host:port, https://host:port or unix:PATH is right";
        let told = text.to_owned();
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            return match path {
                "" => Err(format!("the path is missing; {right}")),
                path => Ok(Self { told, kind: Kind::Unix(path.into()) }),
            };
        }
        let (is_tls, authority) = match text.strip_prefix("https://") {
            Some(authority) => (true, authority),
            None => (false, text.strip_prefix("http://").unwrap_or(text)),
        };
        let authority = authority.trim_end_matches('/').to_owned();
        let Some((host, port)) = authority.rsplit_once(':') else {
            return Err(format!("the port is missing; {right}"));
        };
        let Ok(port) = port.parse::<u16>() else { return Err(format!("{port:?} is no port; {right}")) };
        if host.is_empty() {
            return Err(format!("the host is missing; {right}"));
        }
        let loopback = is_loopback(host).then_some(port);
        let kind = if is_tls { Kind::Tls { authority } } else { Kind::Plain { authority, loopback } };
        Ok(Self { told, kind })
    }
}

fn is_loopback(host: &str) -> bool {
    let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The state folder of a daemon that a user has started.
pub(super) fn own_state() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").filter(|home| !home.is_empty())?;
    Some(Path::new(&home).join(".local/state/torchd"))
}

/// Where a daemon is looked for when nobody names one: the user's own, that of the machine, and
/// the usual port.
pub(super) fn usual() -> impl Iterator<Item = Place> {
    let sockets = own_state().map(|state| state.join("torchd.sock")).into_iter().chain([PathBuf::from(OF_MACHINE)]);
    let unix = |path: PathBuf| Place { told: format!("unix:{}", path.display()), kind: Kind::Unix(path) };
    let authority = format!("127.0.0.1:{DEFAULT_PORT}");
    let port = Place { told: authority.clone(), kind: Kind::Plain { authority, loopback: Some(DEFAULT_PORT) } };
    sockets.map(unix).chain([port])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_loopback_is_known() {
        let kind = |text: &str| Place::read(text).unwrap().kind;
        let plain = |authority: &str, loopback| Kind::Plain { authority: authority.into(), loopback };
        assert_eq!(kind("127.0.0.1:7080"), plain("127.0.0.1:7080", Some(7080)));
        assert_eq!(kind("http://localhost:1/"), plain("localhost:1", Some(1)));
        assert_eq!(kind("[::1]:7"), plain("[::1]:7", Some(7)));
        assert_eq!(kind("box:7080"), plain("box:7080", None));
        assert_eq!(kind("localhost.evil.example:1"), plain("localhost.evil.example:1", None));
        assert_eq!(kind("https://box:1"), Kind::Tls { authority: "box:1".into() });
        assert_eq!(kind("unix:/a/b"), Kind::Unix("/a/b".into()));
        assert_eq!(kind("unix:///a/b"), Kind::Unix("/a/b".into()));
        for wrong in ["box", "https://box", "unix:", "box:x", ":1", "box:70000"] {
            assert!(Place::read(wrong).is_err(), "{wrong}");
        }
    }
}
