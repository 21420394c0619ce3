//! The header with the credentials of a call, as it is read before anything is known of the caller.

use super::refusal::Refusal;

/// The `authorization` header of a request, as far as it came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authorization<'a> {
    /// There is none.
    Absent,
    /// There are several.
    Several,
    /// Its text.
    Text(&'a [u8]),
}

/// Credentials as they came.
pub(super) enum Credentials<'a> {
    Token(&'a str),
    /// Base64 of user and password.
    Password(&'a str),
}

impl<'a> Authorization<'a> {
    /// The header out of all that a request has of that name.
    pub fn of(mut values: impl Iterator<Item = &'a [u8]>) -> Self {
        match (values.next(), values.next()) {
            (None, _) => Self::Absent,
            (Some(text), None) => Self::Text(text),
            (Some(_), Some(_)) => Self::Several,
        }
    }

    pub(super) fn credentials(self) -> Result<Option<Credentials<'a>>, Refusal> {
        let text = match self {
            Self::Absent => return Ok(None),
            Self::Several => return Err(Refusal::Malformed("is there more than once")),
            Self::Text(text) => std::str::from_utf8(text).map_err(|_| Refusal::Malformed("is no text"))?,
        };
        let (scheme, rest) = text.split_once(' ').ok_or(Refusal::Malformed("has no scheme"))?;
        match rest.trim_matches(' ') {
            "" => Err(Refusal::Malformed("is empty")),
            token if scheme.eq_ignore_ascii_case("bearer") => Ok(Some(Credentials::Token(token))),
            pair if scheme.eq_ignore_ascii_case("basic") => Ok(Some(Credentials::Password(pair))),
            _ => Err(Refusal::Malformed("has another scheme")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_header_of_a_known_scheme_is_read_and_nothing_else() {
        let read = |values: &[&'static str]| {
            let values: Vec<&[u8]> = values.iter().map(|value| value.as_bytes()).collect();
            match Authorization::of(values.into_iter()).credentials() {
                Ok(None) => "none".to_owned(),
                Ok(Some(Credentials::Token(token))) => format!("token {token}"),
                Ok(Some(Credentials::Password(pair))) => format!("password {pair}"),
                Err(refusal) => refusal.reason().to_owned(),
            }
        };
        assert_eq!(read(&[]), "none");
        for good in ["Bearer x", "bearer x", "BEARER  x "] {
            assert_eq!(read(&[good]), "token x", "{good}");
        }
        assert_eq!(read(&["Basic YTpi"]), "password YTpi");
        for odd in ["", "Bearer", "Bearer ", "x", "Digest x", "Bearerx"] {
            assert_eq!(read(&[odd]), "MALFORMED_CREDENTIALS", "{odd:?}");
        }
        assert_eq!(read(&["Bearer x", "Bearer x"]), "MALFORMED_CREDENTIALS");
        assert_eq!(
            Authorization::of([b"\xff x".as_slice()].into_iter()).credentials().err().unwrap().reason(),
            "MALFORMED_CREDENTIALS"
        );
    }
}
