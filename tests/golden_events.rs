//! Event files against those of PyTorch's own SummaryWriter: what it wrote we read, and for the
//! same scalars we write the same bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::time::{Duration, SystemTime};

use prost::Message;
use torchd::record::{Next, RecordReader};
use torchd::tensorboard::{EventReader, event::What, scalar, summary::value::Value};

const GOLDEN: &str = "tests/data/golden/events/events.out.tfevents.1700000000.golden.1.0";

#[test]
fn our_reader_returns_what_pytorch_wrote() {
    let events = EventReader::new(File::open(GOLDEN).unwrap()).read_all().unwrap();
    assert!(matches!(&events[0].what, Some(What::FileVersion(version)) if version == "brain.Event:2"));

    let mut scalars = Vec::new();
    let (mut texts, mut images, mut histograms, mut curves) = (0, 0, 0, 0);
    for event in &events {
        let Some(What::Summary(summary)) = &event.what else { continue };
        for value in &summary.value {
            let plugin = value.metadata.as_ref().and_then(|metadata| metadata.plugin_data.as_ref());
            match value.value.as_ref().unwrap() {
                Value::SimpleValue(number) => scalars.push((value.tag.clone(), event.step, event.wall_time, *number)),
                Value::Image(image) => {
                    assert_eq!((image.height, image.width, image.colorspace), (8, 8, 3));
                    assert!(image.encoded_image_string.starts_with(b"\x89PNG"));
                    images += 1;
                }
                Value::Histo(histogram) => {
                    assert_eq!((histogram.min, histogram.max, histogram.num), (-1.0, 1.0, 1000.0));
                    assert_eq!(histogram.bucket.iter().sum::<f64>(), 1000.0);
                    assert_eq!(histogram.bucket.len(), histogram.bucket_limit.len());
                    histograms += 1;
                }
                Value::Tensor(tensor) => match plugin.unwrap().plugin_name.as_str() {
                    "text" => {
                        assert_eq!(tensor.string_val.len(), 1);
                        texts += 1;
                    }
                    "pr_curves" => {
                        let sizes: Vec<_> =
                            tensor.tensor_shape.iter().flat_map(|shape| &shape.dim).map(|dim| dim.size).collect();
                        assert_eq!(sizes, [6, 11]);
                        curves += 1;
                    }
                    other => panic!("an unexpected plugin: {other}"),
                },
            }
        }
    }
    let mut expected: Vec<_> = (0..5)
        .map(|step| ("loss/train".to_owned(), step, 1.7e9 + step as f64, (2.5 / (step + 1) as f64) as f32))
        .collect();
    scalars.retain(|(tag, ..)| tag == "loss/train" || tag == "accuracy/validation");
    let accuracy = scalars.iter().position(|(tag, ..)| tag == "accuracy/validation").unwrap();
    let (_, step, wall_time, value) = scalars.remove(accuracy);
    assert_eq!((step, value), (4, 0.9375));
    assert!(wall_time > 1.6e9);
    assert_eq!(scalars, std::mem::take(&mut expected));
    assert_eq!((texts, images, histograms, curves), (1, 1, 1, 1));
}

#[test]
fn our_scalar_records_have_the_bytes_of_pytorch() {
    let bytes = fs::read(GOLDEN).unwrap();
    let mut reader = RecordReader::new(bytes.as_slice());
    let mut compared = 0;
    loop {
        let start = reader.offset() as usize;
        let Next::Record(data) = reader.next().unwrap() else { break };
        let event = torchd::tensorboard::Event::decode(data).unwrap();
        let end = reader.offset() as usize;
        let Some(What::Summary(summary)) = &event.what else { continue };
        let [value] = summary.value.as_slice() else { continue };
        let Some(Value::SimpleValue(number)) = value.value else { continue };
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(event.wall_time);
        let ours = scalar(time, event.step, &value.tag, number);
        let mut framed = Vec::new();
        torchd::record::append(&mut framed, |buffer| ours.encode_raw(buffer));
        assert_eq!(framed, &bytes[start..end], "{} at step {}", value.tag, event.step);
        compared += 1;
    }
    assert!(compared >= 6, "{compared}");
}
