//! Sets of examples out of named arrays, whose first dimension counts the examples: which types
//! become which, and how the arrays have to agree. The formats find the arrays.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::column::{Column, Order};
use super::numbers::{Kind, Numbers};
use super::resident::Arrays;
use super::{Content, Depth, Dtype, Facts, Field, Problem, Reading, WHOLE_BELOW_BYTES};
use crate::shortage::Unjudged;

/// Bytes that are read at a time.
const BLOCK: usize = 1 << 20;
/// A set is judged by its headers too where small compressed files promise more values than this.
const WHOLE_BELOW_VALUES: u64 = 1 << 30;

/// An array of a file, up to its first value.
pub(super) struct Array<'a> {
    /// Its name.
    pub name: String,
    /// The field of its file in the format's section.
    pub file: &'static str,
    /// The path of its file.
    pub path: &'a Path,
    /// The type of its values, or the one that is not read, in words that follow "has the array as".
    pub numbers: Result<Numbers, String>,
    /// Its sizes, outermost first.
    pub shape: Vec<u64>,
    /// The order of its values.
    pub order: Order,
    /// Its values, and nothing behind them.
    pub values: Box<dyn Read + 'a>,
}

/// The parts that arrays play, by their places.
pub(super) struct Roles {
    /// Those that a network gets, in its order.
    pub inputs: Vec<usize>,
    /// The one that it should answer.
    pub target: Option<usize>,
    /// The mistakes in the names.
    pub wrong: Vec<Problem>,
}

impl Roles {
    /// The parts by the names of a spec; without names of inputs they are all but the target, by
    /// name.
    pub(super) fn named(
        arrays: &[Array<'_>],
        inputs: &[String],
        target: &str,
        file: &'static str,
        path: &Path,
    ) -> Self {
        let mut all: Vec<(&str, usize)> = arrays.iter().map(|array| array.name.as_str()).zip(0..).collect();
        all.sort_unstable();
        let mut wrong = Vec::new();
        let mut find = |name: &str| {
            let found = all.iter().find(|(other, _)| *other == name).map(|(_, place)| *place);
            if found.is_none() {
                let has = all.iter().take(12).map(|(name, _)| format!("{name:?}")).collect::<Vec<_>>().join(", ");
                let has = if has.is_empty() { "none" } else { &has };
                wrong.push(Problem::of_file(file, path, format!("has no array {name:?}; it has {has}")));
            }
            found
        };
        let target_place = find(target);
        let inputs: Vec<usize> = if inputs.is_empty() {
            all.iter().filter(|(name, _)| *name != target).map(|(_, place)| *place).collect()
        } else {
            inputs.iter().filter_map(|name| find(name)).collect()
        };
        if inputs.is_empty() && wrong.is_empty() {
            wrong.push(Problem::of_file(file, path, format!("has no array besides {target:?}, the target")));
        }
        Self { inputs, target: target_place, wrong }
    }
}

/// The set of these arrays. `sizes` are those of the files on the disk.
pub(super) fn read(
    mut arrays: Vec<Array<'_>>,
    roles: Roles,
    sizes: Vec<u64>,
    reading: &Reading<'_>,
) -> Result<Box<dyn Content>, Vec<Problem>> {
    let (facts, places) = facts(&arrays, roles, sizes)?;
    let is_judged = reading.depth == Depth::Judge;
    let is_small = facts.sizes.iter().all(|size| *size < WHOLE_BELOW_BYTES)
        && facts.inputs.iter().map(Field::values).sum::<u64>().saturating_mul(facts.examples) < WHOLE_BELOW_VALUES;
    if is_judged && !is_small {
        return Ok(Box::new(Arrays { facts, inputs: None, targets: None }));
    }
    let Facts { examples, inputs, target, sizes, .. } = facts;
    let last = inputs.len();
    let fields = inputs.into_iter().chain([target]).enumerate();
    let mut columns: Vec<Option<Column>> = fields
        .map(|(number, field)| {
            let array = &arrays[places[number]];
            // Inputs that are judged are read, and not kept.
            let is_kept = !is_judged || number == last;
            array.numbers.as_ref().ok().map(|numbers| Column::new(field, *numbers, array.order, examples, is_kept))
        })
        .collect();
    let mut block = vec![0; BLOCK];
    for (place, array) in arrays.iter_mut().enumerate() {
        // A text is input and target of a network that tells the tokens that follow.
        let mut taking: Vec<&mut Column> = places
            .iter()
            .zip(&mut columns)
            .filter(|(of, _)| **of == place)
            .filter_map(|(_, one)| one.as_mut())
            .collect();
        if !taking.is_empty() {
            read_values(array, &mut taking, &mut block, reading)?;
        }
    }
    let mut finished: Vec<_> = columns.into_iter().flatten().map(Column::finish).collect();
    let Some((target, targets)) = finished.pop() else { unreachable!("a set has a target") };
    let (inputs, values): (Vec<_>, Vec<_>) = finished.into_iter().unzip();
    let values = values.into_iter().map(|values| values.map(Arc::new)).collect::<Option<Vec<_>>>();
    let facts = Facts { examples, inputs, target, sizes, is_resident: true };
    Ok(Box::new(Arrays { facts, inputs: values, targets: targets.map(Arc::new) }))
}

/// Reads all values of an array into columns.
fn read_values(
    array: &mut Array<'_>,
    columns: &mut [&mut Column],
    block: &mut [u8],
    reading: &Reading<'_>,
) -> Result<(), Vec<Problem>> {
    let (file, path, name) = (array.file, array.path, &array.name);
    let told = |what: String| vec![Problem::of_file(file, path, what)];
    let width = array.numbers.as_ref().map_or(1, |numbers| numbers.kind.width()) as u64;
    let wanted = array.shape.iter().product::<u64>() * width;
    let mut found = 0;
    loop {
        let read = reading.wanted.check().and_then(|()| array.values.read(block));
        let count = match read {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => {
                let what = format!("{} cannot be read: {error}", path.display());
                return Err(vec![Problem { file, what, unjudged: Unjudged::of(&error) }]);
            }
        };
        found += count as u64;
        if count == 0 && found < wanted {
            let (found, wanted) = (found / width, wanted / width);
            return Err(told(format!("is cut off: its header says {wanted} values of {name:?}, {found} are there")));
        }
        if found > wanted {
            let wanted = wanted / width;
            return Err(told(format!("goes on after the {wanted} values of {name:?} that its header says")));
        }
        if count == 0 {
            return Ok(());
        }
        for column in &mut *columns {
            column.take(&block[..count]).map_err(told)?;
        }
    }
}

/// The facts of the set, and the places of the arrays of its inputs and its target; or all that is
/// wrong with the arrays.
fn facts(arrays: &[Array<'_>], roles: Roles, sizes: Vec<u64>) -> Result<(Facts, Vec<usize>), Vec<Problem>> {
    let Roles { inputs, target, mut wrong } = roles;
    let mut field = |place: usize, is_target: bool| {
        let array = &arrays[place];
        match field(array, is_target) {
            Ok(field) => Some((array.shape[0], field)),
            Err(what) => {
                wrong.push(Problem::of_file(array.file, array.path, what));
                None
            }
        }
    };
    let answer = target.and_then(|place| Some((place, field(place, true)?)));
    let found: Vec<_> = inputs.iter().filter_map(|&place| field(place, false)).collect();
    let (Some((target, (examples, answer))), true) = (answer, wrong.is_empty()) else { return Err(wrong) };
    for ((count, field), place) in found.iter().zip(&inputs) {
        if *count != examples {
            let (array, name, target) = (&arrays[*place], &field.name, &answer.name);
            let what = format!("has {count} examples in {name:?} and {examples} in {target:?}; there must be one each");
            wrong.push(Problem::of_file(array.file, array.path, what));
        }
    }
    if !wrong.is_empty() {
        return Err(wrong);
    }
    let fields = found.into_iter().map(|(_, field)| field).collect();
    let places = inputs.into_iter().chain([target]).collect();
    Ok((Facts { examples, inputs: fields, target: answer, sizes, is_resident: true }, places))
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
        (Kind::U8, &[channels, _, last @ (1 | 3 | 4)]) if channels > 4 => {
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
        _ => kind.of_target(),
    };
    let field = Field { name: name.clone(), file: array.file, dtype, shape, range: None };
    if examples == 0 || field.values() == 0 {
        return Err(format!("has {name:?} of the shape {:?}, which is empty", array.shape));
    }
    let is_possible = field.bytes().checked_mul(examples).is_some_and(|bytes| i64::try_from(bytes).is_ok());
    if is_possible { Ok(field) } else { Err(format!("promises more values of {name:?} than a file can hold")) }
}
