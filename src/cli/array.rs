//! `run --array`: one program as many jobs, told apart by a number.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::process::ExitCode;
use std::str::FromStr;

use super::connection::Connection;
use super::failure::Failure;
use super::output::Output;
use crate::proto::v1;

/// The variable that has the number of a job.
const VARIABLE: &str = "TORCHD_ARRAY_INDEX";
/// The label that the jobs of an array have in common.
const LABEL: &str = "array";
/// Jobs of an array.
const MOST: usize = 1000;

/// The numbers of the jobs of an array, such as `0-9`, `1,4,7` or `0-9%2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Array {
    indices: Vec<u32>,
    /// So many of them run at a time; None for no limit.
    at_once: Option<usize>,
}

impl FromStr for Array {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let right = "0-9, 1,4,7 or 0-9%2 is right";
        let number = |text: &str| text.parse::<u32>().map_err(|_| format!("{text:?} is no number; {right}"));
        let (list, at_once) = match text.split_once('%') {
            Some((list, most)) => (list, Some(number(most)?)),
            None => (text, None),
        };
        if at_once == Some(0) {
            return Err(format!("%0 lets none run; {right}"));
        }
        let mut indices = Vec::new();
        for part in list.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("{part:?} ends before it begins; {right}"));
            }
            if (last - first) as usize >= MOST - indices.len() {
                return Err(format!("at most {MOST} jobs can be made at once"));
            }
            indices.extend(first..=last);
        }
        let mut sorted = indices.clone();
        sorted.sort_unstable();
        sorted.dedup();
        if sorted.len() < indices.len() {
            return Err(format!("a number comes twice; {right}"));
        }
        Ok(Self { indices, at_once: at_once.map(|most| most as usize) })
    }
}

/// The label of the array that a job is of, and its number there; None where it is of none.
pub(super) fn place(spec: &v1::JobSpec) -> Option<String> {
    let number = spec.program.as_ref()?.env.get(VARIABLE)?;
    Some(match spec.labels.get(LABEL) {
        Some(label) => format!("{label}-{number}"),
        None => number.clone(),
    })
}

/// Makes the jobs of an array, each told as it is made. Where only so many may run at a time, each
/// waits for the end of the job that is so many places before it.
pub(super) async fn create(
    connection: Connection,
    output: Output,
    spec: &v1::JobSpec,
    array: &Array,
) -> Result<ExitCode, Failure> {
    let label = format!("{:08x}", RandomState::new().build_hasher().finish() as u32);
    let mut names: Vec<String> = Vec::new();
    for index in &array.indices {
        let before = array.at_once.and_then(|most| names.len().checked_sub(most)).and_then(|place| names.get(place));
        let spec = Some(one(spec, *index, &label, before));
        let request = v1::CreateJobRequest { spec, ..v1::CreateJobRequest::default() };
        match connection.jobs().create_job(request).await {
            Ok(job) => {
                let job = job.into_inner();
                output.print(&job, |job| format!("{}\n", job.name))?;
                names.push(job.name);
            }
            Err(status) if names.is_empty() => return Err(status.into()),
            Err(status) => {
                let (made, all) = (names.len(), array.indices.len());
                let rest =
                    format!("{made} of {all} jobs were made; `torchctl jobs --label {LABEL}={label}` lists them");
                return Err(Failure::Other(format!("job {index} was refused: {}; {rest}", status.message())));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The spec of one of them, which waits for the end of another one where that is named.
fn one(spec: &v1::JobSpec, index: u32, label: &str, before: Option<&String>) -> v1::JobSpec {
    let mut spec = spec.clone();
    if !spec.display_name.is_empty() {
        spec.display_name = format!("{}-{index}", spec.display_name);
    }
    spec.labels.insert(LABEL.into(), label.into());
    if let Some(program) = &mut spec.program {
        program.env.insert(VARIABLE.into(), index.to_string());
    }
    let condition = v1::DependencyCondition::Ended.into();
    spec.after.extend(before.map(|job| v1::Dependency { job: job.clone(), condition }));
    spec
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_slurm_reads_them() {
        let read = |text: &str| text.parse::<Array>().map(|array| (array.indices, array.at_once));
        assert_eq!(read("0-3"), Ok((vec![0, 1, 2, 3], None)));
        assert_eq!(read("7"), Ok((vec![7], None)));
        assert_eq!(read("1,4,7-8%2"), Ok((vec![1, 4, 7, 8], Some(2))));
        assert_eq!(read("0-999").map(|(indices, _)| indices.len()), Ok(1000));
        for (text, words) in [
            ("", "\"\" is no number"),
            ("a", "\"a\" is no number"),
            ("-1", "\"\" is no number"),
            ("1-", "\"\" is no number"),
            ("3-1", "ends before it begins"),
            ("0-3%0", "lets none run"),
            ("0-3%", "\"\" is no number"),
            ("1,1-2", "a number comes twice"),
            ("0-1000", "at most 1000 jobs"),
            ("0-4294967295", "at most 1000 jobs"),
            ("0-999,1000", "at most 1000 jobs"),
        ] {
            let told = read(text).unwrap_err();
            assert!(told.contains(words), "{text}: {told}");
        }
    }
}
