//! The runtime: its support, its PyTorch, its type of machine.

use super::Case;
use super::builds::build_of;
use crate::compat::install::replace_command;
use crate::compat::{Reason, finding};
use crate::proto::v1::Support;

pub(super) fn judge(case: &mut Case<'_>) {
    support_and_exchange(case);
    model(case);
    node(case);
}

fn support_and_exchange(case: &mut Case<'_>) {
    let Some(query) = &case.facts.runtime else { return };
    let row = match case.catalogue.runtime(query) {
        Ok(row) => row,
        Err(unknown) => {
            let found = finding(
                Reason::RuntimeUnknown,
                format!("The runtime {} is not in the catalogue", unknown.asked),
            )
            .found(unknown.asked)
            .needed(format!("one that is, such as {}", unknown.nearest.join(", ")))
            .remedy(
                "Add it to the catalogue: a runtimes.toml in the folder that compatibility.catalogue_dir names.",
                &[],
            );
            return case.add(found);
        }
    };
    let (name, support) = (row.name.to_string(), row.support(case.day));
    match support.status {
        Support::Ended => {
            let supported = case.catalogue.runtimes.iter().rev();
            let lts = supported.filter(|row| row.name.lts && row.support(case.day).status == Support::Supported);
            let names: Vec<_> = lts.take(3).map(|row| row.name.to_string()).collect();
            let found = finding(Reason::RuntimeEndOfSupport, format!("The support of runtime {name} has ended"))
                .found(format!("{name}: {}", support.reason))
                .needed("a runtime that is supported")
                .remedy(format!("Move to a supported runtime: {}.", names.join(", ")), &[])
                .sources(case.catalogue, &row.sources);
            case.add(found);
        }
        Support::Unknown | Support::NotReleased => {
            let found = finding(Reason::RuntimeUnknown, format!("Whether runtime {name} is supported is not known"))
                .found(format!("{name}: {}", support.reason))
                .remedy("Look it up in Databricks' list of runtimes, and add the dates to the catalogue.", &[])
                .sources(case.catalogue, &row.sources);
            case.add(found);
        }
        Support::Supported | Support::Unspecified => {}
    }
    // A standard runtime ships no PyTorch.
    let (true, Some(theirs), Some(ours)) = (query.is_ml, &row.pytorch, &case.facts.torch.version) else { return };
    let exchange = "Exchange weights as safetensors (artifacts/model.safetensors), which every version reads; export TorchScript with the older version.";
    if theirs < ours {
        let found = finding(
            Reason::RuntimePytorchOlder,
            format!("Runtime {name} ships PyTorch {theirs}: it may not read TorchScript that {ours} wrote"),
        )
        .found(format!("PyTorch {theirs} in the runtime, {ours} here"))
        .remedy(exchange, &[])
        .sources(case.catalogue, &row.sources);
        case.add(found);
    } else if theirs > ours {
        let found = finding(
            Reason::RuntimePytorchNewer,
            format!("Runtime {name} ships PyTorch {theirs}: TorchScript that it writes may not load in {ours}"),
        )
        .found(format!("PyTorch {theirs} in the runtime, {ours} here"))
        .needed(format!("models that {ours} or an older version wrote"))
        .remedy(exchange, &[])
        .sources(case.catalogue, &row.sources);
        case.add(found);
    }
}

fn model(case: &mut Case<'_>) {
    let (Some(model), Some(ours)) = (&case.facts.model, &case.facts.torch.version) else { return };
    if model > ours {
        // The machine that wrote the file is another one: the build for the CPU runs there, too.
        let build = case.release.and_then(|release| Some((release, release.build("cpu").or(case.build)?)));
        let named = build.map(|(_, build)| format!(" built for {}", build.variant)).unwrap_or_default();
        let command: Vec<_> = build.map(|(release, build)| replace_command(release, build)).into_iter().collect();
        let found = finding(
            Reason::ModelFileNewer,
            "The model file was written by a newer PyTorch than the one that is to load it",
        )
        .found(format!("a file of PyTorch {model}"))
        .needed(format!("a file of PyTorch {ours} or older"))
        .remedy(format!("Export it again with PyTorch {ours}{named}."), &command)
        .remedy("Exchange weights as safetensors instead, which every version reads.", &[]);
        case.add(found);
    }
}

fn node(case: &mut Case<'_>) {
    let gpus = case.facts.gpus.as_ref().map_or(0, Vec::len);
    let Some(torch) = &case.facts.torch.version else { return };
    let rows = case.catalogue.nodes.iter().filter(|row| {
        case.facts.node_type.contains(&row.contains) && *torch >= row.pytorch_from && gpus >= row.gpus_from as usize
    });
    let found: Vec<_> = rows
        .map(|row| {
            let found = finding(Reason::NodeTypeBreaksMultiGpu, row.problem.clone())
                .found(format!("{}, {gpus} GPUs, PyTorch {torch}", case.facts.node_type))
                .needed(format!("fewer than {} GPUs a job, or PyTorch before {}", row.gpus_from, row.pytorch_from))
                .remedy(row.remedy.clone(), &[])
                .sources(case.catalogue, &row.sources);
            let release = row.pytorch.as_ref().and_then(|version| case.catalogue.release(version));
            (found, release.and_then(|release| build_of(case, release)))
        })
        .collect();
    found.into_iter().for_each(|(found, way)| case.add_with(found, vec![way.into_iter().collect()]));
}
