//! `.pt2` archives: reading takes memory in proportion to the file, the tensors lie within it, and
//! a plan keeps to its rules.
//!
//! The first byte chooses between a file as it is, a program for which an archive is made, and a
//! list of tensors; the second tells how many bytes each storage has.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use torchd::exported::extent::Known;
use torchd::exported::facts::Facts;
use torchd::exported::operators::Operators;
use torchd::exported::summary::Returned;
use torchd::exported::{Archive, Summary, judge};
use torchd_fuzz::exported::{archive, follow, operators};
use torchd_fuzz::memory::bounded;

static OPERATORS: LazyLock<Operators> = LazyLock::new(operators);

const PROGRAM: &[u8] = include_bytes!("../seeds/pt2/program");
const WEIGHTS: &[u8] = include_bytes!("../seeds/pt2/weights");

fuzz_target!(|data: &[u8]| {
    LazyLock::force(&OPERATORS);
    let [mode, storage_bytes, rest @ ..] = data else { return };
    let bytes = match mode % 3 {
        0 => rest.to_vec(),
        1 => archive(rest, &WEIGHTS[2..], *storage_bytes),
        _ => archive(&PROGRAM[2..], rest, *storage_bytes),
    };
    // The directory is read through a buffer of 200 kB.
    let most = (1 << 20) + 1024 * bytes.len();
    let file = match bounded(most, || Archive::read(&bytes, bytes.len() as u64)) {
        Ok(file) => file,
        Err(problem) => return assert!(!problem.to_string().is_empty()),
    };
    for model in file.models.values() {
        for stored in model.weights.iter().chain(model.constants.iter()) {
            let extent = stored.tensor.extent();
            assert!(extent.start <= extent.end && extent.end <= bytes.len() as u64, "{stored:?}");
            assert!(stored.tensor.size_bytes() <= stored.tensor.layout.storage_bytes, "{stored:?}");
        }
        let judged = bounded(most, || judge::train(model, &OPERATORS));
        match &judged {
            Ok(judged) => follow(&judged.plan),
            Err(refusals) => assert!(refusals.iter().all(|refusal| !refusal.to_string().is_empty())),
        }
        if let (Ok(judged), Ok(facts)) = (&judged, Facts::of(&model.program)) {
            assert_eq!(judged.facts, facts);
            let _ = judge::eval(model, model, &facts, &OPERATORS);
            if let Ok(summary) = bounded(most, || Summary::of(model, &facts, Some(&facts))) {
                let text = serde_json::to_vec(&summary).unwrap();
                assert_eq!(serde_json::from_slice::<Summary>(&text).unwrap(), summary);
                let known = Known::from([("s0", 3)]);
                if let Returned::Output { sizes, .. } = &summary.returns {
                    assert!(sizes.iter().filter_map(|size| size.value(&known)).count() <= sizes.len());
                }
            }
        }
    }
});
