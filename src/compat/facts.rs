//! The known facts about a machine, read and typed. Versions that are none are mistakes of the
//! request.

use super::runtime::RuntimeQuery;
use super::{Catalogue, Version};
use crate::job::Violations;
use crate::proto::v1;

/// The known facts about a machine; None is not known.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    pub(super) gpus: Option<Vec<GpuFact>>,
    pub(super) driver: Option<Version>,
    pub(super) nvml_error: Option<u32>,
    pub(super) torch: TorchFact,
    pub(super) glibc: Option<Version>,
    pub(super) glibcxx: Option<Version>,
    pub(super) runtime: Option<RuntimeQuery>,
    pub(super) python: Option<Version>,
    pub(super) node_type: String,
    pub(super) has_uvm: Option<bool>,
    pub(super) forward_dir: String,
    pub(super) model: Option<Version>,
}

/// A GPU.
#[derive(Debug, Clone)]
pub(super) struct GpuFact {
    pub(super) name: String,
    pub(super) compute: Option<Version>,
    /// It may use the forward-compatibility package.
    pub(super) forward: Option<bool>,
}

/// PyTorch or libtorch.
#[derive(Debug, Clone, Default)]
pub(super) struct TorchFact {
    pub(super) version: Option<Version>,
    pub(super) variant: Option<String>,
    pub(super) load_error: String,
    pub(super) cuda_load_error: String,
    pub(super) cuda_error: Option<u32>,
    /// The version that torchd's runner was built for, where it is the runner's.
    pub(super) built_for: Option<Version>,
}

impl Facts {
    /// Reads what a client or this machine tells; every mistake by its field.
    pub fn read(message: &v1::MachineFacts, catalogue: &Catalogue) -> Result<Self, Violations> {
        let mut wrong = Violations::default();
        let driver = read(&mut wrong, "driver_version", &message.driver_version, str::parse::<Version>);
        let glibc = read(&mut wrong, "glibc_version", &message.glibc_version, str::parse::<Version>);
        let python = read(&mut wrong, "python_version", &message.python_version, |text| catalogue.read_python(text));
        let glibcxx = read(&mut wrong, "glibcxx_version", &message.glibcxx_version, str::parse::<Version>);
        let torch_of = |text: &str| catalogue.read_torch(text);
        let model = read(&mut wrong, "model_pytorch_version", &message.model_pytorch_version, torch_of);
        let gpus = message.gpus.as_ref().map(|list| {
            let described = |(place, gpu): (usize, &v1::GpuDescription)| {
                let field = format!("gpus.gpus[{place}].compute_capability");
                let told = read(&mut wrong, &field, &gpu.compute_capability, str::parse::<Version>);
                let row = catalogue.gpu(&gpu.name);
                GpuFact {
                    name: gpu.name.clone(),
                    compute: told.or_else(|| row.and_then(|row| row.compute.clone())),
                    forward: row.and_then(|row| row.forward_compatibility),
                }
            };
            list.gpus.iter().enumerate().map(described).collect()
        });
        let torch = message.torch.clone().unwrap_or_default();
        let built_for = read(&mut wrong, "torch.built_for_version", &torch.built_for_version, torch_of);
        let version = read(&mut wrong, "torch.version", &torch.version, torch_of);
        let told = read(&mut wrong, "torch.variant", &torch.variant, |text| catalogue.read_variant(text));
        let (number, build) = version.map_or((None, None), |version| (Some(version.number), version.variant));
        if let (Some(told), Some(build)) = (&told, &build)
            && told != build
        {
            wrong.add("torch.variant", format!("is {told:?}, and torch.version says {build:?}; leave one out"));
        }
        let variant = told.or(build);
        let runtime = read(&mut wrong, "runtime", &message.runtime, |text| catalogue.read_runtime(text));
        let torch = TorchFact {
            version: number,
            variant,
            load_error: torch.load_error,
            cuda_load_error: torch.cuda_load_error,
            cuda_error: torch.cuda_error,
            built_for: built_for.map(|version| version.number),
        };
        wrong.or(Some(Self {
            gpus,
            driver,
            nvml_error: message.nvml_error,
            torch,
            glibc,
            glibcxx,
            runtime,
            python,
            node_type: message.node_type.clone(),
            has_uvm: message.nvidia_uvm,
            forward_dir: message.forward_compatibility_dir.clone(),
            model: model.map(|version| version.number),
        }))
    }

    /// Whether there are GPUs; None where that is not known.
    pub(super) fn has_gpus(&self) -> Option<bool> {
        self.gpus.as_ref().map(|gpus| !gpus.is_empty())
    }
}

/// Reads a field; None where it is empty, and where it is a mistake, which is told by the field.
pub(super) fn read<T, E: ToString>(
    wrong: &mut Violations,
    field: &str,
    text: &str,
    read: impl FnOnce(&str) -> Result<T, E>,
) -> Option<T> {
    if text.is_empty() {
        return None;
    }
    read(text).map_err(|error| wrong.add(field, error.to_string())).ok()
}

impl Catalogue {
    /// The GPU of that name: the row with the most words that stand in it one after the other.
    fn gpu(&self, name: &str) -> Option<&super::catalogue::Gpu> {
        let words = |text: &str| -> Vec<String> {
            text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty()).map(str::to_lowercase).collect()
        };
        let name = words(name);
        let stands = |row: &&super::catalogue::Gpu| {
            let wanted = words(&row.words);
            !wanted.is_empty() && name.windows(wanted.len()).any(|part| part == wanted)
        };
        self.gpus.iter().filter(stands).max_by_key(|row| words(&row.words).len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::embedded;
    use super::*;

    #[test]
    fn every_mistake_is_told_by_its_field() {
        let catalogue = embedded();
        let facts = v1::MachineFacts {
            driver_version: "new".into(),
            glibc_version: "2.x".into(),
            runtime: "my laptop".into(),
            gpus: Some(v1::GpuList {
                gpus: vec![v1::GpuDescription { name: "A10".into(), compute_capability: "sm_86".into() }],
            }),
            torch: Some(v1::TorchFacts { version: "latest".into(), variant: "rocm".into(), ..Default::default() }),
            ..Default::default()
        };
        let wrong = Facts::read(&facts, catalogue).unwrap_err();
        let fields: Vec<_> = wrong.0.iter().map(|violation| violation.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "driver_version",
                "glibc_version",
                "gpus.gpus[0].compute_capability",
                "torch.version",
                "torch.variant",
                "runtime"
            ]
        );
    }

    #[test]
    fn a_build_is_told_once_or_twice_the_same() {
        let catalogue = embedded();
        let read = |version: &str, variant: &str| {
            let torch = v1::TorchFacts { version: version.into(), variant: variant.into(), ..Default::default() };
            Facts::read(&v1::MachineFacts { torch: Some(torch), ..Default::default() }, catalogue)
        };
        assert_eq!(read("2.11.0+cu126", "").unwrap().torch.variant.as_deref(), Some("cu126"));
        assert_eq!(read("2.11.0", "cu126").unwrap().torch.variant.as_deref(), Some("cu126"));
        let wrong = read("2.11.0+cu126", "cpu").unwrap_err();
        assert!(wrong.to_string().contains("torch.variant: is \"cpu\", and torch.version says \"cu126\""), "{wrong}");
        assert_eq!(read("2.11.0", "CUDA 12.6").unwrap().torch.variant.as_deref(), Some("cu126"));
    }

    #[test]
    fn a_gpu_is_known_by_the_words_of_its_name() {
        let catalogue = embedded();
        let capability = |name: &str| catalogue.gpu(name)?.compute.as_ref().map(ToString::to_string);
        let cases = [
            ("NVIDIA A10", Some("8.6")),
            ("NVIDIA A100-SXM4-80GB", Some("8.0")),
            ("Tesla V100-SXM2-16GB", Some("7.0")),
            ("NVIDIA H100 80GB HBM3", Some("9.0")),
            ("NVIDIA L40S", Some("8.9")),
            ("NVIDIA GeForce RTX 5090", Some("12.0")),
            ("NVIDIA A10G", Some("8.6")),
            ("NVIDIA GeForce GTX 1080 Ti", Some("6.1")),
            ("GeForce RTX 2080 Ti", Some("7.5")),
            ("NVIDIA GeForce RTX 3050 Laptop GPU", Some("8.6")),
            ("NVIDIA GeForce RTX 4090", Some("8.9")),
            ("NVIDIA GeForce RTX 5090 D", Some("12.0")),
            ("Quadro RTX 4000", Some("7.5")),
            ("NVIDIA RTX 4000 SFF Ada Generation", Some("8.9")),
            ("NVIDIA RTX 3000 Ada Generation Laptop GPU", None),
            ("NVIDIA A1000 of nobody", None),
        ];
        for (name, expected) in cases {
            assert_eq!(capability(name).as_deref(), expected, "{name}");
        }
    }
}
