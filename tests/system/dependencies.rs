//! Jobs that wait for others to end.

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;
use tonic::Code;
use tonic_types::StatusExt;
use torchd::proto::v1::{self, DependencyCondition as Condition, JobEndReason, JobState};

use super::daemon::{Daemon, Setup};
use super::spec;
use super::torchctl::told;

/// A folder that programs look into.
pub(crate) struct Gates(TempDir);

impl Gates {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// A daemon that runs programs, with so many slots.
    pub(crate) fn setup(&self, setup: Setup, slots: &str) -> Setup {
        let setup = setup.data_root(self.0.path()).set("programs.enabled", "true").set("jobs.cpu_slots", slots);
        setup.set("programs.allowed", "/usr/bin:/bin").set("shutdown.runners", "leave")
    }

    pub(crate) fn start(&self, slots: &str) -> Daemon {
        self.setup(Setup::new(), slots).start()
    }

    pub(super) fn path(&self, gate: &str) -> PathBuf {
        self.0.path().canonicalize().unwrap().join(gate)
    }

    /// A program that ends with that code once its gate is open.
    pub(crate) fn program(&self, gate: &str, code: i32) -> v1::JobSpec {
        let gate = self.path(gate).display().to_string();
        program(&format!("while [ ! -e {gate} ]; do sleep 0.02; done; exit {code}"))
    }

    pub(crate) fn open(&self, gate: &str) {
        fs::write(self.path(gate), "").unwrap();
    }
}

/// A program of one thread.
pub(crate) fn program(script: &str) -> v1::JobSpec {
    let program = v1::Program { command: ["sh", "-c", script].map(str::to_owned).to_vec(), ..v1::Program::default() };
    let resources = v1::Resources { device: v1::Device::Cpu.into(), ..spec::threads(1) };
    v1::JobSpec { program: Some(program), resources: Some(resources), ..v1::JobSpec::default() }
}

pub(super) fn after(spec: v1::JobSpec, others: &[(&v1::Job, Condition)]) -> v1::JobSpec {
    let one = |(job, condition): &(&v1::Job, Condition)| v1::Dependency {
        job: job.name.clone(),
        condition: (*condition).into(),
    };
    v1::JobSpec { after: others.iter().map(one).collect(), ..spec }
}

/// A program that does nothing, after others.
pub(super) fn then(others: &[(&v1::Job, Condition)]) -> v1::JobSpec {
    after(program("true"), others)
}

pub(super) async fn pause(daemon: &Daemon, job: &v1::Job) {
    daemon.jobs().await.pause_job(v1::PauseJobRequest { name: job.name.clone() }).await.unwrap();
    daemon.watch_until(&job.name, |job| job.state() == JobState::Paused).await;
}

pub(super) async fn resume(daemon: &Daemon, job: &v1::Job, edits: Option<v1::JobEdits>) {
    let request = v1::ResumeJobRequest { name: job.name.clone(), edits, ..Default::default() };
    daemon.jobs().await.resume_job(request).await.unwrap();
}

async fn cancel(daemon: &Daemon, job: &v1::Job) {
    let request = v1::CancelJobRequest { name: job.name.clone(), now: true };
    daemon.jobs().await.cancel_job(request).await.unwrap();
}

pub(super) async fn delete(daemon: &Daemon, job: &v1::Job) {
    daemon.jobs().await.delete_job(v1::DeleteJobRequest { name: job.name.clone() }).await.unwrap();
}

pub(super) async fn running(daemon: &Daemon, job: &v1::Job) {
    daemon.watch_until(&job.name, |job| job.state() == JobState::Running).await;
}

/// Expects that a job has ended because of another one; its message.
pub(super) async fn failed_by(daemon: &Daemon, job: &v1::Job, other: &v1::Job) -> String {
    let job = daemon.watch_to_end(&job.name).await;
    let end = job.end.clone().unwrap();
    assert_eq!((job.state(), end.reason()), (JobState::Failed, JobEndReason::DependencyFailed), "{end:?}");
    assert_eq!((job.attempt, end.exit_code, end.signal, job.open_dependencies.len()), (0, None, None, 0));
    assert!(end.message.contains(&other.name), "{}", end.message);
    end.message
}

pub(super) async fn succeeds(daemon: &Daemon, job: &v1::Job) {
    let job = daemon.watch_to_end(&job.name).await;
    assert_eq!((job.state(), job.attempt), (JobState::Succeeded, 1), "{:?}", job.end);
}

#[tokio::test]
async fn a_job_waits_until_others_have_ended_as_it_wishes_and_holds_back_nobody() {
    let gates = Gates::new();
    let daemon = gates.start("2");
    let first = daemon.create(gates.program("first", 0)).await;
    let any = daemon.create(then(&[(&first, Condition::Unspecified)])).await;
    let good = daemon.create(then(&[(&first, Condition::Succeeded), (&any, Condition::Ended)])).await;
    let bad = daemon.create(then(&[(&any, Condition::Ended), (&first, Condition::Failed)])).await;
    let told = any.spec.as_ref().unwrap().after[0].clone();
    assert_eq!((told.job.as_str(), told.condition()), (first.name.as_str(), Condition::Ended), "the default is told");
    // It needs the slot that those which wait do not take.
    succeeds(&daemon, &daemon.create(program("true")).await).await;
    running(&daemon, &first).await;
    let waits = format!("waits for {} to succeed (it is running), for {} to end (it is queued)", first.name, any.name);
    daemon.watch_until(&good.name, |job| job.waiting_reason == waits).await;
    let job = daemon.get(&good.name).await;
    assert_eq!((job.state(), job.open_dependencies), (JobState::Queued, good.spec.clone().unwrap().after));
    gates.open("first");
    for job in [&first, &any, &good] {
        succeeds(&daemon, job).await;
    }
    let message = failed_by(&daemon, &bad, &first).await;
    assert_eq!(
        message,
        format!("it waited for {} to fail, which has succeeded (finished: {})", first.name, {
            daemon.get(&first.name).await.end.unwrap().message
        })
    );
    let job = daemon.get(&good.name).await;
    assert_eq!(job.open_dependencies, Vec::new());
    assert_eq!(job.spec.unwrap().after.len(), 2, "they stay in its spec");
    let (_, page) = daemon.page("/metrics");
    assert!(page.contains("torchd_jobs_finished_total{reason=\"dependency_failed\"} 1"), "{page}");
}

#[tokio::test]
async fn a_failure_goes_down_a_chain_to_those_that_wait_for_it() {
    let gates = Gates::new();
    let daemon = gates.start("2");
    let first = daemon.create(gates.program("first", 3)).await;
    let second = daemon.create(then(&[(&first, Condition::Succeeded)])).await;
    // More than are seen to in one go.
    let mut chain = vec![second.clone()];
    for _ in 0..25 {
        let last = chain.last().unwrap();
        chain.push(daemon.create(then(&[(last, Condition::Succeeded)])).await);
    }
    let tidies = daemon.create(then(&[(&second, Condition::Failed)])).await;
    let anyway = daemon.create(then(&[(chain.last().unwrap(), Condition::Ended)])).await;
    gates.open("first");
    let message = failed_by(&daemon, &second, &first).await;
    assert!(message.ends_with("which has failed (program_failed: the program ended with exit code 3)"), "{message}");
    for pair in chain.windows(2) {
        let message = failed_by(&daemon, &pair[1], &pair[0]).await;
        assert!(message.ends_with("which has failed (dependency_failed)"), "{message}");
    }
    succeeds(&daemon, &tidies).await;
    succeeds(&daemon, &anyway).await;
}

#[tokio::test]
async fn a_pause_is_no_end_and_a_cancel_counts_as_a_failure() {
    let gates = Gates::new();
    let daemon = gates.start("2");
    let first = daemon.create(gates.program("first", 0)).await;
    running(&daemon, &first).await;
    let good = daemon.create(then(&[(&first, Condition::Succeeded)])).await;
    let bad = daemon.create(then(&[(&first, Condition::Failed)])).await;
    let paused = [Condition::Succeeded, Condition::Failed].map(|condition| then(&[(&first, condition)]));
    let [paused_good, paused_bad] = paused;
    let (paused_good, paused_bad) = (daemon.create(paused_good).await, daemon.create(paused_bad).await);
    pause(&daemon, &paused_good).await;
    pause(&daemon, &paused_bad).await;
    pause(&daemon, &first).await;
    daemon.watch_until(&good.name, |job| job.waiting_reason.ends_with("to succeed (it is paused)")).await;
    cancel(&daemon, &first).await;
    let message = failed_by(&daemon, &good, &first).await;
    assert!(message.contains("to succeed, which was cancelled (cancelled: "), "{message}");
    succeeds(&daemon, &bad).await;
    // One that is paused has nothing to be resumed for.
    failed_by(&daemon, &paused_good, &first).await;
    let job = daemon.get(&paused_bad.name).await;
    assert_eq!((job.state(), job.open_dependencies.len()), (JobState::Paused, 0));
    delete(&daemon, &first).await;
    resume(&daemon, &paused_bad, None).await;
    succeeds(&daemon, &paused_bad).await;
    // A job that waits can be cancelled itself.
    let endless = daemon.create(gates.program("never", 0)).await;
    let waits = daemon.create(then(&[(&endless, Condition::Ended)])).await;
    cancel(&daemon, &waits).await;
    let job = daemon.get(&waits.name).await;
    assert_eq!((job.state(), job.open_dependencies.len()), (JobState::Cancelled, 0));
    cancel(&daemon, &endless).await;
}

#[tokio::test]
async fn a_dependency_that_cannot_be_met_is_refused_with_its_place() {
    let gates = Gates::new();
    let daemon = gates.start("2");
    let (good, bad) = (daemon.create(program("true")).await, daemon.create(program("false")).await);
    let (cancelled, deleted) = (daemon.create(gates.program("a", 0)).await, daemon.create(program("true")).await);
    let endless = daemon.create(gates.program("b", 0)).await;
    cancel(&daemon, &cancelled).await;
    for job in [&good, &bad, &cancelled, &deleted] {
        daemon.watch_to_end(&job.name).await;
    }
    delete(&daemon, &deleted).await;
    // Those that have ended as is wished are no mistake, and nothing to wait for.
    let met = [(&good, Condition::Succeeded), (&bad, Condition::Failed), (&cancelled, Condition::Failed)];
    let job = daemon.create(then(&met)).await;
    assert_eq!((job.open_dependencies.len(), job.spec.clone().unwrap().after.len()), (0, 3));
    succeeds(&daemon, &job).await;

    let one = |job: &str, condition: i32| v1::Dependency { job: job.into(), condition };
    let (succeeded, failed) = (Condition::Succeeded as i32, Condition::Failed as i32);
    let bare = good.name.trim_start_matches("jobs/");
    let cases = [
        (one("", 0), "job", "is missing; jobs/{id} is needed"),
        (one("jobs/first", 0), "job", "\"jobs/first\" is no job name; a job is named like jobs/"),
        (one("jobs/../x", 0), "job", "is no job name"),
        (one(bare, 0), "job", &format!("is {bare:?}; {} is right", good.name)),
        (one(&endless.name, 99), "condition", "is 99; ended, succeeded or failed is right"),
        (one(&endless.name, 0), "job", "a second time; name it once"),
        (one("jobs/20200101-000000-0000", 0), "job", "there is no such job"),
        (one(&deleted.name, 0), "job", "there is no such job; name one that has not been deleted"),
        (
            one(&good.name, failed),
            "job",
            "which has succeeded already; condition = \"succeeded\" or \"ended\" is right",
        ),
        (one(&bad.name, succeeded), "job", "which has failed already; condition = \"failed\" or \"ended\" is right"),
        (one(&cancelled.name, succeeded), "job", "which was cancelled already"),
    ];
    let after = cases.iter().map(|(dependency, _, _)| dependency.clone()).collect();
    let spec = Some(v1::JobSpec { after, priority: 5000, ..program("true") });
    let validate = v1::ValidateJobRequest { spec: spec.clone(), dry_run: false };
    let create = v1::CreateJobRequest { spec, ..Default::default() };
    let mut jobs = daemon.jobs().await;
    let refused = [
        jobs.validate_job(validate).await.map(drop).unwrap_err(),
        jobs.create_job(create).await.map(drop).unwrap_err(),
    ];
    for status in refused {
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        let mistakes = status.get_details_bad_request().unwrap().field_violations;
        assert!(mistakes.iter().any(|mistake| mistake.field == "spec.priority"), "all at once: {mistakes:?}");
        for (place, (_, field, words)) in cases.iter().enumerate() {
            let field = format!("spec.after[{place}].{field}");
            let told = mistakes.iter().find(|mistake| mistake.field == field);
            assert!(told.is_some_and(|told| told.description.contains(words)), "{field} {words}: {mistakes:?}");
        }
        assert_eq!(mistakes.len(), cases.len() + 1, "{mistakes:?}");
    }
    let many = v1::JobSpec { after: vec![one(&endless.name, 0); 65], ..program("true") };
    let status = jobs.create_job(v1::CreateJobRequest { spec: Some(many), ..Default::default() }).await.unwrap_err();
    assert!(status.message().contains("spec.after") && status.message().contains("64"), "{status}");

    // No request can name the job that it makes: an id that is asked for again means the same one.
    let ask = async |after: Vec<v1::Dependency>| {
        let spec = Some(v1::JobSpec { after, ..gates.program("c", 0) });
        let request = v1::CreateJobRequest { spec, request_id: "again".into() };
        daemon.jobs().await.create_job(request).await.map(tonic::Response::into_inner)
    };
    let after = vec![one(&endless.name, succeeded)];
    let made = ask(after.clone()).await.unwrap();
    assert_eq!(ask(vec![one(&made.name, 0)]).await.unwrap_err().code(), Code::AlreadyExists);
    cancel(&daemon, &endless).await;
    failed_by(&daemon, &made, &endless).await;
    delete(&daemon, &endless).await;
    assert_eq!(ask(after).await.unwrap().name, made.name, "whatever has become of the other job");
}

#[tokio::test]
async fn a_model_waits_as_a_program_does_and_its_edits_need_no_job_that_is_gone() {
    let gates = Gates::new();
    let daemon = gates.start("1");
    let first = daemon.create(gates.program("first", 0)).await;
    let model = daemon.create(after(spec::endless(), &[(&first, Condition::Ended)])).await;
    let last = daemon.create(then(&[(&model, Condition::Failed)])).await;
    gates.open("first");
    daemon.watch_until(&model.name, |job| job.progress.as_ref().is_some_and(|progress| progress.step > 5)).await;
    pause(&daemon, &model).await;
    delete(&daemon, &first).await;
    let edits = v1::JobEdits { length: Some(v1::job_edits::Length::MaxSteps(20_000_000)), ..Default::default() };
    resume(&daemon, &model, Some(edits)).await;
    let job = daemon.watch_until(&model.name, |job| job.state() == JobState::Running).await;
    assert_eq!(job.attempt, 2);
    let edits =
        v1::JobEdits { set: vec![v1::FieldEdit { path: "after".into(), value: "[]".into() }], ..Default::default() };
    pause(&daemon, &model).await;
    let request = v1::ResumeJobRequest { name: model.name.clone(), edits: Some(edits), ..Default::default() };
    let status = daemon.jobs().await.resume_job(request).await.unwrap_err();
    assert!(status.message().contains("after may not change: the job has waited"), "{status}");
    cancel(&daemon, &model).await;
    succeeds(&daemon, &last).await;
}

#[tokio::test]
async fn an_array_is_a_job_of_each_number_of_which_only_so_many_run_at_a_time() {
    let gates = Gates::new();
    let daemon = gates.setup(Setup::new(), "4").set("jobs.max_queued", "3").start();
    let root = gates.path("").display().to_string();
    let script = "while [ ! -e gate-$TORCHD_ARRAY_INDEX ]; do sleep 0.02; done; exit $TORCHD_ARRAY_INDEX";
    let array = |numbers: &str| {
        let flags = ["run", "--cpus", "1", "--cwd", &root, "--name", "sweep", "--array", numbers];
        told(&daemon.ctl(&[&flags[..], &["--", "sh", "-c", script]].concat()))
    };
    let (code, out, err) = array("0,3-5%2");
    assert_eq!(code, 0, "{err}");
    let mut jobs = Vec::new();
    for name in out.lines() {
        jobs.push(daemon.get(name).await);
    }
    let [first, second, third, fourth] = &jobs[..] else { panic!("{out}") };
    let label = &first.spec.as_ref().unwrap().labels["array"];
    for (job, index) in jobs.iter().zip([0, 3, 4, 5]) {
        let spec = job.spec.as_ref().unwrap();
        assert_eq!((&spec.labels["array"], &spec.display_name), (label, &format!("sweep-{index}")));
    }
    running(&daemon, first).await;
    running(&daemon, second).await;
    for (job, before) in [(third, first), (fourth, second)] {
        assert_eq!(job.open_dependencies.iter().map(|open| &open.job).collect::<Vec<_>>(), [&before.name]);
    }
    gates.open("gate-3");
    let ended = daemon.watch_to_end(&second.name).await;
    assert_eq!(ended.end.unwrap().exit_code, Some(3));
    running(&daemon, fourth).await;
    assert_eq!(daemon.get(&third.name).await.state(), JobState::Queued);
    for number in [0, 4, 5] {
        gates.open(&format!("gate-{number}"));
        daemon.watch_to_end(&jobs[if number == 0 { 0 } else { number - 2 }].name).await;
    }
    // What was made before a refusal is told.
    let (code, out, err) = array("10-20%1");
    assert_eq!((code, out.lines().count()), (1, 4), "{err}");
    assert!(err.contains("job 14 was refused: the queue is full") && err.contains("4 of 11 jobs were made"), "{err}");
    let (code, _, err) = array("5-2");
    assert!(code == 64 && err.contains("ends before it begins"), "{err}");
}

#[tokio::test]
async fn torchctl_names_the_jobs_to_wait_for_and_makes_a_job_once_more() {
    let gates = Gates::new();
    let daemon = gates.start("2");
    let first = daemon.create(gates.program("first", 0)).await;
    running(&daemon, &first).await;
    let bare = first.name.trim_start_matches("jobs/");
    let root = gates.path("").display().to_string();
    let ctl = |arguments: &[&str]| {
        let (code, out, err) = told(&daemon.ctl(arguments));
        assert_eq!(code, 0, "{arguments:?}: {err}");
        (out, err)
    };
    let run = |flags: &[&str], command: &[&str]| {
        let all = [&["run", "--detach", "--cpus", "1", "--cwd", &root], flags, &["--"], command].concat();
        ctl(&all).0.trim().to_owned()
    };
    let good = run(&["--after-success", bare, "--label", "kind=good"], &["true"]);
    let bad = run(&["--after-failure", &first.name], &["true"]);
    let any = run(&["--after", bare, "--after", &good], &["true"]);
    let shown = ctl(&["show", &any]).0;
    assert!(
        shown.contains(&format!("{} to end\n", first.name)) && shown.contains(&format!("{good} to end")),
        "{shown}"
    );
    assert!(shown.contains(&format!("waits for {} to end (it is running)", first.name)), "{shown}");
    let file = gates.path("spec.toml");
    let program = "[program]\ncommand = [\"true\"]\n[resources]\ndevice = \"cpu\"\ncpu_threads = 1\n";
    let toml = format!("{program}[[after]]\njob = \"{}\"\ncondition = \"succeeded\"\n", first.name);
    fs::write(&file, toml).unwrap();
    let file = file.display().to_string();
    ctl(&["validate", &file]);
    let out = ctl(&["submit", &file, "--after-failure", &bad]).0;
    assert!(out.contains(" is queued: waits for "), "{out}");
    let submitted = out.split(' ').next().unwrap().to_owned();
    gates.open("first");
    for name in [&good, &any, &submitted] {
        assert_eq!(daemon.watch_to_end(name).await.state(), JobState::Succeeded, "{name}");
    }
    // As the old one, but for the jobs that it waited for.
    let (out, err) = ctl(&["redo", &good, "--watch", "--priority", "-3"]);
    assert!(err.contains("was to run after other jobs; the new one is not"), "{err}");
    let again = daemon.get(out.split(' ').next().unwrap()).await;
    let spec = again.spec.clone().unwrap();
    assert!(again.name != good && again.state() == JobState::Succeeded, "{out}");
    assert_eq!((spec.priority, spec.labels["kind"].as_str(), spec.after.len()), (-3, "good", 0));
    let (out, _) = ctl(&["redo", &bad, "--after", &bad, "--after-success", &again.name]);
    let again = out.split(' ').next().unwrap();
    assert_eq!(daemon.watch_to_end(again).await.state(), JobState::Succeeded, "a failure of then is none of now");
    let (code, _, err) = told(&daemon.ctl(&["redo", "20200101-000000-0000"]));
    assert!(code == 1 && err.contains("there is no job"), "{err}");
    let (code, _, err) = told(&daemon.ctl(&["run", "--after", "yesterday", "--", "true"]));
    assert!(code == 64 && err.contains("after[0].job") && err.contains("is no job name"), "{code} {err}");
}
