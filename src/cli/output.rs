//! How answers are printed.

use std::io::{self, Write};

use prost::Name;

use super::arguments::Format;
use super::failure::Failure;
use crate::proto::json;

/// Prints answers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    format: Format,
}

impl Output {
    pub(super) fn new(format: Format) -> Self {
        Self { format }
    }

    /// Whether scripts read along.
    pub(super) fn is_json(self) -> bool {
        self.format == Format::Json
    }

    /// Prints a message: as one line of JSON, or as `table` says.
    pub(super) fn print<M: Name>(self, message: &M, table: impl FnOnce(&M) -> String) -> Result<(), Failure> {
        let text = match self.format {
            Format::Json => json::to_string(message, true).map_err(|error| Failure::Other(error.to_string()))? + "\n",
            Format::Table => table(message),
        };
        write(&text)
    }
}

/// What a shell makes of a program that nobody reads any more: 128 and SIGPIPE.
const EXIT_UNREAD: i32 = 141;

/// Writes to standard output. Where nobody reads any more, as behind `head`, the program ends without a word.
pub(super) fn write(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(EXIT_UNREAD),
        Err(error) => Err(Failure::Other(format!("standard output cannot be written: {error}"))),
    }
}

/// Writes a line to standard error. Where nobody reads it, nothing is lost.
pub(super) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
