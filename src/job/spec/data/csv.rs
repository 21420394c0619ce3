//! Tables in delimited text, as a spec names them.

use super::table::{self, RolesMessage};
use crate::dataset::csv::{Dialect, Files};
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

impl Section for Files<String> {
    type Message = v1::CsvDataset;
    const NAME: &str = "csv";

    fn read(message: &v1::CsvDataset, mut fields: Fields<'_>) -> Option<Self> {
        let (roles, rest) = table::split_roles!(message.clone(), v1::CsvDataset { delimiter, header, quote, comment });
        let (delimiter, header, quote, comment) = rest;
        let paths = table::read_paths(&roles, &mut fields);
        let roles = roles.read(&mut fields);
        let delimiter = character("delimiter", &delimiter, &mut fields);
        let quote = match quote {
            None => Some(b'"'),
            Some(quote) => character("quote", &quote, &mut fields),
        };
        let comment = character("comment", &comment, &mut fields);
        let used = [("delimiter", delimiter), ("quote", quote), ("comment", comment)];
        for (place, (field, found)) in used.iter().enumerate() {
            if let Some((other, _)) = used[..place].iter().find(|(_, other)| found.is_some() && other == found) {
                fields.wrong(field, format!("is the same character as {other}"));
            }
        }
        fields.done(Self {
            paths,
            roles,
            dialect: Dialect { delimiter, header: header.unwrap_or(true), quote, comment },
        })
    }

    fn to_proto(&self) -> v1::CsvDataset {
        let Dialect { delimiter, header, quote, comment } = self.dialect;
        let text = |byte: Option<u8>| byte.map(|byte| char::from(byte).to_string()).unwrap_or_default();
        let message = v1::CsvDataset {
            delimiter: text(delimiter),
            header: Some(header),
            quote: Some(text(quote)),
            comment: text(comment),
            ..v1::CsvDataset::default()
        };
        table::with_roles!(message, RolesMessage::of(&self.paths, &self.roles))
    }
}

/// A character between or around fields; None for none.
fn character(field: &str, text: &str, fields: &mut Fields<'_>) -> Option<u8> {
    match text.as_bytes() {
        [] => None,
        [byte] if byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\r\n\0".contains(byte) => Some(*byte),
        _ => {
            fields.wrong(
                field,
                format!("is {text:?}; one ASCII character is needed that is no letter, digit or line end"),
            );
            None
        }
    }
}
