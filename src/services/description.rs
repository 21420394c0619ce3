//! Data and models as ValidateJob describes them.

use crate::dataset::{ClassCount, ColumnFacts, ColumnValues, Details, Dtype, Facts, Field, Files, Role};
use crate::manager::{Admitted, AdmittedModel};
use crate::proto::v1;

/// Files of a set that are named.
const MOST_FILES: usize = 100;

/// The answer about a job that can run.
pub(super) fn answer(admitted: Admitted, dry_run: Option<v1::DryRun>) -> v1::ValidateJobResponse {
    let Admitted { spec, inputs, model, notes, .. } = admitted;
    let told = v1::ValidateJobResponse { spec: Some(spec.to_proto()), dry_run, notes, ..Default::default() };
    let (Some(model), Some(inputs)) = (model, inputs.data()) else { return told };
    let AdmittedModel { facts, plan, first_step, details, validation_details, memory_bytes } = model;
    let examples = facts.train.examples;
    let first = Some(describe(&inputs.train, &facts.train, details));
    let (train_examples, test_examples, train, test) = match spec.model().is_some_and(|work| work.mode.applies()) {
        true => (0, examples, None, first),
        false => (examples, 0, first, None),
    };
    // Examples that are held out come from the files of the training set.
    let files = inputs.validation.as_ref().unwrap_or(&inputs.train);
    let details = validation_details.unwrap_or_default();
    v1::ValidateJobResponse {
        train_examples,
        validation_examples: facts.validation.as_ref().map_or(0, |set| set.examples),
        total_steps: plan.total_steps,
        first_step,
        test_examples,
        train,
        validation: facts.validation.as_ref().map(|facts| describe(files, facts, details)),
        test,
        model_outline: inputs.outline.as_ref().map(|outline| outline.to_proto()),
        memory_bytes,
        ..told
    }
}

fn describe(files: &Files, facts: &Facts, details: Details) -> v1::DataDescription {
    let paths = files.paths();
    let Details { was_read, classes, columns, column_count, left_out } = details;
    let class = |ClassCount { number, name, examples }| v1::ClassCount { number, name, examples };
    v1::DataDescription {
        files: paths.iter().take(MOST_FILES).map(|path| path.display().to_string()).collect(),
        file_count: paths.len() as u64,
        size_bytes: facts.sizes.iter().fold(0, |sum, size| sum.saturating_add(*size)),
        examples: facts.examples,
        was_read,
        inputs: facts.inputs.iter().map(array).collect(),
        target: Some(array(&facts.target)),
        classes: classes.into_iter().map(class).collect(),
        columns: columns.into_iter().map(column).collect(),
        column_count,
        left_out_rows: left_out,
        memory_bytes: facts.examples.saturating_mul(facts.example_bytes()),
    }
}

fn array(field: &Field) -> v1::ArrayDescription {
    v1::ArrayDescription {
        name: field.name.clone(),
        dtype: match field.dtype {
            Dtype::Pixel => "uint8",
            Dtype::F32 => "float32",
            Dtype::I64 => "int64",
        }
        .into(),
        sizes: field.shape.clone(),
        lowest: field.range.map(|range| range.lowest),
        highest: field.range.map(|range| range.highest),
    }
}

fn column(ColumnFacts { name, role, missing, values }: ColumnFacts) -> v1::ColumnDescription {
    let role = match role {
        Role::Feature => v1::ColumnRole::Feature,
        Role::Target => v1::ColumnRole::Target,
        Role::Split => v1::ColumnRole::Split,
        Role::Weight => v1::ColumnRole::Weight,
    };
    let (range, different) = match values {
        ColumnValues::Numbers(range) => (range, None),
        ColumnValues::Words(different) => (None, Some(different)),
    };
    v1::ColumnDescription {
        name,
        role: role.into(),
        missing,
        lowest: range.map(|[lowest, _]| lowest),
        highest: range.map(|[_, highest]| highest),
        different,
    }
}
