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

/// The value of a token of ours; None for the first page.
pub(super) fn token<T: std::str::FromStr>(token: &str) -> Result<Option<T>, Status> {
    if token.is_empty() {
        return Ok(None);
    }
    let wrong = || invalid_field("page_token", format!("is {token:?}, which no answer of this method has told"));
    token.parse().map(Some).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_bounded_and_one_below_zero_is_refused() {
        let sizes: Vec<_> = [0, 1, 100, 101, i32::MAX].iter().map(|&asked| size(asked, 50, 100).unwrap()).collect();
        assert_eq!(sizes, [50, 1, 100, 100, 100]);
        assert!(size(-1, 50, 100).unwrap_err().message().contains("page_size"));
    }

    #[test]
    fn a_token_that_no_answer_has_told_is_refused() {
        assert_eq!(token::<i64>("").unwrap(), None);
        assert_eq!(token::<i64>("4711").unwrap(), Some(4711));
        for wrong in ["x", "4711x", " 1", "99999999999999999999", "1.5", "\u{0}"] {
            let status = token::<i64>(wrong).unwrap_err();
            assert!(
                status.code() == tonic::Code::InvalidArgument && status.message().contains("page_token"),
                "{status}"
            );
        }
    }
}
