//! Archives around a program, and the rules of a plan, checked by the plainest walk through it.

use std::io::Write;

use rawzip::ZipArchiveWriter;
use torchd::exported::operators::Operators;
use torchd::exported::plan::{Action, Given, Operand, Place, Plan, Returned};

/// The operators that the graphs of the tests call.
pub fn operators() -> Operators {
    Operators::new(include_str!("../../tests/data/exported/operators.txt").lines())
}

/// An archive of this program, and of tensors that this entry lists, four of which have a storage
/// of `storage_bytes` bytes.
pub fn archive(program: &[u8], weights: &[u8], storage_bytes: u8) -> Vec<u8> {
    let mut archive = ZipArchiveWriter::new(Vec::new());
    let mut put = |name: &str, content: &[u8]| {
        let (mut entry, config) = archive.new_file(name).start().unwrap();
        let mut writer = config.wrap(&mut entry);
        writer.write_all(content).unwrap();
        let (_, summary) = writer.finish().unwrap();
        entry.finish(summary).unwrap();
    };
    put("a/archive_format", b"pt2");
    put("a/archive_version", b"0");
    put("a/byteorder", b"little");
    put("a/models/model.json", program);
    put("a/data/weights/model_weights_config.json", weights);
    put("a/data/constants/model_constants_config.json", br#"{"config": {}}"#);
    for number in 0..4 {
        put(&format!("a/data/weights/weight_{number}"), &vec![1; usize::from(storage_bytes)]);
    }
    archive.finish().unwrap()
}

/// Walks through a plan: nothing is read that is not there, nothing stays that nobody needs.
pub fn follow(plan: &Plan) {
    let mut is_there = vec![false; plan.slots];
    for slot in plan.inputs.iter().flatten() {
        assert!(!std::mem::replace(&mut is_there[*slot], true), "two inputs in slot {slot}");
    }
    for step in &plan.steps {
        let mut read = Vec::new();
        let mut operand = |operand: &Operand| match operand {
            Operand::Slot(slot) => read.push(*slot),
            Operand::Number(_) => {}
        };
        match &step.action {
            Action::Compute(_, one, other) => [one, other].into_iter().for_each(operand),
            Action::SetGrad { inputs, .. } | Action::Autocast { inputs, .. } => inputs.iter().for_each(operand),
            Action::Cond { condition, inputs, .. } => std::iter::once(condition).chain(inputs).for_each(operand),
            Action::Call { arguments, .. } => {
                for argument in arguments {
                    match argument {
                        Given::Default | Given::Constant(_) | Given::Device => {}
                        Given::Tensor(slot) | Given::Number(slot, _) => operand(&Operand::Slot(*slot)),
                        Given::Tensors(slots) => slots.iter().for_each(|slot| operand(&Operand::Slot(*slot))),
                        Given::OptionalTensors(slots) => {
                            slots.iter().flatten().for_each(|slot| operand(&Operand::Slot(*slot)));
                        }
                        Given::Ints(items) => items.iter().for_each(&mut operand),
                    }
                }
            }
        }
        assert!(read.iter().all(|slot| is_there[*slot]), "{step:?} reads what is not there");
        for plan in step.action.plans() {
            follow(plan);
        }
        for place in &step.results {
            let slots = match place {
                Place::Nothing => &[][..],
                Place::One(slot) => std::slice::from_ref(slot),
                Place::Many(slots) => slots,
            };
            for slot in slots {
                assert!(!std::mem::replace(&mut is_there[*slot], true), "{step:?} writes over a value");
            }
        }
        for slot in &step.last_uses {
            assert!(std::mem::replace(&mut is_there[*slot], false), "{step:?} frees what is not there");
        }
    }
    for output in &plan.outputs {
        if let Returned::Slot(slot) = output {
            assert!(is_there[*slot], "an output is not there");
        }
    }
    let is_returned = |slot: usize| plan.outputs.contains(&Returned::Slot(slot));
    assert!((0..plan.slots).all(|slot| !is_there[slot] || is_returned(slot)), "a value stays that nobody needs");
}
