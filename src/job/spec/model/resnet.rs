//! Residual networks for images, as torchvision has them: "Deep Residual Learning for Image
//! Recognition" (arXiv 1512.03385), with the stride of a bottleneck in its 3x3 convolution.

use super::{Family, Initial, Set, Task, Weight, demand_numbers, demand_one_input, judge_modules, outputs_of};
use crate::job::Violations;
use crate::job::spec::layer::{AdaptiveAvgPool, BatchNorm, Convolution, Flatten, Layer, Linear, MaxPool, Relu};
use crate::job::spec::module::Module;
use crate::job::spec::section::{Fields, Section};
use crate::proto::v1;

/// Its settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resnet {
    /// Its layers with weights.
    pub depth: Depth,
    /// Its beginning.
    pub stem: Stem,
    /// Outputs; None for those of the target.
    pub outputs: Option<u32>,
}

/// The number of layers with weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Blocks of two convolutions.
    D18,
    /// More of them.
    D34,
    /// Blocks of three convolutions.
    D50,
}

/// The beginning of a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stem {
    /// A 7x7 convolution of stride 2 and a max-pool of stride 2.
    Imagenet,
    /// A 3x3 convolution of stride 1.
    Small,
}

impl Depth {
    fn number(self) -> u32 {
        match self {
            Self::D18 => 18,
            Self::D34 => 34,
            Self::D50 => 50,
        }
    }

    /// The blocks of each of the four layers.
    fn blocks(self) -> [usize; 4] {
        match self {
            Self::D18 => [2; 4],
            Self::D34 | Self::D50 => [3, 4, 6, 3],
        }
    }
}

impl Section for Resnet {
    type Message = v1::ResNet;
    const NAME: &str = "resnet";

    fn read(message: &v1::ResNet, mut fields: Fields<'_>) -> Option<Self> {
        let v1::ResNet { depth, stem, outputs } = *message;
        let known = [Depth::D18, Depth::D34, Depth::D50].into_iter().find(|known| known.number() == depth);
        fields.demand_given("depth", known.is_some(), depth, "18, 34 or 50");
        let stem = match v1::Stem::try_from(stem) {
            Ok(v1::Stem::Unspecified | v1::Stem::Imagenet) => Stem::Imagenet,
            Ok(v1::Stem::Small) => Stem::Small,
            Err(_) => {
                fields.wrong("stem", format!("is {stem}; imagenet or small is needed"));
                Stem::Imagenet
            }
        };
        fields.at_least_one("outputs", outputs, 1);
        fields.done(Self { depth: known.unwrap_or(Depth::D18), stem, outputs })
    }

    fn to_proto(&self) -> v1::ResNet {
        let stem = match self.stem {
            Stem::Imagenet => v1::Stem::Imagenet,
            Stem::Small => v1::Stem::Small,
        };
        v1::ResNet { depth: self.depth.number(), stem: stem.into(), outputs: self.outputs }
    }
}

impl Family for Resnet {
    fn judge(&self, set: &Set<'_>, task: Option<&Task<'_>>, wrong: &mut Violations) {
        let takes = demand_numbers(set, Self::NAME, wrong) & demand_one_input(set, Self::NAME, wrong);
        if takes && let Some(modules) = self.modules(task.and_then(|task| task.outputs).or(Some(1))) {
            judge_modules(&modules, set, |_, _| None, wrong);
        }
    }

    fn modules(&self, outputs: Option<u64>) -> Option<Module> {
        let outputs = outputs_of(self.outputs, outputs)?;
        let mut row = vec![
            ("conv1".to_owned(), if self.stem == Stem::Imagenet { conv(64, 7, 2) } else { conv(64, 3, 1) }),
            ("bn1".to_owned(), norm()),
            ("relu".to_owned(), relu()),
        ];
        if self.stem == Stem::Imagenet {
            let pool = MaxPool { kernel_size: 3, stride: 2, padding: 1, dilation: 1 };
            row.push(("maxpool".to_owned(), Layer::MaxPool2d(pool).into()));
        }
        let mut channels = 64;
        for (place, (blocks, planes)) in self.depth.blocks().into_iter().zip([64, 128, 256, 512]).enumerate() {
            let blocks = (0..blocks).map(|block| {
                let stride = if place > 0 && block == 0 { 2 } else { 1 };
                (block.to_string(), self.block(&mut channels, planes, stride))
            });
            row.push((format!("layer{}", place + 1), Module::row(blocks)));
        }
        row.push(("avgpool".to_owned(), Layer::AdaptiveAvgPool2d(AdaptiveAvgPool { output_size: 1 }).into()));
        row.push(("flatten".to_owned(), Layer::Flatten(Flatten::default()).into()));
        row.push(("fc".to_owned(), Layer::Linear(Linear { out_features: Some(outputs), bias: true }).into()));
        Some(Module::Row(row))
    }

    /// Convolutions begin as in torchvision: normal, by the number of their outputs.
    fn weights(&self, task: &Task<'_>) -> Vec<Weight> {
        let Some((modules, input)) = self.modules(task.outputs).zip(task.flow()) else { return Vec::new() };
        let mut weights = modules.weights(&input);
        for weight in &mut weights {
            if let [out, _, height, width] = weight.shape[..] {
                let fan_out = out as f64 * height as f64 * width as f64;
                weight.initial = Initial::Normal((2.0 / fan_out).sqrt());
            }
        }
        weights
    }
}

impl Resnet {
    /// A block that takes so many channels, and tells how many it gives.
    fn block(&self, channels: &mut u32, planes: u32, stride: u32) -> Module {
        let (given, convolutions) = match self.depth {
            Depth::D18 | Depth::D34 => (planes, vec![conv(planes, 3, stride), conv(planes, 3, 1)]),
            Depth::D50 => (4 * planes, vec![conv(planes, 1, 1), conv(planes, 3, stride), conv(4 * planes, 1, 1)]),
        };
        let mut main = Vec::new();
        for (place, convolution) in (1..).zip(convolutions) {
            if place > 1 {
                main.push((format!("relu{}", place - 1), relu()));
            }
            main.extend([(format!("conv{place}"), convolution), (format!("bn{place}"), norm())]);
        }
        let mut shortcut = Vec::new();
        if stride != 1 || *channels != given {
            let downsample = Module::row([("0", conv(given, 1, stride)), ("1", norm())]);
            shortcut.push(("downsample".to_owned(), downsample));
        }
        *channels = given;
        let sum = Module::Sum(Box::new(Module::Row(main)), Box::new(Module::Row(shortcut)));
        Module::row([("", sum), ("relu", relu())])
    }
}

/// A convolution without a bias that keeps the size of an image, but for its stride.
fn conv(out_channels: u32, kernel_size: u32, stride: u32) -> Module {
    let (padding, dilation, groups) = (kernel_size / 2, 1, 1);
    Layer::Conv2d(Convolution { out_channels, kernel_size, stride, padding, dilation, groups, bias: false }).into()
}

fn norm() -> Module {
    Layer::BatchNorm2d(BatchNorm::default()).into()
}

fn relu() -> Module {
    Layer::Relu(Relu).into()
}
