//! A text for language models: its files follow one another, and examples are windows of bytes or
//! characters, each with the one that follows.
//!
//! The text is in memory once, one to four bytes a token. Windows are cut from it, and become
//! 64-bit integers, as they are asked for: they may overlap at no cost.

mod letters;
mod read;

use std::collections::{BTreeSet, HashMap};
use std::ops;
use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use self::letters::Letters;
use super::paths::Paths;
use super::{
    Access, Content, DataFile, Depth, Details, Dtype, Facts, Field, Find, Format, HostBatch, Preparation, Prepared,
    Problem, Range, Reading, Rows, Source, WHOLE_BELOW_BYTES,
};

/// The most tokens of an example.
pub const MOST_CONTEXT: u32 = 1 << 20;

/// Files of text, and how it is cut.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Files<P> {
    /// The files.
    pub paths: Paths<P>,
    /// A token.
    pub unit: Unit,
    /// The windows.
    pub cut: Cut,
}

/// A token of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// A byte, whatever it means: 256 tokens.
    Byte,
    /// A Unicode code point. The tokens are those of the training files.
    Character,
}

impl Unit {
    /// Its name in a spec.
    fn name(self) -> &'static str {
        match self {
            Self::Byte => "byte",
            Self::Character => "character",
        }
    }
}

/// The windows of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// Tokens of an example, 1 to [`MOST_CONTEXT`].
    pub context: u32,
    /// Tokens from the beginning of a window to that of the next one; at least 1.
    pub stride: u32,
}

/// How text becomes tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "unit", rename_all = "snake_case", deny_unknown_fields)]
pub enum TextEncoding {
    /// A token is the value of a byte.
    Byte,
    /// A token is the place of a character in this text, counted from 0.
    Character {
        /// All characters of the training files, each once, in the order of code points.
        characters: String,
    },
}

impl<P> Format<P> for Files<P> {
    type With<Q> = Files<Q>;

    fn files(&self) -> Vec<(&'static str, &P)> {
        self.paths.files()
    }

    fn locate<Q>(&self, find: &mut dyn Find<P, Q>) -> Option<Files<Q>> {
        Some(Files { paths: self.paths.locate(find)?, unit: self.unit, cut: self.cut })
    }

    fn read(&self, files: &[DataFile], reading: &Reading<'_>) -> Result<Box<dyn Content>, Vec<Problem>> {
        Ok(Box::new(self.read_text(files, reading, WHOLE_BELOW_BYTES)?))
    }
}

impl<P> Files<P> {
    /// Reads the files; text that is judged whole below so many bytes.
    fn read_text(&self, files: &[DataFile], reading: &Reading<'_>, whole_below: u64) -> Result<Text, Vec<Problem>> {
        let read::Read { letters, begins, sizes, estimate } =
            read::all(files, self.unit, self.paths.field(), reading, whole_below)?;
        let tokens = estimate.unwrap_or(letters.len() as u64);
        let rows = self.cut.rows(tokens);
        if rows == 0 {
            let (context, needed) = (self.cut.context, self.cut.span());
            let of = match files {
                [one] => one.path().display().to_string(),
                several => format!("the text of {} files", several.len()),
            };
            let what = format!(
                "is {context}, and {of} has {tokens} {}s; {needed} at least are needed, as each example comes with \
                 the one that follows",
                self.unit.name()
            );
            return Err(vec![Problem { file: "context".into(), what, unjudged: None }]);
        }
        Ok(Text {
            unit: self.unit,
            cut: self.cut,
            field: self.paths.field(),
            letters: Arc::new(letters),
            begins,
            sizes,
            tokens,
            rows,
            is_sample: estimate.is_some(),
            is_kept: reading.depth == Depth::Train,
        })
    }
}

impl Cut {
    /// Tokens of a window: those of the example and the one that follows.
    fn span(self) -> usize {
        self.context as usize + 1
    }

    /// The windows in a text of so many tokens. What is left at its end, and is none, is left out.
    fn rows(self, tokens: u64) -> u64 {
        tokens.checked_sub(self.span() as u64).map_or(0, |last| last / u64::from(self.stride) + 1)
    }

    /// The places of the tokens of a window.
    fn window(self, row: u64) -> ops::Range<usize> {
        let begin = row as usize * self.stride as usize;
        begin..begin + self.span()
    }

    /// The places of the tokens of windows in ascending order, each place once.
    fn places(self, rows: &Rows) -> impl Iterator<Item = ops::Range<usize>> {
        let mut done = 0;
        rows.iter().map(move |row| {
            let window = self.window(row);
            let begin = window.start.max(done);
            done = window.end;
            begin..window.end
        })
    }
}

/// The text of the files of a set.
struct Text {
    unit: Unit,
    cut: Cut,
    /// The field of the files.
    field: &'static str,
    letters: Arc<Letters>,
    /// The files, each with the place of its first letter.
    begins: Vec<(usize, PathBuf)>,
    /// Bytes of the files.
    sizes: Vec<u64>,
    /// Tokens; an estimate where the letters are a sample, and so are the windows.
    tokens: u64,
    /// Windows.
    rows: u64,
    /// Whether large files were judged by their beginnings.
    is_sample: bool,
    /// Whether it is read to be trained on.
    is_kept: bool,
}

impl Content for Text {
    fn rows(&self) -> u64 {
        self.rows
    }

    fn strata(&self) -> Result<Vec<u32>, Problem> {
        Err("is set, and the targets are the tokens of a text; an example has no class".to_owned().into())
    }

    /// Windows that begin before the last one has ended share tokens. A share of them at random
    /// would be judged by text that the training set has: its loss would tell nothing. Windows side
    /// by side share one token, which is a target of the first and the input of the second alone.
    fn overlap(&self) -> Option<String> {
        let Cut { context, stride } = self.cut;
        (stride < context).then(|| {
            format!(
                "is set, and windows of {context} tokens that begin every {stride} overlap, so that both sets would \
                 have the same text; leave stride out, or name a text of its own as data.validation"
            )
        })
    }

    fn is_sample(&self) -> bool {
        self.is_sample
    }

    fn memory_bytes(&self) -> Option<u64> {
        Some(self.tokens.saturating_mul(self.letters.width()))
    }

    fn details(&self, _: &Rows, _: &Preparation) -> Details {
        Details { was_read: !self.is_sample, ..Details::default() }
    }

    /// The characters are those of the files, whatever share of them is held out: one that occurs
    /// once would otherwise be unknown in the share that has it.
    fn learn(&self, _: &Rows, _measure: bool) -> Result<Preparation, Vec<Problem>> {
        let text = match self.unit {
            Unit::Byte => Some(TextEncoding::Byte),
            // The rest may have more characters.
            Unit::Character if self.is_sample => None,
            Unit::Character => {
                let kinds = 0..self.letters.kinds();
                let mut characters: Vec<char> = kinds.map(|letter| self.letters.character(letter)).collect();
                characters.sort_unstable();
                Some(TextEncoding::Character { characters: characters.into_iter().collect() })
            }
        };
        Ok(Preparation { text, ..Preparation::default() })
    }

    fn prepare(&self, rows: Rows, preparation: &Preparation) -> Result<Prepared, Vec<Problem>> {
        let tokens = self.tokens(&rows, preparation.text.as_ref()).map_err(|problem| vec![problem])?;
        let range = tokens.as_ref().map(|tokens| tokens.range());
        let field = |name: &str| Field {
            name: name.into(),
            file: self.field.into(),
            dtype: Dtype::I64,
            shape: vec![self.cut.context.into()],
            range,
        };
        let facts = Facts {
            examples: rows.count(),
            inputs: vec![field("tokens")],
            target: field("next"),
            sizes: self.sizes.clone(),
            is_resident: false,
        };
        let source = tokens.filter(|_| self.is_kept).map(|tokens| {
            let (letters, cut) = (self.letters.clone(), self.cut);
            Box::new(Windows { facts: facts.clone(), rows, cut, letters, tokens: tokens.of_letters }) as Box<dyn Source>
        });
        Ok(Prepared { facts, source, notes: Vec::new() })
    }
}

/// The tokens of the letters of a text.
struct Tokens {
    /// The token of each letter; -1 for one that has none, and is in no row.
    of_letters: Vec<i64>,
    /// How many tokens there are, also where the text lacks some.
    count: usize,
}

impl Tokens {
    /// All of them, so that a network tells them apart, whichever are there.
    fn range(&self) -> Range {
        Range { lowest: 0, highest: self.count as i64 - 1, highest_at: 0 }
    }
}

impl Text {
    /// The tokens of the letters of these rows; None where they are judged,
    /// and the training set is a sample, which does not tell.
    fn tokens(&self, rows: &Rows, encoding: Option<&TextEncoding>) -> Result<Option<Tokens>, Problem> {
        let characters = match (self.unit, encoding) {
            (Unit::Byte, None | Some(TextEncoding::Byte)) => {
                return Ok(Some(Tokens { of_letters: (0..256).collect(), count: 256 }));
            }
            (Unit::Character, Some(TextEncoding::Character { characters })) => characters,
            // A large training set that is judged teaches no characters, whatever this set is.
            (Unit::Character, None) if !self.is_kept => return Ok(None),
            (unit, encoding) => {
                let learned = match encoding {
                    Some(TextEncoding::Byte) => "the bytes of a text",
                    Some(TextEncoding::Character { .. }) => "the characters of a text",
                    None => "no text",
                };
                let what = format!("is {}, and the model has learned {learned}", unit.name());
                return Err(Problem { file: "unit".into(), what, unjudged: None });
            }
        };
        let places = characters.chars().zip(0i64..).collect::<HashMap<_, _>>();
        let token = |letter| places.get(&self.letters.character(letter)).copied().unwrap_or(-1);
        let of_letters: Vec<i64> = (0..self.letters.kinds()).map(token).collect();
        // Of a sample the rows are an estimate.
        if !self.is_sample {
            self.judge(rows, &of_letters)?;
        }
        Ok(Some(Tokens { of_letters, count: places.len() }))
    }

    /// Refuses rows with a letter that has no token.
    fn judge(&self, rows: &Rows, tokens: &[i64]) -> Result<(), Problem> {
        if tokens.iter().all(|token| *token >= 0) {
            return Ok(());
        }
        let mut first = None;
        let mut unknown = BTreeSet::new();
        for places in self.cut.places(rows) {
            self.letters.each(places, |place, letter| {
                if tokens[letter] < 0 && unknown.insert(letter) {
                    first.get_or_insert((place, self.letters.character(letter)));
                }
            });
        }
        let Some((place, character)) = first else { return Ok(()) };
        let file = self.begins.partition_point(|(begin, _)| *begin <= place) - 1;
        let (begin, path) = &self.begins[file];
        let (line, column) = self.letters.line_and_column(*begin..place);
        let others = match unknown.len() - 1 {
            0 => String::new(),
            1 => ", and so is one other".into(),
            others => format!(", and so are {others} others"),
        };
        let what = format!(
            "{} line {line}, column {column}: the character {character:?} (U+{:04X}) is in no training \
             file{others}; unit = \"byte\" takes every text",
            path.display(),
            u32::from(character)
        );
        Err(Problem { file: self.field.into(), what, unjudged: None })
    }
}

/// Windows of a text, as tokens.
struct Windows {
    facts: Facts,
    rows: Rows,
    cut: Cut,
    letters: Arc<Letters>,
    /// The token of each letter.
    tokens: Vec<i64>,
}

impl Source for Windows {
    fn facts(&self) -> &Facts {
        &self.facts
    }

    fn access(&self) -> Access<'_> {
        Access::Memory
    }

    fn fill(&self, places: &[u64], into: &mut HostBatch) -> Result<(), Problem> {
        let HostBatch { inputs, targets } = into;
        inputs.resize_with(1, Vec::new);
        for (column, first) in [(&mut inputs[0], 0), (targets, 1)] {
            column.clear();
            column.reserve(places.len() * self.cut.context as usize * size_of::<i64>());
            for &place in places {
                let begin = self.cut.window(self.rows.row(place)).start + first;
                let window = begin..begin + self.cut.context as usize;
                self.letters.each(window, |_, letter| column.extend_from_slice(&self.tokens[letter].to_le_bytes()));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
