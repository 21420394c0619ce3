//! The real TensorBoard reads what we wrote, by both of its loaders.

use torchd::proto::v1::{self, training::Length};

use super::daemon::Daemon;
use super::{spec, tools};

async fn read_by(loader: &str) {
    let Some(mut python) = tools::python() else { return };
    let daemon = Daemon::start();
    let job = daemon.create(spec::mnist(Length::Epochs(2))).await;
    let job = daemon.watch_to_end(&job.name).await;
    assert_eq!(job.state(), v1::JobState::Succeeded);
    let output = python
        .arg("tests/python/tensorboard_reads.py")
        .args(["--load_fast", loader, "--logdir"])
        .arg(daemon.job_folder(&job.name).join("tensorboard"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let shown: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&output.stdout).unwrap();

    let mut client = daemon.jobs().await;
    let request = v1::ListScalarTagsRequest { name: job.name.clone(), ..Default::default() };
    let tags = client.list_scalar_tags(request).await.unwrap().into_inner().tags;
    let names: Vec<_> = tags.iter().map(|tag| tag.tag.as_str()).collect();
    let mut shown_names: Vec<_> = shown.keys().map(String::as_str).collect();
    shown_names.sort_unstable();
    assert_eq!(shown_names, names);
    for tag in names {
        let request = v1::ReadScalarsRequest { name: job.name.clone(), tag: tag.into(), ..Default::default() };
        let points = client.read_scalars(request).await.unwrap().into_inner().points;
        let told: Vec<_> = points.iter().map(|point| (point.step, point.value as f32)).collect();
        let shown: Vec<_> = shown[tag]
            .as_array()
            .unwrap()
            .iter()
            .map(|point| (point[1].as_u64().unwrap(), point[2].as_f64().unwrap() as f32))
            .collect();
        assert_eq!(shown, told, "{tag}");
    }
}

#[tokio::test]
async fn its_fast_loader_finds_every_tag_and_value() {
    read_by("true").await;
}

#[tokio::test]
async fn its_python_loader_finds_every_tag_and_value() {
    read_by("false").await;
}
