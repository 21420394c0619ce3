//! Programs on a machine whose runner of models does not work, as without libtorch.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use tonic::Code;
use torchd::proto::v1::{self, JobState};

use super::daemon::wait_for;
use super::nvml::{FakeGpus, gpus, uuid};
use super::spec;
use super::torchctl::told;

#[tokio::test(flavor = "multi_thread")]
async fn programs_need_no_libtorch_and_lease_the_gpus_that_the_driver_tells_of() {
    let fake = FakeGpus::new(&gpus(2));
    let runner = fake.path("broken-runner");
    fs::write(&runner, "#!/bin/sh\nexit 1\n").unwrap();
    fs::set_permissions(&runner, fs::Permissions::from_mode(0o755)).unwrap();
    let setup = fake.setup().set("runner.path", runner.to_str().unwrap());
    let daemon = setup.set("programs.enabled", "true").set("programs.allowed", "/usr/bin:/bin").start();
    let program = |script: &str| {
        let command = ["sh", "-c", script].map(str::to_owned).to_vec();
        v1::JobSpec { program: Some(v1::Program { command, ..Default::default() }), ..Default::default() }
    };
    // It asks for nothing, and gets a GPU, as there are some. The other one goes to the next.
    let first = daemon.create(program("echo \"[$CUDA_VISIBLE_DEVICES]\"; while :; do sleep 0.1; done")).await;
    let first = daemon.watch_until(&first.name, |job| job.state() == JobState::Running).await;
    let second = daemon.create(program("echo \"[$CUDA_VISIBLE_DEVICES]\"")).await;
    let second = daemon.watch_to_end(&second.name).await;
    assert_eq!(second.state(), JobState::Succeeded, "{:?}", second.end);
    daemon.jobs().await.cancel_job(v1::CancelJobRequest { name: first.name.clone(), now: true }).await.unwrap();
    daemon.watch_to_end(&first.name).await;
    let seen = |job: &v1::Job| fs::read_to_string(daemon.job_folder(&job.name).join("runner.log")).unwrap();
    for (job, gpu) in [(&first, 0), (&second, 1)] {
        assert!(seen(job).contains(&format!("[{}]", uuid(gpu))), "{} {}", uuid(gpu), seen(job));
    }
    // It is ready for them, and says so; everybody tells the same of models.
    let ready = || Some(daemon.page("/readyz")).filter(|(code, _)| *code == 200);
    let (_, words) = tokio::task::block_in_place(|| wait_for("ready", ready));
    assert!(words.contains("ready for programs; no model can run here: the runner does not work"), "{words}");
    for command in ["cluster", "doctor"] {
        let (_, out, err) = told(&daemon.ctl(&[command]));
        let here = |name: &str| {
            let line = out.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{out} {err}"));
            line.split_whitespace().nth(1).map(str::to_owned)
        };
        let told = ["cpu_training", "cuda_training", "programs"].map(here);
        assert_eq!(told.map(Option::unwrap), ["no", "no", "yes"], "{command}: {out}");
    }
    // Models do need it.
    let request = v1::CreateJobRequest { spec: Some(spec::short()), ..Default::default() };
    let refused = daemon.jobs().await.create_job(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    assert!(refused.message().contains("the runner does not work"), "{refused:?}");
}
