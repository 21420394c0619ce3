//! Data and models as `torchctl validate` and `show` tell them.

use std::fmt::Display;

use super::progress::size;
use crate::proto::v1;
use crate::terminal::shown_in_line;

/// Classes and columns of a set that are shown.
const MOST_SHOWN: usize = 20;

/// A set of examples, in lines.
pub(super) fn data(set: &v1::DataDescription) -> String {
    let v1::DataDescription { files, file_count, size_bytes, examples, was_read, columns, classes, .. } = set;
    let files = match (&files[..], file_count) {
        ([one], 1) => shown_in_line(one),
        (files, count) => {
            format!("{count} files, {} first", files.first().map(|first| shown_in_line(first)).unwrap_or_default())
        }
    };
    let how = if *was_read { "all read" } else { "judged by headers or a sample; the job reads the rest" };
    // Of a folder no size is known.
    let size = if *size_bytes == 0 { String::new() } else { format!(", {}", size(*size_bytes)) };
    let mut lines = vec![format!("{examples} examples, {how}"), format!("{files}{size}")];
    lines.extend(set.inputs.iter().map(|input| array("input", input)));
    lines.extend(set.target.iter().map(|target| array("target", target)));
    if !classes.is_empty() {
        let class = |v1::ClassCount { number, name, examples }: &v1::ClassCount| match name.as_str() {
            "" => format!("{number}: {examples}"),
            name => format!("{}: {examples}", shown_in_line(name)),
        };
        let shown: Vec<_> = classes.iter().take(MOST_SHOWN).map(class).collect();
        let count = if classes.len() == 1 { "1 class".to_owned() } else { format!("{} classes", classes.len()) };
        lines.push(format!("{count}: {}{}", shown.join(", "), more(classes.len())));
    }
    lines.extend(columns.iter().take(MOST_SHOWN).map(column));
    let all = usize::try_from(set.column_count).unwrap_or(usize::MAX).max(columns.len());
    if all > MOST_SHOWN {
        lines.push(format!("columns{}", more(all)));
    }
    if set.left_out_rows > 0 {
        lines.push(format!("{} rows are left out, since values are missing", set.left_out_rows));
    }
    lines.join("\n")
}

fn more(count: usize) -> String {
    if count > MOST_SHOWN { format!(", and {} more", count - MOST_SHOWN) } else { String::new() }
}

fn array(role: &str, array: &v1::ArrayDescription) -> String {
    let v1::ArrayDescription { name, dtype, sizes, lowest, highest } = array;
    let sizes = if sizes.is_empty() { "one".to_owned() } else { format!("{sizes:?}") };
    format!("{role} {}: {sizes} {dtype}{}", shown_in_line(name), range(*lowest, *highest))
}

fn column(column: &v1::ColumnDescription) -> String {
    let role = match column.role() {
        v1::ColumnRole::Unspecified | v1::ColumnRole::Feature => "",
        v1::ColumnRole::Target => ", the target",
        v1::ColumnRole::Split => ", which divides the rows",
        v1::ColumnRole::Weight => ", which weighs the rows",
    };
    let different = column.different.map(|count| format!(", {count} different words")).unwrap_or_default();
    let missing = if column.missing == 0 { String::new() } else { format!(", {} missing", column.missing) };
    let range = range(column.lowest, column.highest);
    format!("column {}{role}{different}{range}{missing}", shown_in_line(&column.name))
}

fn range<T: Display>(lowest: Option<T>, highest: Option<T>) -> String {
    lowest.zip(highest).map(|(lowest, highest)| format!(", {lowest} to {highest}")).unwrap_or_default()
}

/// The parameters of a model, layer by layer.
pub(super) fn model(model: &v1::ModelOutline) -> String {
    let width = model.layers.iter().map(|layer| shown_in_line(&layer.name).chars().count()).max().unwrap_or(0);
    let layer = |v1::ModelLayer { name, parameter_count, kept_count }: &v1::ModelLayer| {
        let kept = if *kept_count == 0 { String::new() } else { format!(", and {kept_count} that do not learn") };
        format!("\n{:width$}  {parameter_count}{kept}", shown_in_line(name))
    };
    format!("{} parameters{}", model.parameter_count, model.layers.iter().map(layer).collect::<String>())
}
