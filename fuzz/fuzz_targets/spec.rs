//! Specs: TOML and JSON as `torchctl submit` reads them, with what `--set` changes, and messages as
//! they come over the wire; then the rules that the daemon judges them by.
//!
//! The first byte chooses the form: `T`, `J`, anything else for a message. Behind a zero byte
//! follows what `--set` says, each behind one.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use prost::{Message, Name};
use torchd::cli::with_sets;
use torchd::dataset::{Dtype, Facts, Field, Range};
use torchd::job::Spec;
use torchd::job::length::Place;
use torchd::job::spec::{DataFacts, Fitted, Reading, read};
use torchd::proto::{json, text, v1};
use torchd_fuzz::memory::bounded;

/// The fields of a spec, one of which a mistake has to name.
static FIELDS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let message = torchd::proto::descriptors().get_message_by_name(&v1::JobSpec::full_name()).unwrap();
    message.fields().map(|field| field.name().to_owned()).collect()
});

fuzz_target!(|data: &[u8]| {
    let Some((form, content)) = data.split_first() else { return };
    LazyLock::force(&FIELDS);
    bounded((2 << 20) + 512 * data.len(), || match form {
        b'T' | b'J' => {
            let Ok(content) = std::str::from_utf8(content) else { return };
            let mut parts = content.split('\0').map(str::to_owned);
            let file = parts.next().unwrap_or_default();
            text_file(&file, *form == b'J', &parts.collect::<Vec<_>>());
        }
        _ => {
            if let Ok(message) = v1::JobSpec::decode(content) {
                judge(&message);
            }
        }
    });
});

fn text_file(file: &str, is_json: bool, sets: &[String]) {
    let table = match text::to_table(file, is_json) {
        Ok(table) => table,
        Err(error) => return assert!(!error.is_empty()),
    };
    let leaves = leaves(&table);
    // Facts about a machine are read in the same way.
    let _ = with_sets::<v1::MachineFacts>(table.clone(), sets);
    let message: v1::JobSpec = match with_sets(table.clone(), sets) {
        Ok(message) => message,
        Err(mistakes) => {
            assert!(!mistakes.is_empty());
            for mistake in mistakes {
                let (place, what) = mistake.split_once(": ").expect("a mistake has a place");
                assert!(!place.is_empty() && !what.is_empty(), "{mistake}");
            }
            return;
        }
    };
    // The same, set field by field over an empty file.
    if let (Ok(whole), Some(leaves)) = (with_sets::<v1::JobSpec>(table, &[]), leaves) {
        let piecewise = with_sets::<v1::JobSpec>(toml::Table::new(), &leaves);
        assert_eq!(words(&piecewise), words(&Ok(whole)), "{leaves:#?}");
    }
    // Written as JSON or TOML it is read as the same.
    if let Ok(written) = json::to_string(&message, false) {
        let again = text::to_table(&written, true).and_then(|table| {
            let toml = toml::to_string(&table).map_err(|error| error.to_string())?;
            Ok((text::message::<v1::JobSpec>(&[table]), text::message(&[text::to_table(&toml, false)?])))
        });
        let (from_json, from_toml) = again.unwrap();
        assert_eq!(words(&from_json), words(&Ok(message.clone())), "{written}");
        assert_eq!(words(&from_toml), words(&from_json), "{written}");
    }
    judge(&message);
}

/// NaN is equal to nothing, so the words are compared. A zero below zero is no other one than zero
/// where a field has no presence.
fn words(message: &Result<v1::JobSpec, Vec<String>>) -> String {
    let mut message = message.clone();
    if let Ok(spec) = &mut message
        && let Some(v1::optimizer::Kind::Sgd(sgd)) =
            spec.optimizer.as_mut().and_then(|optimizer| optimizer.kind.as_mut())
        && sgd.momentum == 0.0
    {
        sgd.momentum = 0.0;
    }
    format!("{message:?}").replace("-NaN", "NaN")
}

/// The `--set` arguments for every value of a table; None where `--set` cannot express a name.
fn leaves(table: &toml::Table) -> Option<Vec<String>> {
    fn walk(table: &toml::Table, path: &str, found: &mut Vec<String>) -> Option<()> {
        for (name, value) in table {
            let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
            let at = is_plain.then(|| if path.is_empty() { name.clone() } else { format!("{path}.{name}") })?;
            match value {
                toml::Value::Table(inner) if !inner.is_empty() => walk(inner, &at, found)?,
                value => found.push(format!("{at}={value}")),
            }
        }
        Some(())
    }
    let mut found = Vec::new();
    walk(table, "", &mut found)?;
    Some(found)
}

/// A message is right, or every mistake names a field; what is right comes back the same from the
/// job's folder, and can be planned.
fn judge(message: &v1::JobSpec) {
    let Reading { spec, mistakes, model, .. } = read(message);
    assert_eq!(spec.is_some(), mistakes.0.is_empty(), "{mistakes}");
    for mistake in &mistakes.0 {
        let first = mistake.field.split(['.', '[']).next().unwrap_or_default();
        assert!(FIELDS.iter().any(|field| field == first) && !mistake.description.is_empty(), "{mistake:?}");
    }
    let field =
        |file: &'static str, dtype, shape, range| Field { name: file.into(), file: file.into(), dtype, shape, range };
    let facts = |examples| Facts {
        examples,
        inputs: vec![field("images", Dtype::Pixel, vec![1, 28, 28], None)],
        target: field("labels", Dtype::I64, vec![], Some(Range { lowest: 0, highest: 9, highest_at: 0 })),
        sizes: vec![],
        is_resident: true,
        may_widen: false,
    };
    let sets = [1, 1000, u64::from(u32::MAX)].map(|examples| DataFacts {
        train: facts(examples),
        validation: message.data.as_ref().and_then(|data| data.validation.as_ref()).map(|_| facts(examples)),
    });
    for set in &sets {
        let mut wrong = torchd::job::Violations::default();
        let Some(spec) = &spec else { continue };
        let (Some(work), Some(model)) = (spec.model(), &model) else {
            assert_comes_back(message, spec);
            continue;
        };
        let (train, validation) = work.data.with_facts(set);
        model.demands.judge(Some(&train), validation.as_ref(), &mut wrong);
        let fitted = work.clone().fit(set);
        assert_eq!(fitted.is_ok(), wrong.0.is_empty(), "{wrong}");
        let Ok(Fitted { work: fitted, .. }) = fitted else { continue };
        let plan = fitted.plan(set.train.examples, Place::default()).expect("what fits can be planned");
        assert!(plan.total_steps >= 1 && i64::try_from(plan.total_steps).is_ok() && plan.steps_per_epoch >= 1);
        let place = Place { step: plan.total_steps / 2, epoch: 1, examples: set.train.examples / 2 };
        let _ = fitted.plan(set.train.examples, place);
        assert_comes_back(message, &Spec { work: fitted.into(), ..spec.clone() });
    }
}

/// A spec that is taken is written, and read back the same.
fn assert_comes_back(message: &v1::JobSpec, spec: &Spec) {
    let told = spec.to_proto();
    let written = json::to_string(&told, false).expect("a spec that is taken goes into the job's folder");
    assert_eq!(json::to_string(&told, false).unwrap(), written, "a request made again is told by its text");
    assert!(json::to_string(message, false).is_ok(), "and the request into the database");
    let back: v1::JobSpec = json::from_str(&written).expect("and comes back");
    assert_eq!(read(&back).spec.as_ref(), Some(spec), "{written}");
    let typed: v1::JobSpec = text::message(&[text::to_table(&written, true).unwrap()]).expect("and can be submitted");
    assert_eq!(read(&typed).spec.as_ref(), Some(spec), "{written}");
}
