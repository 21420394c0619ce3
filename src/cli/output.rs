//! Prints answers, and is the one place that prints: text for people is escaped by
//! `terminal::shown`. JSON stays exact, for programs.

use std::io::{self, IsTerminal, Write};

use prost::Name;

use super::arguments::Format;
use super::failure::Failure;
use crate::proto::json;
use crate::terminal::shown;

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
        self.print_painted(message, table, |text| text)
    }

    /// The same, with escape sequences of our own: `paint` adds them to text that is escaped
    /// already.
    pub(super) fn print_painted<M: Name>(
        self,
        message: &M,
        table: impl FnOnce(&M) -> String,
        paint: impl FnOnce(String) -> String,
    ) -> Result<(), Failure> {
        match self.format {
            Format::Json => write_exactly(&json_line(message)?),
            Format::Table => write_exactly(&paint(shown(&table(message)))),
        }
    }

    /// Prints a piece of a file: as one line of JSON, escaped on a terminal, unchanged into a file
    /// or a pipe.
    pub(super) fn print_content<M: Name>(self, message: &M, content: impl FnOnce(&M) -> &str) -> Result<(), Failure> {
        match self.format {
            Format::Json => write_exactly(&json_line(message)?),
            Format::Table if io::stdout().is_terminal() => write(content(message)),
            Format::Table => write_exactly(content(message)),
        }
    }
}

/// The exit code that a shell gives a program whose reader is gone: 128 and SIGPIPE.
const EXIT_UNREAD: i32 = 141;

fn json_line<M: Name>(message: &M) -> Result<String, Failure> {
    Ok(json::to_string(message, true).map_err(|error| Failure::Other(error.to_string()))? + "\n")
}

/// Writes text for people to standard output.
pub(super) fn write(text: &str) -> Result<(), Failure> {
    write_exactly(&shown(text))
}

fn write_exactly(text: &str) -> Result<(), Failure> {
    write_bytes(text.as_bytes())
}

/// Writes to standard output. Where nobody reads any more, as behind `head`, the program ends
/// without a word.
pub(super) fn write_bytes(bytes: &[u8]) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(EXIT_UNREAD),
        Err(error) => Err(Failure::Other(format!("standard output cannot be written: {error}"))),
    }
}

/// Writes a line to standard error. Where nobody reads it, nothing is lost.
pub(super) fn tell(line: &str) {
    let _ = writeln!(io::stderr(), "{}", shown(line));
}
