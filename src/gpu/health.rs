//! Whether a GPU can be worked with: a pure judgement of its readings, and of what was heard of it
//! since the driver was loaded.

use crate::proto::v1::{self, ClockReduction, GpuHealthState as State, GpuRecoveryAction as Action};

/// An event that speaks against a GPU until the driver is loaded anew or says that the
/// GPU is whole again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark {
    /// For programs, such as `XID_79`.
    pub(super) code: String,
    /// The health of the GPU that follows from it.
    pub(super) state: State,
    /// For people.
    pub(super) message: String,
    /// The remedy.
    pub(super) remedy: String,
}

/// Judges a GPU.
pub(super) fn judge(gpu: &v1::Gpu, marks: &[Mark], is_lost: bool) -> v1::GpuHealth {
    let mut reasons = Vec::new();
    let mut add = |code: &str, state: State, message: String, remedy: &str| {
        reasons.push(v1::GpuHealthReason { code: code.into(), state: state.into(), message, remedy: remedy.into() });
    };
    let reset = format!("sudo nvidia-smi --gpu-reset -i {}; if that fails, sudo reboot", gpu.index);
    for mark in marks {
        add(&mark.code, mark.state, mark.message.clone(), &mark.remedy);
    }
    if is_lost {
        add("GPU_LOST", State::Failed, "the driver cannot reach the GPU any more".into(), "sudo reboot");
        return verdict(reasons);
    }
    match gpu.recovery_action.map(Action::try_from) {
        None | Some(Ok(Action::Unspecified | Action::None)) => {}
        Some(Ok(Action::Reset)) => {
            add("RECOVERY_ACTION_RESET", State::Failed, "the driver asks for a reset of the GPU".into(), &reset);
        }
        Some(Ok(Action::Reboot)) => {
            let message = "the driver asks for a reboot of the machine".into();
            add("RECOVERY_ACTION_REBOOT", State::Failed, message, "sudo reboot");
        }
        Some(Ok(Action::DrainPeers)) => {
            let message = "the driver asks to end all work that reaches this GPU from others".into();
            add("RECOVERY_ACTION_DRAIN_PEERS", State::Failed, message, "end the jobs that use several GPUs");
        }
        Some(Ok(Action::DrainAndReset)) => {
            let message = "the driver asks to let the GPU finish its work and to reset it then".into();
            add("RECOVERY_ACTION_DRAIN_AND_RESET", State::Failed, message, &reset);
        }
        Some(Err(number)) => {
            let message = format!("the driver asks for an action that this version does not know ({number:?})");
            add("RECOVERY_ACTION_UNKNOWN", State::Degraded, message, "see `nvidia-smi -q`");
        }
    }
    let retirement = gpu.retirement.unwrap_or_default();
    if retirement.remapping_failed == Some(true) {
        let message = "a damaged row of its memory could not be replaced: no spare is left".into();
        add("ROW_REMAPPING_FAILED", State::Failed, message, "have the card replaced");
    }
    if retirement.remapped_rows_pending == Some(true) {
        let message = "damaged rows of its memory are replaced at the next reset".into();
        add("ROW_REMAPPING_PENDING", State::Degraded, message, &reset);
    }
    if retirement.pages_pending == Some(true) {
        let message = "damaged pages of its memory are retired at the next reboot".into();
        add("PAGE_RETIREMENT_PENDING", State::Degraded, message, "sudo reboot");
    }
    let uncorrected: u64 = gpu
        .ecc
        .iter()
        .flat_map(|ecc| &ecc.counts)
        .filter(|count| count.uncorrected && !count.aggregate && count.location == "all")
        .map(|count| count.count)
        .sum();
    if uncorrected > 0 {
        let message = format!("{uncorrected} memory errors could not be corrected since the driver was loaded");
        add("ECC_UNCORRECTED", State::Degraded, message, &reset);
    }
    let modes = gpu.modes.unwrap_or_default();
    if modes.drain == Some(true) {
        let message = "it takes no new work, as somebody is about to remove it".into();
        add("DRAINING", State::Failed, message, "sudo nvidia-smi drain -p PCI-ADDRESS -m 0 puts it back to work");
    }
    if modes.compute() == v1::GpuComputeMode::Prohibited && modes.compute.is_some() {
        let message = "its compute mode lets nobody compute on it".into();
        let remedy = format!("sudo nvidia-smi -i {} --compute-mode DEFAULT", gpu.index);
        add("COMPUTE_PROHIBITED", State::Failed, message, &remedy);
    }
    for reduction in gpu.clock_reductions() {
        match reduction {
            ClockReduction::HardwareThermal => {
                let message = "it is so hot that the hardware has reduced its clocks".into();
                add(
                    "HARDWARE_THERMAL_SLOWDOWN",
                    State::Degraded,
                    message,
                    "see to its fans and to the air that it gets",
                );
            }
            ClockReduction::PowerBrake => {
                let message = "the power supply has asked it to reduce its clocks".into();
                add("POWER_BRAKE", State::Degraded, message, "see to the power supply of the machine");
            }
            ClockReduction::Unspecified
            | ClockReduction::Idle
            | ClockReduction::ApplicationClocks
            | ClockReduction::PowerCap
            | ClockReduction::HardwareSlowdown
            | ClockReduction::SyncBoost
            | ClockReduction::SoftwareThermal
            | ClockReduction::DisplayClocks
            | ClockReduction::Other => {}
        }
    }
    verdict(reasons)
}

/// The worst reason decides.
fn verdict(mut reasons: Vec<v1::GpuHealthReason>) -> v1::GpuHealth {
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.state));
    let state = reasons.first().map_or(State::Healthy, v1::GpuHealthReason::state);
    v1::GpuHealth { state: state.into(), reasons }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes(gpu: &v1::Gpu) -> (State, Vec<String>) {
        let health = judge(gpu, &[], false);
        (health.state(), health.reasons.into_iter().map(|reason| reason.code).collect())
    }

    #[test]
    fn readings_that_are_fine_or_absent_speak_against_nothing() {
        assert_eq!(codes(&v1::Gpu::default()), (State::Healthy, vec![]));
        let fine = v1::Gpu {
            recovery_action: Some(Action::None.into()),
            retirement: Some(v1::GpuRetirement {
                remapping_failed: Some(false),
                remapped_rows_corrected: Some(3),
                ..Default::default()
            }),
            clock_reductions: vec![ClockReduction::Idle.into(), ClockReduction::PowerCap.into()],
            ..Default::default()
        };
        assert_eq!(codes(&fine), (State::Healthy, vec![]));
    }

    #[test]
    fn each_bad_reading_is_told_and_the_worst_decides() {
        let count = |uncorrected, aggregate| v1::EccCount { uncorrected, aggregate, location: "all".into(), count: 2 };
        let ecc = |uncorrected, aggregate| v1::Gpu {
            ecc: Some(v1::GpuEcc { counts: vec![count(uncorrected, aggregate)], ..Default::default() }),
            ..Default::default()
        };
        assert_eq!(codes(&ecc(true, false)), (State::Degraded, vec!["ECC_UNCORRECTED".into()]));
        assert_eq!(codes(&ecc(true, true)).0, State::Healthy);
        assert_eq!(codes(&ecc(false, false)).0, State::Healthy);
        let retirement = |retirement| v1::Gpu { retirement: Some(retirement), ..Default::default() };
        let failed =
            v1::GpuRetirement { remapping_failed: Some(true), remapped_rows_pending: Some(true), ..Default::default() };
        let expected = vec!["ROW_REMAPPING_FAILED".to_owned(), "ROW_REMAPPING_PENDING".to_owned()];
        assert_eq!(codes(&retirement(failed)), (State::Failed, expected));
        for (action, code) in [
            (Action::Reset, "RECOVERY_ACTION_RESET"),
            (Action::Reboot, "RECOVERY_ACTION_REBOOT"),
            (Action::DrainPeers, "RECOVERY_ACTION_DRAIN_PEERS"),
            (Action::DrainAndReset, "RECOVERY_ACTION_DRAIN_AND_RESET"),
        ] {
            let gpu = v1::Gpu { recovery_action: Some(action.into()), ..Default::default() };
            assert_eq!(codes(&gpu), (State::Failed, vec![code.to_owned()]));
        }
        let modes = |modes| v1::Gpu { modes: Some(modes), ..Default::default() };
        let prohibited = v1::GpuModes { compute: Some(v1::GpuComputeMode::Prohibited.into()), ..Default::default() };
        assert_eq!(codes(&modes(prohibited)), (State::Failed, vec!["COMPUTE_PROHIBITED".into()]));
        let draining = v1::GpuModes { drain: Some(true), ..Default::default() };
        assert_eq!(codes(&modes(draining)), (State::Failed, vec!["DRAINING".into()]));
        let hot = v1::Gpu { clock_reductions: vec![ClockReduction::HardwareThermal.into()], ..Default::default() };
        assert_eq!(codes(&hot), (State::Degraded, vec!["HARDWARE_THERMAL_SLOWDOWN".into()]));
    }

    #[test]
    fn what_was_heard_counts_and_a_lost_gpu_has_failed() {
        let mark = |code: &str, state| Mark { code: code.into(), state, message: "m".into(), remedy: "r".into() };
        let marks = [mark("XID_94", State::Degraded), mark("XID_79", State::Failed)];
        let health = judge(&v1::Gpu::default(), &marks, true);
        assert_eq!(health.state(), State::Failed);
        let codes: Vec<_> = health.reasons.iter().map(|reason| reason.code.as_str()).collect();
        assert_eq!(codes, ["XID_79", "GPU_LOST", "XID_94"]);
    }
}
