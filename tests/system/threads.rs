//! The threads of computation: how they wait for each other changes no number.

use std::fs;

use torchd::proto::v1::training::Length;
use torchd::proto::v1::{self, ThreadWait};

use crate::daemon::{Daemon, Setup};
use crate::spec;

/// The example job, with so many threads that wait like this.
fn waiting(wait: ThreadWait, cpu_threads: u32) -> v1::JobSpec {
    let resources = v1::Resources { thread_wait: wait.into(), ..spec::threads(cpu_threads) };
    v1::JobSpec { resources: Some(resources), ..spec::mnist(Length::MaxSteps(70)) }
}

/// How the threads of a job waited, and its result.
async fn trained(daemon: &Daemon, spec: v1::JobSpec) -> (ThreadWait, Vec<u8>) {
    let job = daemon.create(spec).await;
    assert_eq!(daemon.watch_to_end(&job.name).await.state(), v1::JobState::Succeeded);
    let result = fs::read(daemon.job_folder(&job.name).join("artifacts/model.safetensors")).unwrap();
    (daemon.started(&job.name).await.thread_wait(), result)
}

#[tokio::test]
async fn whoever_runs_the_threads_the_numbers_are_the_same() {
    let daemon = Setup::new().set("jobs.cpu_slots", "3").start();
    // More threads than the machines of most tests have cores.
    let (of_libtorch, expected) = trained(&daemon, waiting(ThreadWait::Openmp, 3)).await;
    assert_eq!(of_libtorch, ThreadWait::Openmp);
    for wait in [ThreadWait::Adaptive, ThreadWait::Passive, ThreadWait::Active] {
        let (found, result) = trained(&daemon, waiting(wait, 3)).await;
        assert_eq!(found, wait);
        assert!(result == expected, "{wait:?}");
    }
    // The number of threads is another matter.
    let (_, of_one) = trained(&daemon, waiting(ThreadWait::Adaptive, 1)).await;
    assert!(of_one != expected);
}

#[tokio::test]
async fn the_spec_says_how_threads_wait_and_else_the_setting() {
    let daemon = Setup::new().set("jobs.thread_wait", "passive").start();
    let kept = daemon.create(waiting(ThreadWait::Unspecified, 1)).await;
    assert_eq!(kept.spec.unwrap().resources.unwrap().thread_wait(), ThreadWait::Passive);
    let kept = daemon.create(waiting(ThreadWait::Active, 1)).await;
    assert_eq!(kept.spec.unwrap().resources.unwrap().thread_wait(), ThreadWait::Active);
}
