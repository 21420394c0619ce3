//! The other end of a connection, as the kernel or TLS tells it; no request can claim it.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use super::launch_tokens::OfLaunch;

/// The other end of a connection; cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// The Unix socket.
    Unix(Peer),
    /// TCP that nobody encrypts.
    Plain {
        /// The other end.
        from: SocketAddr,
        /// Where we listen is loopback.
        is_loopback: bool,
    },
    /// TCP with TLS.
    Tls {
        /// The other end.
        from: SocketAddr,
        /// The client's certificate, which was verified; None where it sent none.
        certificate: Option<Certificate>,
    },
    /// The mailbox of a launch, by the seal of the message.
    Mailbox(OfLaunch),
}

/// A certificate of a client, as far as it counts here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Its names.
    pub names: Arc<[String]>,
    /// The end of its time.
    pub expires: SystemTime,
}

/// A process at the other end of the Unix socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its user.
    pub uid: u32,
    /// Its groups.
    pub groups: Arc<[u32]>,
    /// It is a program of a job, or may be one: it has the user of torchd, and none of the rights.
    pub is_of_job: bool,
}

impl Connection {
    /// All ways in.
    pub(super) const DOORS: [&'static str; 6] = ["unix", "loopback", "plain", "tls", "mutual_tls", "mailbox"];

    /// The way in, as metrics and the audit name it.
    pub fn door(&self) -> &'static str {
        match self {
            Self::Unix(_) => "unix",
            Self::Plain { is_loopback: true, .. } => "loopback",
            Self::Plain { is_loopback: false, .. } => "plain",
            Self::Tls { certificate: None, .. } => "tls",
            Self::Tls { certificate: Some(_), .. } => "mutual_tls",
            Self::Mailbox(_) => "mailbox",
        }
    }

    /// Whether others can read what passes.
    pub fn is_in_clear(&self) -> bool {
        matches!(self, Self::Plain { is_loopback: false, .. } | Self::Mailbox(_))
    }
}

/// Where it comes from.
impl fmt::Display for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(peer) => write!(f, "uid {}", peer.uid),
            Self::Plain { from, .. } | Self::Tls { from, .. } => write!(f, "{from}"),
            Self::Mailbox(OfLaunch { job, attempt }) => write!(f, "mailbox of attempt {attempt} of jobs/{job}"),
        }
    }
}
