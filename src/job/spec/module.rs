//! Networks as trees of named modules: layers, modules in a row, and sums of two ways. The runner
//! computes any such tree.

use super::Weight;
use super::layer::{Flow, Layer, Refusal};

/// A module.
#[derive(Debug, Clone, PartialEq)]
pub enum Module {
    /// A layer.
    Layer(Layer),
    /// Modules one behind the other, by name. One without a name adds nothing to the names in it.
    Row(Vec<(String, Module)>),
    /// The sum of the outputs of two modules for the same input. A row of none gives its input.
    Sum(Box<Module>, Box<Module>),
}

/// A place at which a tree does not take its input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Misfit {
    /// The name of the layer in the tree.
    pub module: String,
    /// Its kind.
    pub layer: &'static str,
    /// Its input.
    pub gets: Flow,
    /// The values that it takes; None where the data do not tell its output yet.
    pub takes: Option<String>,
}

/// Hears of each layer with its name and its input.
type Visit<'a, 'b> = &'b mut dyn FnMut(&str, &'a Layer, &Flow);

impl Module {
    /// Modules one behind the other, by name.
    pub fn row<N: Into<String>>(modules: impl IntoIterator<Item = (N, Self)>) -> Self {
        Self::Row(modules.into_iter().map(|(name, module)| (name.into(), module)).collect())
    }

    /// Its output for such an input.
    ///
    /// # Errors
    /// The first layer that has none.
    pub fn gives(&self, input: &Flow) -> Result<Flow, Box<Misfit>> {
        self.walk("", input, &mut |_, _, _| {})
    }

    /// Its tensors for an input that it takes, in the order of PyTorch's `state_dict`.
    pub fn weights(&self, input: &Flow) -> Vec<Weight> {
        let mut weights = Vec::new();
        let walked = self.walk("", input, &mut |name, layer, input| {
            weights.extend(layer.weights(input).into_iter().map(|weight| weight.within(name)));
        });
        if walked.is_ok() { weights } else { Vec::new() }
    }

    /// The name and the kind of the first layer that cannot train on a batch of one such input.
    pub fn needs_two(&self, input: &Flow) -> Option<(String, &'static str)> {
        let mut found = None;
        let walked = self.walk("", input, &mut |name, layer, input| {
            if found.is_none() && layer.needs_two(input) {
                found = Some((name.to_owned(), layer.name()));
            }
        });
        walked.ok().and(found)
    }

    /// Goes through the layers in the order of their computation, in which the way of a residual
    /// connection comes last.
    fn walk<'a>(&'a self, name: &str, input: &Flow, visit: Visit<'a, '_>) -> Result<Flow, Box<Misfit>> {
        match self {
            Self::Layer(layer) => {
                let given = layer.gives(input).map_err(|refusal| {
                    let takes = match refusal {
                        Refusal::Takes(takes) => Some(takes),
                        Refusal::Unknown => None,
                    };
                    Misfit { module: name.to_owned(), layer: layer.name(), gets: input.clone(), takes }
                })?;
                visit(name, layer, input);
                Ok(given)
            }
            Self::Row(modules) => {
                let mut flow = input.clone();
                for (inner, module) in modules {
                    flow = module.walk(&within(name, inner), &flow, visit)?;
                }
                Ok(flow)
            }
            Self::Sum(first, second) => {
                let given = first.walk(name, input, visit)?;
                let gets = second.walk(name, input, visit)?;
                let takes = Some(format!("{given}, to add both"));
                let misfit = |gets| Box::new(Misfit { module: name.to_owned(), layer: "sum", gets, takes });
                if given == gets { Ok(given) } else { Err(misfit(gets)) }
            }
        }
    }
}

impl From<Layer> for Module {
    fn from(layer: Layer) -> Self {
        Self::Layer(layer)
    }
}

/// The name of a module within another one.
pub fn within(outer: &str, inner: &str) -> String {
    match (outer, inner) {
        ("", name) | (name, "") => name.to_owned(),
        (outer, inner) => format!("{outer}.{inner}"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::layer::{BatchNorm, Convolution, Flatten, Linear, Relu};
    use super::*;

    fn conv(out_channels: u32, stride: u32) -> Module {
        let conv =
            Convolution { out_channels, kernel_size: 3, stride, padding: 1, dilation: 1, groups: 1, bias: false };
        Layer::Conv2d(conv).into()
    }

    fn tree(stride: u32) -> Module {
        let norm = Layer::BatchNorm2d(BatchNorm::default());
        let main = Module::row([("conv", conv(4, stride)), ("bn", norm.into())]);
        let sum = Module::Sum(Box::new(main), Box::new(Module::row([("shortcut", conv(4, 2))])));
        let linear = Layer::Linear(Linear { out_features: Some(2), bias: true });
        Module::row([
            ("block", Module::row([("", sum), ("relu", Layer::Relu(Relu).into())])),
            ("flat", Layer::Flatten(Flatten::default()).into()),
            ("fc", linear.into()),
        ])
    }

    #[test]
    fn tensors_are_named_by_their_place_in_the_tree_with_the_sizes_that_the_input_calls_for() {
        let input = Flow::numbers([3, 7, 9]);
        assert_eq!(tree(2).gives(&input).unwrap(), Flow::numbers([2]));
        let weights = tree(2).weights(&input);
        let told: Vec<_> = weights.iter().map(|told| (told.name.as_str(), told.shape.as_slice())).collect();
        let channels = &[4][..];
        assert_eq!(
            told,
            [
                ("block.conv.weight", &[4, 3, 3, 3][..]),
                ("block.bn.weight", channels),
                ("block.bn.bias", channels),
                ("block.bn.running_mean", channels),
                ("block.bn.running_var", channels),
                ("block.bn.num_batches_tracked", &[]),
                ("block.shortcut.weight", &[4, 3, 3, 3]),
                ("fc.weight", &[2, 80]),
                ("fc.bias", &[2]),
            ]
        );
    }

    #[test]
    fn the_first_place_that_does_not_take_its_input_is_told() {
        let misfit = tree(1).gives(&Flow::numbers([3, 8, 8])).unwrap_err();
        assert_eq!((misfit.module.as_str(), misfit.layer), ("block", "sum"));
        let misfit = tree(2).gives(&Flow::numbers([8, 8])).unwrap_err();
        assert_eq!(
            (misfit.module.as_str(), misfit.takes.as_deref()),
            ("block.conv", Some("[channels, height, width]"))
        );
    }

    #[test]
    fn a_normalisation_over_the_examples_alone_needs_two_of_them() {
        assert_eq!(tree(2).needs_two(&Flow::numbers([3, 8, 8])), None);
        assert_eq!(tree(2).needs_two(&Flow::numbers([3, 1, 1])), Some(("block.bn".into(), "batch_norm2d")));
    }
}
