//! The optimizers against the formulas of PyTorch's documentation, operation by operation.

use tch::{Device, Kind, Tensor};
use torchd::job::spec::Weight;
use torchd::job::spec::model::Initial;
use torchd::job::spec::optimizer::{AdamW, Sgd};

use super::{Choice, Optimizer, Settings};
use crate::model::Held;
use crate::seed::tests::generator;

const STEPS: usize = 20;
const RATE: f64 = 0.05;

/// The weights after some steps with gradients that are drawn, by the optimizer and by `formula`,
/// which gets weight, gradient, the number of the step from 1, and a state of its own.
fn both(settings: &Choice, mut formula: impl FnMut(&mut Tensor, &Tensor, usize, &mut Vec<Tensor>)) -> [Tensor; 2] {
    let _alone = generator();
    let [weight, _] = Weight::layer("layer", &[7, 5]);
    let wanted = [Weight { initial: Initial::Uniform(1.0), ..weight }];
    let held = Held::draw(&wanted, 3, Device::Cpu).unwrap();
    let parameters = held.parameters();
    let mut plain = parameters.tensors()[0].detach().copy();
    let settings = Settings::from(settings.clone());
    let (mut optimizer, mut state) = (Optimizer::new(&settings, parameters).unwrap(), Vec::new());
    for step in 1..=STEPS {
        let gradient = Tensor::randn([7, 5], (Kind::Float, Device::Cpu));
        optimizer.step(&[Some(gradient.copy())], RATE).unwrap();
        formula(&mut plain, &gradient, step, &mut state);
    }
    [parameters.tensors()[0].detach(), plain]
}

fn largest(tensors: &[Tensor; 2]) -> f64 {
    (&tensors[0] - &tensors[1]).abs().max().double_value(&[])
}

/// `weight - rate * direction` in one operation, as `add_(direction, alpha=-rate)` does it: the
/// product is rounded together with the sum.
fn descend(weight: &Tensor, direction: &Tensor) -> Tensor {
    let exact = weight.to_kind(Kind::Double) - direction.to_kind(Kind::Double) * f64::from(RATE as f32);
    exact.to_kind(Kind::Float)
}

#[test]
fn sgd_goes_as_pytorch_tells_it() {
    let plain = Sgd { learning_rate: RATE, momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 };
    for settings in [
        plain,
        Sgd { momentum: 0.9, ..plain },
        Sgd { momentum: 0.9, dampening: 0.3, weight_decay: 0.01, ..plain },
        Sgd { momentum: 0.9, nesterov: true, weight_decay: 0.01, ..plain },
    ] {
        let Sgd { momentum, dampening, nesterov, weight_decay, .. } = settings;
        let tensors = both(&Choice::Sgd(settings), |weight, gradient, step, state| {
            let gradient = gradient + &*weight * weight_decay;
            if step == 1 {
                state.push(gradient.copy());
            } else {
                state[0] = &state[0] * momentum + &gradient * (1.0 - dampening);
            }
            let direction = match (momentum == 0.0, nesterov) {
                (true, _) => gradient,
                (false, true) => gradient + &state[0] * momentum,
                (false, false) => state[0].copy(),
            };
            *weight = descend(weight, &direction);
        });
        assert!(largest(&tensors) < 1e-6, "{settings:?}: {}", largest(&tensors));
    }
}

#[test]
fn adamw_goes_as_pytorch_tells_it() {
    let settings = AdamW { learning_rate: RATE, beta1: 0.9, beta2: 0.99, epsilon: 1e-8, weight_decay: 0.1 };
    let AdamW { beta1, beta2, epsilon, weight_decay, .. } = settings;
    let tensors = both(&Choice::Adamw(settings), |weight, gradient, step, state| {
        if step == 1 {
            state.extend([gradient.zeros_like(), gradient.zeros_like()]);
        }
        state[0] = &state[0] * beta1 + gradient * (1.0 - beta1);
        state[1] = &state[1] * beta2 + gradient.square() * (1.0 - beta2);
        let corrected = |mean: &Tensor, beta: f64| mean / (1.0 - beta.powi(step as i32));
        let (mean, square) = (corrected(&state[0], beta1), corrected(&state[1], beta2));
        *weight = &*weight * (1.0 - RATE * weight_decay) - mean / (square.sqrt() + epsilon) * RATE;
    });
    assert!(largest(&tensors) < 1e-5, "{}", largest(&tensors));
}
