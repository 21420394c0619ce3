//! The owner of a caller's uploads: told by the connection, never by the request.

use tonic::transport::server::UdsConnectInfo;
use tonic::{Code, Request, Status};

use super::status;
use crate::uploads::Owner;

/// The owner: on the Unix socket the user whom the kernel names, else everybody over TCP.
pub(super) fn owner<T>(request: &Request<T>) -> Result<Owner, Status> {
    let Some(connection) = request.extensions().get::<UdsConnectInfo>() else { return Ok(Owner::Local) };
    match &connection.peer_cred {
        Some(peer) => Ok(Owner::User(peer.uid())),
        None => {
            let message = "the kernel does not tell whose connection this is";
            Err(status::plain(Code::Unauthenticated, "UNKNOWN_PEER", message))
        }
    }
}
