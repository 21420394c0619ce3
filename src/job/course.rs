//! How a job got where it is: its attempts so far, and what is to be remembered for the next one.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::Dependency;
use super::end::StopCause;
use crate::proto::{json, v1};

/// State that one attempt of a job hands to the next.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Course {
    /// Restarts after failures, of those that the spec allows.
    pub restarts: u32,
    /// Interruptions in a row that came before anything new was saved.
    pub fruitless: u32,
    /// How long the attempts that are over ran, together.
    pub ran: Duration,
    /// The jobs of `Spec::after` whose end has not been recorded. None once an attempt has begun.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<Dependency>,
    /// The next attempt does not begin before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<SystemTime>,
    /// A user wants the next attempt to begin anew: the checkpoints go before it begins.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub begins_anew: bool,
    /// A user has accepted other data than those that the checkpoints up to this step were made
    /// with. Later ones are made with the new data, so that it needs not be taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_data_at: Option<u64>,
    /// Why a user wants its runner to end; None while nobody does. Other causes do not outlive the
    /// daemon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stop: Option<StopCause>,
    /// The last failure came of memory that ran out. Interruptions and pauses in between do not
    /// count.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub was_out_of_memory: bool,
    /// How the attempt before ended.
    #[serde(with = "json::optional", skip_serializing_if = "Option::is_none")]
    pub last_end: Option<v1::JobEnd>,
    /// The changes of the spec by all resumes.
    #[serde(with = "json::optional", skip_serializing_if = "Option::is_none")]
    pub edits: Option<v1::JobEdits>,
    /// Where the newest attempt began, or the next one will.
    #[serde(with = "json::optional", skip_serializing_if = "Option::is_none")]
    pub resume_from: Option<v1::ResumePoint>,
}
