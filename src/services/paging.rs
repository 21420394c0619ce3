//! Page sizes and tokens, as AIP-158 has them.

use tonic::Status;

use super::status::invalid_field;

/// The size of a page: `default` for 0, at most `most`.
pub(super) fn size(asked: i32, default: usize, most: usize) -> Result<usize, Status> {
    match usize::try_from(asked) {
        Ok(0) => Ok(default),
        Ok(asked) => Ok(asked.min(most)),
        Err(_) => Err(invalid_field("page_size", format!("is {asked}; 0 to {most} are right"))),
    }
}

/// What a token of ours says; None for the first page.
pub(super) fn token<T: std::str::FromStr>(token: &str) -> Result<Option<T>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let wrong = || invalid_field("page_token", format!("is {token:?}, which no answer of this method has told"));
    token.parse().map(Some).map_err(|_| wrong())
}
