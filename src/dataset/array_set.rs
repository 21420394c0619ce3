//! Sets of examples out of named arrays, whose first dimension counts the examples: which types
//! become which, how the arrays have to agree, and which of them stay in their files. The formats
//! find the arrays.

mod placed;
mod residence;
mod several;

use std::io::{self, Read};
use std::sync::Arc;

pub(super) use self::placed::Placed;
use self::residence::Residence;
use super::column::{Column, Order};
use super::compressed::MOST_UNPACKED;
use super::numbers::{Kind, Numbers};
use super::resident::{Arrays, Values};
use super::{Content, DataFile, Depth, Dtype, Facts, Field, Problem, Reading, WHOLE_BELOW_BYTES};

/// Bytes that are read at a time.
const BLOCK: usize = 1 << 20;
/// A file is judged by its headers too where a small packed one promises more values than this.
const WHOLE_BELOW_VALUES: u64 = 1 << 30;

/// What makes a packed file one that can be read in parts.
pub(super) const UNPACK: &str = "unpack it";

/// An array, whose examples lie in one file or follow one another in several.
pub(super) struct Array<'a> {
    /// Its name.
    pub name: String,
    /// The type of its values, or the one that is not read, in words that follow "has the array
    /// as".
    pub numbers: Result<Numbers, String>,
    /// Its sizes, outermost first; the first one counts the examples of all files.
    pub shape: Vec<u64>,
    /// Whether whole numbers in it are quantities, and neither classes nor tokens.
    pub is_quantity: bool,
    /// Its files, in their order; at least one.
    pub parts: Vec<Part<'a>>,
}

/// The part of an array that lies in one file.
pub(super) struct Part<'a> {
    /// The file.
    pub file: At<'a>,
    /// Its examples; 0 of an array that is a single number.
    pub examples: u64,
    /// The order of its values.
    pub order: Order,
    /// The place of its first value in the file, where the others lie behind it as they are; or
    /// what has to be done to a file that is packed.
    pub place: Result<u64, &'static str>,
    /// The bytes of the file that hold it packed by DEFLATE, and the name of such files; None where
    /// it is not packed.
    pub packed: Option<(u64, &'static str)>,
    /// Begins to read its values; nothing comes behind them. Errors that are a [`Mistake`] are told
    /// as they are. It is closed until then: a set may have many files.
    pub open: Open<'a>,
}

/// Begins to read the values of an array.
pub(super) type Open<'a> = Box<dyn Fn() -> io::Result<Box<dyn Read + 'a>> + 'a>;

/// The file of an array.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    /// Its field in the format's section.
    pub field: &'static str,
    /// The file itself.
    pub data: &'a DataFile,
    /// Its bytes on the disk.
    pub size_bytes: u64,
}

impl At<'_> {
    pub(super) fn problem(&self, what: String) -> Problem {
        Problem::of_file(self.field, self.data.path(), what)
    }
}

/// The mistake of a file that shows while its values are read, in words that follow its path.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Mistake(pub String);

impl From<Mistake> for io::Error {
    fn from(mistake: Mistake) -> Self {
        Self::new(io::ErrorKind::InvalidData, mistake)
    }
}

/// The parts that arrays play, by their places.
pub(super) struct Roles {
    /// Those that a network gets, in its order.
    pub inputs: Vec<usize>,
    /// The one that it should answer.
    pub target: Option<usize>,
    /// The target of examples that have none and need none.
    pub no_target: Option<Field>,
    /// The one that weighs the examples, or why there is none; None where none is asked for.
    pub weights: Result<Option<usize>, String>,
    /// The mistakes in the names.
    pub wrong: Vec<Problem>,
}

impl Roles {
    /// The parts by the names of a spec, which are those of one file, whose arrays have these
    /// `names`. Without names of inputs they are all but the target and the weights, by name.
    pub(super) fn named(
        arrays: &[Array<'_>],
        names: &[String],
        inputs: &[String],
        target: &str,
        reading: &Reading<'_>,
        file: At<'_>,
    ) -> Self {
        let weights = reading.weights;
        let mut all: Vec<(&str, usize)> = arrays.iter().map(|array| array.name.as_str()).zip(0..).collect();
        all.sort_unstable();
        let place = |name: &str| all.iter().find(|(other, _)| *other == name).map(|(_, place)| *place);
        let mut wrong = Vec::new();
        let mut find = |name: &str| {
            let found = place(name);
            if found.is_none() {
                let mut has: Vec<_> = names.iter().map(|name| format!("{name:?}")).collect();
                has.sort_unstable();
                has.truncate(12);
                let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
                wrong.push(file.problem(format!("has no array {name:?}; it has {has}")));
            }
            found
        };
        let no_target =
            (reading.may_lack_target && place(target).is_none()).then(|| Field::no_target(target, file.field));
        let target_place = if no_target.is_none() { find(target) } else { None };
        let inputs: Vec<usize> = if inputs.is_empty() {
            let others = all.iter().filter(|(name, _)| *name != target && Some(*name) != weights);
            others.map(|(_, place)| *place).collect()
        } else {
            inputs.iter().filter_map(|name| find(name)).collect()
        };
        if inputs.is_empty() && wrong.is_empty() {
            wrong.push(file.problem(format!("has no array besides {target:?}, the target")));
        }
        let weights =
            weights.map(|name| place(name).ok_or_else(|| format!("{} has no such array", file.data.path().display())));
        Self { inputs, target: target_place, no_target, weights: weights.transpose(), wrong }
    }
}

/// The set of these arrays. `sizes` are those of the files on the disk.
pub(super) fn read(
    arrays: Vec<Array<'_>>,
    mut roles: Roles,
    sizes: Vec<u64>,
    reading: &Reading<'_>,
) -> Result<Box<dyn Content>, Vec<Problem>> {
    let weights = std::mem::replace(&mut roles.weights, Ok(None));
    let (facts, places) = facts(&arrays, roles, sizes)?;
    let weights = weights
        .and_then(|place| place.map_or(Ok(()), |place| judge_weights(&arrays[place], facts.examples)).map(|()| place));
    let weighing = weights.as_ref().ok().copied().flatten();
    let is_judged = reading.depth == Depth::Judge;
    let is_taken = |place: usize| places.contains(&place) || weighing == Some(place);
    let residence = Residence::of(&arrays, &facts, &places, weighing, reading)?;
    let is_read: Vec<bool> = (0..arrays.len())
        .map(|place| match is_judged {
            true => is_small(&arrays, place, is_taken),
            false => residence.is_read(place),
        })
        .collect();
    let Facts { examples, inputs, target, sizes, .. } = facts;
    let last = inputs.len();
    // Examples that have no target have no place for it.
    let absent = (places.len() == last).then(|| target.clone());
    let fields = inputs.into_iter().chain([target]).zip(&places).enumerate();
    let mut columns: Vec<Option<Column>> = fields
        .map(|(number, (field, &place))| {
            // Inputs that are judged are read, and not kept, and so are those that stay in their
            // files.
            let is_kept = is_read[place] && if is_judged { number == last } else { !residence.is_in_files(place) };
            arrays[place].numbers.as_ref().ok().map(|numbers| Column::new(field, *numbers, is_kept))
        })
        .collect();
    let (mut block, mut raw, mut wrong) = (vec![0; BLOCK], Vec::new(), Vec::new());
    for (place, array) in arrays.iter().enumerate().filter(|(place, _)| is_taken(*place)) {
        // A text is input and target of a network that tells the tokens that follow.
        let of = places.iter().zip(&mut columns).filter(|(of, _)| **of == place);
        let mut taking: Vec<&mut Column> = of.filter_map(|(_, one)| one.as_mut()).collect();
        for part in &array.parts {
            taking.iter_mut().for_each(|column| column.begin(part.order, part.examples));
            let done = match is_read[place] {
                true => array.read(part, &mut block, reading, |block| {
                    if weighing == Some(place) {
                        raw.extend_from_slice(block);
                    }
                    taking.iter_mut().try_for_each(|column| column.take(block))
                }),
                false => array.judge_size(part),
            };
            wrong.extend(done.err());
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let weights = weights.map(|place| {
        let numbers = arrays[place.filter(|place| is_read[*place])?].numbers.as_ref().ok()?;
        let mut weights = Vec::new();
        numbers.each_float(&raw, |weight| weights.push(weight));
        Some(weights)
    });
    let mut finished: Vec<_> = columns.into_iter().flatten().map(Column::finish).collect();
    let of_target = absent.map(|target| (target, Some(Vec::new()))).or_else(|| finished.pop());
    let Some((target, targets)) = of_target else { unreachable!("a set has a target, or none") };
    let (inputs, values): (Vec<_>, Vec<_>) = finished.into_iter().unzip();
    let all = inputs
        .iter()
        .chain([&target])
        .zip(values.into_iter().chain([targets]))
        .zip(places.iter().map(Some).chain([None]));
    let values =
        all.map(|((field, bytes), place)| values_of(&arrays, place.copied(), field, bytes, &residence, is_judged));
    let mut values = values.collect::<Result<Vec<_>, _>>().map_err(|problem| vec![problem])?;
    let targets = values.pop().flatten();
    let (in_files, whole) = (residence.memory, residence.whole);
    let facts = Facts { examples, inputs, target, sizes, is_resident: in_files.is_none(), may_widen: false };
    Ok(Box::new(Arrays { facts, inputs: values.into_iter().collect(), targets, weights, in_files, whole }))
}

/// The values of a field: in its files where they stay there, or else those that were kept.
fn values_of(
    arrays: &[Array<'_>],
    place: Option<usize>,
    field: &Field,
    kept: Option<Vec<u8>>,
    residence: &Residence,
    is_judged: bool,
) -> Result<Option<Values>, Problem> {
    let array = place.filter(|place| !is_judged && residence.is_in_files(*place)).map(|place| &arrays[place]);
    Ok(match array.map(|array| (array, &array.numbers)) {
        Some((array, Ok(numbers))) => Some(Values::Files(Arc::new(Placed::of(array, field, *numbers)?))),
        Some((_, Err(_))) | None => kept.map(Values::of),
    })
}

/// Whether an array is read to be judged: its files are small, and so is what is taken of them when
/// it is unpacked.
fn is_small(arrays: &[Array<'_>], place: usize, is_taken: impl Fn(usize) -> bool) -> bool {
    let field = |array: &Array<'_>| array.parts.first().map(|part| part.file.field);
    let array = &arrays[place];
    let bytes = array.parts.iter().fold(0u64, |sum, part| sum.saturating_add(part.file.size_bytes));
    let beside = arrays.iter().enumerate().filter(|(other, one)| is_taken(*other) && field(one) == field(array));
    let values = beside.map(|(_, array)| array.promised()).fold(0, u64::saturating_add);
    bytes < WHOLE_BELOW_BYTES && values < WHOLE_BELOW_VALUES
}

/// Judges an array that weighs examples by its header.
fn judge_weights(array: &Array<'_>, examples: u64) -> Result<(), String> {
    if let Err(what) = &array.numbers {
        return Err(format!("the array is {what}"));
    }
    if array.shape != [examples] {
        return Err(format!("the array is {:?}; [{examples}], a number an example, is needed", array.shape));
    }
    Ok(())
}

fn unread(file: At<'_>, error: &io::Error) -> Problem {
    match error.get_ref().and_then(|inner| inner.downcast_ref()) {
        Some(Mistake(what)) => file.problem(what.clone()),
        None => Problem::unreadable(file.field, file.data.path(), error),
    }
}

impl Array<'_> {
    /// Values that its headers promise.
    fn promised(&self) -> u64 {
        self.shape.iter().fold(1, |values, &size| values.saturating_mul(size))
    }

    /// The same of one file.
    fn promised_by(&self, part: &Part<'_>) -> u64 {
        let of_example = self.shape.iter().skip(1).fold(1u64, |values, &size| values.saturating_mul(size));
        part.examples.saturating_mul(of_example)
    }

    /// Judges the size of a part by its header alone. One that is not packed was judged by its
    /// format.
    fn judge_size(&self, part: &Part<'_>) -> Result<(), Problem> {
        let (Some((packed, format)), Ok(numbers)) = (part.packed, &self.numbers) else { return Ok(()) };
        let most = packed.saturating_mul(MOST_UNPACKED);
        let wanted = self.promised_by(part);
        if wanted.saturating_mul(numbers.kind.width() as u64) <= most {
            return Ok(());
        }
        let what = "is no such file: its header says";
        let what = format!("{what} {wanted} values, and {packed} bytes of {format} unpack to {most} at most");
        Err(part.file.problem(what))
    }

    /// Hands out all values of a part in blocks, which may cut values.
    fn read(
        &self,
        part: &Part<'_>,
        block: &mut [u8],
        reading: &Reading<'_>,
        mut take: impl FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<(), Problem> {
        let (file, name) = (part.file, &self.name);
        let width = self.numbers.as_ref().map_or(1, |numbers| numbers.kind.width()) as u64;
        let wanted = self.promised_by(part) * width;
        let mut values = reading.wanted.check().and_then(|()| (part.open)()).map_err(|error| unread(file, &error))?;
        let mut found = 0;
        loop {
            let read = reading.wanted.check().and_then(|()| values.read(block));
            let count = match read {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(unread(file, &error)),
            };
            found += count as u64;
            if count == 0 && found < wanted {
                let (found, wanted) = (found / width, wanted / width);
                let what = format!("is cut off: its header says {wanted} values of {name:?}, {found} are there");
                return Err(file.problem(what));
            }
            if found > wanted {
                let wanted = wanted / width;
                let what = format!("goes on after the {wanted} values of {name:?} that its header says");
                return Err(file.problem(what));
            }
            if count == 0 {
                return Ok(());
            }
            take(&block[..count]).map_err(|what| file.problem(what))?;
        }
    }
}

/// The facts of the set, and the places of the arrays of its inputs and, last, of its target; or
/// all that is wrong with the arrays.
fn facts(arrays: &[Array<'_>], roles: Roles, sizes: Vec<u64>) -> Result<(Facts, Vec<usize>), Vec<Problem>> {
    let Roles { inputs, target, no_target, mut wrong, .. } = roles;
    let mut field = |place: usize, is_target: bool| {
        let array = &arrays[place];
        match field(array, is_target) {
            Ok(field) => Some(field),
            Err(what) => {
                wrong.extend(array.parts.first().map(|part| part.file.problem(what)));
                None
            }
        }
    };
    let answer = target.and_then(|place| field(place, true));
    let found: Vec<_> = inputs.iter().filter_map(|&place| field(place, false)).collect();
    // The examples are those of the target, or of the first input where there is none.
    let first = target.or(inputs.first().copied());
    let answer = answer.or(no_target);
    let (Some(answer), Some(first), true) = (answer, first, wrong.is_empty()) else { return Err(wrong) };
    for &place in inputs.iter().filter(|place| **place != first) {
        wrong.extend(arrays[place].judge_examples(&arrays[first]));
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let examples = arrays[first].shape.first().copied().unwrap_or(0);
    let places = inputs.into_iter().chain(target).collect();
    Ok((Facts { examples, inputs: found, target: answer, sizes, is_resident: true, may_widen: false }, places))
}

/// The field of an array, or what is wrong with it, in words that follow its path.
fn field(array: &Array<'_>, is_target: bool) -> Result<Field, String> {
    let name = &array.name;
    let kind = match &array.numbers {
        Ok(numbers) => numbers.kind,
        Err(what) => return Err(format!("has {name:?} as {what}")),
    };
    let Some((&examples, shape)) = array.shape.split_first() else {
        return Err(format!("has a single number as {name:?}; the first dimension counts the examples"));
    };
    let mut shape = shape.to_vec();
    let dtype = match (kind, &shape[..]) {
        _ if is_target => kind.of_target(),
        (_, &[channels, _, last @ (1 | 3 | 4)]) if channels > 4 && (kind == Kind::U8 || array.is_quantity) => {
            let found = format!("has {name:?} of the shape {:?}, whose channels ({last}) are last", array.shape);
            return Err(format!(
                "{found}; torchd takes [count, channels, height, width], as of np.transpose(x, (0, 3, 1, 2))"
            ));
        }
        (Kind::U8, [_, _]) => {
            shape.insert(0, 1);
            Dtype::Pixel
        }
        (Kind::U8, [_, _, _]) => Dtype::Pixel,
        (Kind::Bool, _) => Dtype::F32,
        _ if array.is_quantity => Dtype::F32,
        _ => kind.of_target(),
    };
    let file = array.parts.first().map_or("", |part| part.file.field);
    let field = Field { name: name.clone(), file: file.into(), dtype, shape, range: None };
    if examples == 0 || field.values() == 0 {
        return Err(format!("has {name:?} of the shape {:?}, which is empty", array.shape));
    }
    let is_possible = field.bytes().checked_mul(examples).is_some_and(|bytes| i64::try_from(bytes).is_ok());
    if is_possible { Ok(field) } else { Err(format!("promises more values of {name:?} than a file can hold")) }
}

#[cfg(test)]
mod tests;
