//! Jobs of several GPUs.

use super::*;

#[test]
fn several_gpus_are_given_all_or_none_and_their_job_is_not_passed_for_ever() {
    let wants = |number, count, memory_bytes| Request {
        gpu: Some(GpuWish { count, memory_bytes }),
        ..request(number, 1, true)
    };
    let on = |indices: &[u32], memory_bytes| {
        let gpu = |index: &u32| LeasedGpu { visible: format!("GPU-{index}"), index: *index, memory_bytes };
        Lease { device: LeasedDevice::Cuda, cpu_threads: 1, gpus: indices.iter().map(gpu).collect() }
    };
    let all = |plan: &Plan| plan.start.iter().map(|(_, lease)| lease.visible().unwrap()).collect::<Vec<_>>();
    let queue = [wants(1, 2, None), wants(2, 3, None), wants(3, 1, None)];
    let plan = planned(&queue, &[], &machine(9, 4));
    assert_eq!(all(&plan), ["GPU-0,GPU-1"]);
    // The third fits, and would take a GPU that the second waits for.
    assert_eq!(why(&plan, 0), "needs 3 GPUs, and 2 of 4 are free");
    assert!(why(&plan, 1).starts_with("1 job is ahead"), "{plan:?}");
    // It makes room where one of a higher priority needs all of them.
    let running = [held(7, 0, on(&[0], None)), held(8, 0, on(&[1, 2], None))];
    let first = [Request { priority: 1, ..wants(1, 3, None) }];
    let plan = planned(&first, &running, &Machine { preempts: true, ..machine(9, 4) });
    assert_eq!(plan.preempt, [running[1].id.clone()]);
    // Each has room for the job beside others, and the fullest ones are taken.
    let running = [held(7, 0, on(&[1, 3], Some(10 * GB)))];
    let plan = planned(&[wants(1, 2, Some(12 * GB)), wants(2, 3, Some(20 * GB))], &running, &machine(9, 4));
    assert_eq!(all(&plan), ["GPU-1,GPU-3"]);
    assert_eq!(why(&plan, 0), "needs 20.0 GB of the memory of each of 3 GPUs, and 2 have so much left");
    // Of a divided GPU one process sees one instance at most. Nobody waits behind such a job.
    let mut divided = machine(9, 2);
    divided.gpus[1].uuid = "MIG-a".into();
    let plan = planned(&[wants(1, 2, None), wants(2, 1, None)], &[], &divided);
    assert_eq!(all(&plan), ["GPU-0"]);
    let right = "needs 2 GPUs, and it can have 1 now: GPU 1 (NVIDIA A10) is no whole GPU";
    assert!(why(&plan, 0).starts_with(right), "{}", why(&plan, 0));
    // Another model adds in another order.
    let mut mixed = machine(9, 4);
    mixed.gpus[0].model = "NVIDIA T4".into();
    mixed.gpus[2].model = "NVIDIA T4".into();
    assert_eq!(all(&planned(&[wants(1, 2, None)], &[held(7, 0, on(&[0], None))], &mixed)), ["GPU-1,GPU-3"]);
    let plan = planned(&[wants(1, 3, None)], &[], &mixed);
    assert_eq!(why(&plan, 0), "needs 3 GPUs, and it can have 2 of one model now");
    let plan = planned(&[wants(1, 3, None)], &[], &machine(9, 2));
    assert_eq!(why(&plan, 0), "needs 3 GPUs, and it can have 2 now");
}
