//! What is known of a machine, read and typed. Versions that are none are mistakes of the request.

use super::runtime::RuntimeQuery;
use super::{Catalogue, Version};
use crate::job::Violations;
use crate::proto::v1;

/// What is known of a machine; None is not known.
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
        let mut version = |field: &str, text: &str| -> Option<Version> {
            if text.is_empty() {
                return None;
            }
            text.parse().map_err(|error| wrong.add(field, format!("{error}"))).ok()
        };
        let driver = version("driver_version", &message.driver_version);
        let glibc = version("glibc_version", &message.glibc_version);
        let python = version("python_version", &message.python_version);
        let glibcxx = version("glibcxx_version", &message.glibcxx_version);
        let model =
            version("model_pytorch_version", message.model_pytorch_version.split('+').next().unwrap_or_default());
        let gpus = message.gpus.as_ref().map(|list| {
            let read = |(place, gpu): (usize, &v1::GpuDescription)| {
                let told = version(&format!("gpus.gpus[{place}].compute_capability"), &gpu.compute_capability);
                let row = catalogue.gpu(&gpu.name);
                GpuFact {
                    name: gpu.name.clone(),
                    compute: told.or_else(|| row.and_then(|row| row.compute.clone())),
                    forward: row.and_then(|row| row.forward_compatibility),
                }
            };
            list.gpus.iter().enumerate().map(read).collect()
        });
        let torch = message.torch.clone().unwrap_or_default();
        let built_for = version("torch.built_for_version", &torch.built_for_version);
        let (number, build) = match Version::with_build(&torch.version) {
            Ok((number, build)) => (Some(number), build),
            Err(_) if torch.version.is_empty() => (None, None),
            Err(error) => {
                wrong.add("torch.version", error.to_string());
                (None, None)
            }
        };
        if let Some(build) = build.as_ref().filter(|build| !torch.variant.is_empty() && **build != torch.variant) {
            wrong.add(
                "torch.variant",
                format!("is {:?}, and torch.version says {build:?}; leave one out", torch.variant),
            );
        }
        let variant = Some(torch.variant.clone()).filter(|variant| !variant.is_empty()).or(build);
        if let Some(variant) = variant.as_ref().filter(|variant| !is_variant(variant)) {
            wrong.add("torch.variant", format!("is {variant:?}; cpu, or a CUDA build such as cu126, is needed"));
        }
        let runtime = match message.runtime.as_str() {
            "" => None,
            name => name.parse().map_err(|error| wrong.add("runtime", format!("{error}"))).ok(),
        };
        let torch = TorchFact {
            version: number,
            variant,
            load_error: torch.load_error,
            cuda_load_error: torch.cuda_load_error,
            cuda_error: torch.cuda_error,
            built_for,
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
            model,
        }))
    }

    /// Whether there are GPUs; None where that is not known.
    pub(super) fn has_gpus(&self) -> Option<bool> {
        self.gpus.as_ref().map(|gpus| !gpus.is_empty())
    }
}

/// `cpu`, or a CUDA build such as `cu126`.
pub(super) fn is_variant(text: &str) -> bool {
    let is_number = |digits: &str| (2..=4).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    text == "cpu" || text.strip_prefix("cu").is_some_and(is_number)
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
    use super::*;

    #[test]
    fn every_mistake_is_told_by_its_field() {
        let catalogue = Catalogue::load(&[]).unwrap();
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
        let wrong = Facts::read(&facts, &catalogue).unwrap_err();
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
        let catalogue = Catalogue::load(&[]).unwrap();
        let read = |version: &str, variant: &str| {
            let torch = v1::TorchFacts { version: version.into(), variant: variant.into(), ..Default::default() };
            Facts::read(&v1::MachineFacts { torch: Some(torch), ..Default::default() }, &catalogue)
        };
        assert_eq!(read("2.11.0+cu126", "").unwrap().torch.variant.as_deref(), Some("cu126"));
        assert_eq!(read("2.11.0", "cu126").unwrap().torch.variant.as_deref(), Some("cu126"));
        let wrong = read("2.11.0+cu126", "cpu").unwrap_err();
        assert!(wrong.to_string().contains("torch.variant: is \"cpu\", and torch.version says \"cu126\""), "{wrong}");
    }

    #[test]
    fn a_gpu_is_known_by_the_words_of_its_name() {
        let catalogue = Catalogue::load(&[]).unwrap();
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
