//! Looks a daemon's state over, and makes a lost database anew from the jobs' folders, which hold
//! all that is needed for it. It knows no settings, no processes and no terminal: `daemon` asks and
//! prints. Nothing is removed: what is replaced is set aside.

mod examine;
mod repair;

use std::path::PathBuf;

pub use examine::{Findings, Problem, examine};
pub use repair::{RepairError, Repaired, repair};

/// Where the state lies.
#[derive(Debug, Clone)]
pub struct Places {
    /// The database.
    pub database: PathBuf,
    /// Holds one folder a job.
    pub jobs: PathBuf,
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::dataset::DataRoots;
    use crate::dataset::{Files, idx};
    use crate::job::order::{Lease, Order, ProgramLimits};
    use crate::job::spec::{Data, ModelWork, example, example_work};
    use crate::job::{DataInputs, Job, JobId, Spec, State};
    use crate::journal::{JobFolder, JobLock};
    use crate::manager::{self, JobFile};
    use crate::proto::v1;
    use crate::store::{self, Asked, Contents};

    struct Folders {
        _guard: tempfile::TempDir,
        places: Places,
        roots: DataRoots,
    }

    impl Folders {
        fn new() -> Self {
            let guard = tempfile::tempdir().unwrap();
            let places = Places { database: guard.path().join("torchd.db"), jobs: guard.path().join("jobs") };
            fs::create_dir(&places.jobs).unwrap();
            for name in ["images", "labels"] {
                fs::write(guard.path().join(name), "").unwrap();
            }
            let roots = DataRoots::new([guard.path().to_owned()]).unwrap();
            Self { _guard: guard, places, roots }
        }

        fn folder(&self, id: &JobId) -> JobFolder {
            JobFolder::new(self.places.jobs.join(id.as_str()))
        }

        /// A job taken that many seconds after the first, with its folder.
        fn add(&self, seconds: u64) -> Job {
            let created = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_454_095 + seconds);
            let train = Files::Idx(idx::Files { images: "images".into(), labels: Some("labels".into()) });
            let data = Data { train, validation: None, ..example_work().data };
            let spec = Spec { work: ModelWork { data, ..example_work() }.into(), ..example() };
            let inputs = DataInputs { train: self.files(), validation: None, outline: None, memory_bytes: None }.into();
            let job = Job::queued(JobId::new(created, 7), "alice".into(), spec, inputs, created);
            self.folder(&job.id).create(&job.spec.to_proto()).unwrap();
            self.mirror(&job, None);
            job
        }

        fn files(&self) -> Files {
            let root = self.places.database.parent().unwrap().canonicalize().unwrap();
            Files::Idx(idx::Files { images: root.join("images").into(), labels: Some(root.join("labels").into()) })
        }

        fn mirror(&self, job: &Job, request: Option<&str>) {
            let request = request.map(|id| Asked { request_id: id.into(), spec: "{}".into() });
            JobFile { job: job.clone(), request }.write(&self.folder(&job.id)).unwrap();
        }

        fn order(&self, job: &Job, attempt: u32) {
            let lease = Lease::of_cpu(1);
            let order = Order {
                attempt,
                rank: None,
                meeting: None,
                lease,
                inputs: job.inputs.clone(),
                nvml_library: None,
                max_event_bytes: u64::MAX,
                resume_step: None,
                accepted_data_at: None,
                log_begins: 0,
                limits: ProgramLimits::default(),
                edits: None,
            };
            self.folder(&job.id).write_order(&order).unwrap();
        }

        fn examine(&self) -> Vec<String> {
            examine(&self.places).unwrap().problems.into_iter().map(|problem| problem.words).collect()
        }

        fn repair(&self) -> Repaired {
            repair(&self.places, &self.roots, SystemTime::now()).unwrap()
        }

        fn rows(&self) -> Vec<(Job, Option<Asked>)> {
            match store::look(&self.places.database).unwrap() {
                Contents::Whole { jobs, .. } => jobs,
                other => panic!("{other:?}"),
            }
        }
    }

    fn set_aside(folder: &Path, name: &str) -> usize {
        let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|found| found.starts_with(&format!("{name}.corrupt-"))).count()
    }

    #[test]
    fn jobs_come_back_in_the_order_of_their_creation_with_their_requests() {
        let state = Folders::new();
        let (second, first) = (state.add(20), state.add(10));
        state.mirror(&second, Some("r"));
        assert!(state.examine()[0].contains("missing, although there are job folders"));
        let repaired = state.repair();
        assert_eq!((repaired.rebuilt, repaired.left.len()), (2, 0));
        assert!(matches!(&repaired.notes[..], [note] if note.starts_with("tokens: ")), "{:?}", repaired.notes);
        assert_eq!(repaired.aside, None);
        let request = Asked { request_id: "r".into(), spec: "{}".into() };
        assert_eq!(state.rows(), [(first, None), (second, Some(request))]);
        assert_eq!(state.examine(), Vec::<String>::new());
    }

    #[test]
    fn a_copied_folder_takes_neither_the_name_nor_the_request_of_a_job() {
        let state = Folders::new();
        let (first, second) = (state.add(1), state.add(2));
        state.mirror(&first, Some("r"));
        state.mirror(&second, Some("r"));
        let third = state.add(3);
        fs::copy(state.folder(&first.id).job(), state.folder(&third.id).job()).unwrap();
        let repaired = state.repair();
        assert_eq!(repaired.rebuilt, 2);
        assert!(repaired.left[0].contains("is that of jobs/"), "{:?}", repaired.left);
        assert!(repaired.notes[1].contains("keeps it"), "{:?}", repaired.notes);
        let rows = state.rows();
        assert!(rows[0].1.is_some() && rows[1].1.is_none());
    }

    #[test]
    fn a_job_that_runs_stays_one_and_one_that_was_started_unknown_to_its_job_json_does_too() {
        let state = Folders::new();
        let (running, behind) = (state.add(1), state.add(2));
        state.order(&running, 3);
        fs::remove_file(state.folder(&running.id).job()).unwrap();
        let lock = JobLock::take(&state.folder(&running.id)).unwrap().unwrap();
        state.order(&behind, 1);
        assert_eq!(state.repair().rebuilt, 2);
        drop(lock);
        let told: Vec<_> = state.rows().into_iter().map(|(job, _)| (job.state, job.attempt)).collect();
        assert_eq!(told, [(State::Starting, 3), (State::Starting, 1)]);
        assert_eq!(set_aside(state.folder(&behind.id).path(), "job.json"), 1);
        assert_eq!(state.examine(), Vec::<String>::new());
    }

    #[test]
    fn a_job_whose_end_nobody_noted_waits_for_the_word_of_its_user() {
        let state = Folders::new();
        let job = state.add(1);
        state.order(&job, 1);
        fs::write(state.folder(&job.id).job(), "").unwrap();
        assert_eq!(state.repair().rebuilt, 1);
        let told = state.rows().remove(0).0;
        assert_eq!((told.state, told.end), (State::Paused, None));
        assert_eq!(told.course.last_end.unwrap().reason(), v1::JobEndReason::Interrupted);
    }

    #[test]
    fn a_job_that_waited_needs_its_data_and_is_left_alone_without() {
        let state = Folders::new();
        let job = state.add(1);
        fs::remove_file(state.folder(&job.id).job()).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let roots = DataRoots::new([elsewhere.path().to_owned()]).unwrap();
        let repaired = repair(&state.places, &roots, SystemTime::now()).unwrap();
        assert!(repaired.rebuilt == 0 && repaired.left[0].contains("its data is not found"), "{:?}", repaired.left);
        assert!(state.folder(&job.id).spec().exists());
        fs::remove_file(&state.places.database).unwrap();
        assert_eq!(state.repair().rebuilt, 1);
        // Nothing but job.json tells the owner.
        assert_eq!(state.rows().remove(0).0, Job { owner: "".into(), ..job });
    }

    #[test]
    fn what_a_later_version_wrote_is_not_guessed_at() {
        let state = Folders::new();
        let job = state.add(1);
        let text = fs::read_to_string(state.folder(&job.id).job()).unwrap();
        fs::write(state.folder(&job.id).job(), text.replace("\"inputs\"", "\"outputs\"")).unwrap();
        let repaired = state.repair();
        assert!(repaired.rebuilt == 0 && repaired.left[0].contains("outputs"), "{:?}", repaired.left);

        let database = rusqlite::Connection::open(&state.places.database).unwrap();
        database.pragma_update(None, "user_version", 4711).unwrap();
        let problems = examine(&state.places).unwrap().problems;
        assert!(problems[0].words.contains("form 4711") && problems[1].words.contains("outputs"), "{problems:?}");
        assert!(problems.iter().all(|problem| !problem.can_repair), "{problems:?}");
        let refused = repair(&state.places, &state.roots, SystemTime::now());
        assert!(matches!(refused, Err(RepairError::TooNew(_))));
    }

    #[test]
    fn folder_and_row_that_differ_are_told_and_the_later_one_is_kept() {
        let state = Folders::new();
        let (one, other) = (state.add(1), state.add(2));
        state.repair();
        let later = Job { state: State::Cancelled, generation: 2, ..one.clone() };
        state.mirror(&later, None);
        fs::remove_dir_all(state.folder(&other.id).path()).unwrap();
        let problems = state.examine();
        let differ =
            "job.json says cancelled, generation 2, attempt 0, and the database queued, generation 1, attempt 0";
        assert!(problems[0].ends_with(differ) && problems[1].contains("its folder is gone"), "{problems:?}");
        let repaired = state.repair();
        assert!(repaired.left[0].contains("only the old database has it"), "{:?}", repaired.left);
        assert_eq!(state.rows(), [(later, None)]);
        assert_eq!(set_aside(state.places.database.parent().unwrap(), "torchd.db"), 1);

        state.mirror(&one, None);
        assert!(state.repair().notes[0].contains("job.json is behind it"));
        assert_eq!(state.rows()[0].0.generation, 2);
    }

    #[test]
    fn a_folder_without_job_and_row_is_left_over_only_if_the_database_is_older() {
        let born = SystemTime::UNIX_EPOCH + Duration::from_secs(1_795_454_095);
        let state = Folders::new();
        let (before, after) = (state.add(0).id, state.add(1).id);
        for id in [&before, &after] {
            fs::remove_file(state.folder(id).job()).unwrap();
        }
        assert!(state.folder(&after).is_unanswered(&after, Some(born)).unwrap());
        assert!(!state.folder(&before).is_unanswered(&before, Some(born)).unwrap());
        assert!(!state.folder(&after).is_unanswered(&after, None).unwrap());
        let old = manager::Old { row: None, born: Some(born) };
        let rebuilt = manager::rebuild(&after, &state.folder(&after), Some(old), &state.roots);
        assert!(rebuilt.unwrap().is_none());
    }
}
