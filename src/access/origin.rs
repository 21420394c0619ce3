//! Origins of connections: what is bounded is bounded for each of them.

use std::net::IpAddr;

use super::connection::Connection;

/// Where a connection comes from. A whole network of IPv6 is one origin: each of its users has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Origin {
    /// A user of this machine.
    User(u32),
    /// Programs of jobs, which have the user of torchd and none of its rights.
    Jobs,
    /// Mailboxes of launches.
    Mailboxes,
    /// An address.
    V4([u8; 4]),
    /// A network.
    V6([u8; 8]),
}

impl Origin {
    pub(super) fn of(connection: &Connection) -> Self {
        match connection {
            Connection::Unix(peer) if peer.is_of_job => Self::Jobs,
            Connection::Mailbox(_) => Self::Mailboxes,
            Connection::Unix(peer) => Self::User(peer.uid),
            Connection::Plain { from, .. } | Connection::Tls { from, .. } => match from.ip().to_canonical() {
                IpAddr::V4(address) => Self::V4(address.octets()),
                IpAddr::V6(address) => {
                    let mut network = [0; 8];
                    network.copy_from_slice(&address.octets()[..8]);
                    Self::V6(network)
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Peer;

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one_origin_and_mapped_ones_are_those_of_ipv4() {
        let origin = |from: &str| Origin::of(&Connection::Tls { from: from.parse().unwrap(), certificate: None });
        assert_eq!(origin("[2001:db8:0:1::1]:1"), origin("[2001:db8:0:1::2]:2"));
        assert_ne!(origin("[2001:db8:0:1::1]:1"), origin("[2001:db8:0:2::1]:1"));
        assert_eq!(origin("[::ffff:10.0.0.7]:1"), origin("10.0.0.7:9"));
    }

    #[test]
    fn programs_of_jobs_are_another_origin_than_the_user_they_run_as() {
        let origin = |is_of_job| Origin::of(&Connection::Unix(Peer { uid: 7, groups: [].into(), is_of_job }));
        assert_ne!(origin(true), origin(false));
    }
}
