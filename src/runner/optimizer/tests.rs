//! The optimizers against the formulas of PyTorch's documentation, operation by operation.

use tch::{Device, Kind, Tensor};
use torchd::job::spec::model::Initial;
use torchd::job::spec::optimizer::{Adagrad, Adam, AdamW, Lion, RmsProp, Sgd};
use torchd::job::spec::{Spec, Weight};
use torchd::proto::json;

use super::{Choice, Optimizer, Settings, clip_norm, clip_value, gradient_norm};
use crate::model::Held;
use crate::seed::tests::generator;
use crate::stateful::Stateful;

const STEPS: usize = 20;
const RATE: f64 = 0.05;

/// The weights after some steps with gradients that are drawn, by the optimizer and by `formula`,
/// which gets weight, gradient, the number of the step from 1, and a state of its own.
fn both(settings: &Choice, mut formula: impl FnMut(&mut Tensor, &Tensor, usize, &mut Vec<Tensor>)) -> [Tensor; 2] {
    let _alone = generator();
    let [weight, _] = Weight::layer("layer", &[7, 5]);
    let wanted = [Weight { initial: Initial::Uniform(1.0), ..weight }];
    let held = Held::draw(&wanted, 3, Device::Cpu, false).unwrap();
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

/// The direction of a step of Adam; `state` has the mean of gradients, that of squares, and the
/// largest of the latter.
fn adam_direction(numbers: &Adam, gradient: &Tensor, step: usize, state: &mut Vec<Tensor>) -> Tensor {
    if step == 1 {
        state.extend([gradient.zeros_like(), gradient.zeros_like(), gradient.zeros_like()]);
    }
    state[0] = &state[0] * numbers.beta1 + gradient * (1.0 - numbers.beta1);
    state[1] = &state[1] * numbers.beta2 + gradient.square() * (1.0 - numbers.beta2);
    state[2] = state[2].maximum(&state[1]);
    let square = &state[if numbers.amsgrad { 2 } else { 1 }];
    let corrected = |mean: &Tensor, beta: f64| mean / (1.0 - beta.powi(step as i32));
    corrected(&state[0], numbers.beta1) / (corrected(square, numbers.beta2).sqrt() + numbers.epsilon)
}

#[test]
fn adam_and_adamw_go_as_pytorch_tells_it() {
    for amsgrad in [false, true] {
        let (beta1, beta2, epsilon, weight_decay) = (0.9, 0.6, 1e-8, 0.1);
        let numbers = Adam { learning_rate: RATE, beta1, beta2, epsilon, weight_decay, amsgrad };
        let coupled = both(&Choice::Adam(numbers), |weight, gradient, step, state| {
            let gradient = gradient + &*weight * weight_decay;
            *weight = &*weight - adam_direction(&numbers, &gradient, step, state) * RATE;
        });
        assert!(largest(&coupled) < 1e-5, "{amsgrad}: {}", largest(&coupled));
        let settings = AdamW { learning_rate: RATE, beta1, beta2, epsilon, weight_decay, amsgrad };
        let decoupled = both(&Choice::Adamw(settings), |weight, gradient, step, state| {
            let direction = adam_direction(&numbers, gradient, step, state);
            *weight = &*weight * (1.0 - RATE * weight_decay) - direction * RATE;
        });
        assert!(largest(&decoupled) < 1e-5, "{amsgrad}: {}", largest(&decoupled));
    }
}

#[test]
fn rmsprop_goes_as_pytorch_tells_it() {
    for (momentum, centered) in [(0.0, false), (0.9, false), (0.0, true), (0.9, true)] {
        let (alpha, epsilon, weight_decay) = (0.9, 1e-8, 0.1);
        let settings = RmsProp { learning_rate: RATE, alpha, epsilon, weight_decay, momentum, centered };
        let tensors = both(&Choice::Rmsprop(settings), |weight, gradient, step, state| {
            if step == 1 {
                state.extend([gradient.zeros_like(), gradient.zeros_like(), gradient.zeros_like()]);
            }
            let gradient = gradient + &*weight * weight_decay;
            state[0] = &state[0] * alpha + gradient.square() * (1.0 - alpha);
            state[1] = &state[1] * alpha + &gradient * (1.0 - alpha);
            let variance = if centered { &state[0] - state[1].square() } else { state[0].copy() };
            state[2] = &state[2] * momentum + &gradient / (variance.sqrt() + epsilon);
            *weight = &*weight - &state[2] * RATE;
        });
        assert!(largest(&tensors) < 1e-4, "{settings:?}: {}", largest(&tensors));
    }
}

#[test]
fn adagrad_goes_as_pytorch_tells_it() {
    let settings = Adagrad {
        learning_rate: RATE,
        lr_decay: 0.1,
        initial_accumulator_value: 0.5,
        epsilon: 1e-10,
        weight_decay: 0.1,
    };
    let tensors = both(&Choice::Adagrad(settings), |weight, gradient, step, state| {
        if step == 1 {
            state.push(gradient.full_like(0.5));
        }
        let gradient = gradient + &*weight * 0.1;
        state[0] = &state[0] + gradient.square();
        let rate = RATE / (1.0 + (step - 1) as f64 * 0.1);
        *weight = &*weight - gradient / (state[0].sqrt() + 1e-10) * rate;
    });
    assert!(largest(&tensors) < 1e-6, "{}", largest(&tensors));
}

#[test]
fn lion_goes_as_its_paper_tells_it() {
    let settings = Lion { learning_rate: RATE, beta1: 0.9, beta2: 0.8, weight_decay: 0.1 };
    let tensors = both(&Choice::Lion(settings), |weight, gradient, step, state| {
        if step == 1 {
            state.push(gradient.zeros_like());
        }
        let direction = (&state[0] * 0.9 + gradient * 0.1).sign();
        state[0] = &state[0] * 0.8 + gradient * 0.2;
        *weight = &*weight - (direction + &*weight * 0.1) * RATE;
    });
    assert!(largest(&tensors) < 1e-6, "{}", largest(&tensors));
}

#[test]
fn a_parameter_without_a_gradient_stays_and_has_its_slots() {
    let _alone = generator();
    for settings in [
        r#"{"sgd": {"learning_rate": 0.1, "momentum": 0.9}}"#,
        r#"{"adamw": {"amsgrad": true}}"#,
        r#"{"adam": {}}"#,
        r#"{"rmsprop": {"momentum": 0.9, "centered": true}}"#,
        r#"{"adagrad": {"initial_accumulator_value": 0.5}}"#,
        r#"{"lion": {"weight_decay": 0.1}}"#,
    ] {
        let rest =
            r#""model": {"mlp": {}}, "data": {"train": {"safetensors": {"path": "p"}}}, "training": {"epochs": 1}"#;
        let request = json::from_str(&format!(r#"{{"optimizer": {settings}, {rest}}}"#)).unwrap();
        let settings = Spec::stored(&request).unwrap().model().unwrap().optimizer.clone();
        let held = Held::draw(&Weight::layer("layer", &[7, 5]), 3, Device::Cpu, false).unwrap();
        let parameters = held.parameters();
        let [weight, bias] = [0, 1].map(|place| parameters.tensors()[place].detach().copy());
        let mut optimizer = Optimizer::new(&settings, parameters).unwrap();
        optimizer.step(&[Some(Tensor::ones([7, 5], (Kind::Float, Device::Cpu))), None], RATE).unwrap();
        assert_ne!(parameters.tensors()[0].detach(), weight, "{settings:?}");
        assert_eq!(parameters.tensors()[1].detach(), bias, "{settings:?}");
        let mut kept = 0;
        let mut count = |_: &str, _: &Tensor| {
            kept += 1;
            Ok(())
        };
        optimizer.save(&mut count).unwrap();
        assert_eq!(kept, 2 * settings.slots().len() + usize::from(settings.counter().is_some()), "{settings:?}");
    }
}

#[test]
fn gradients_are_clipped_together_by_their_norm_and_each_by_its_value() {
    let gradients = || [Some(Tensor::from_slice(&[3f32, 0.0, -0.1])), None, Some(Tensor::from_slice(&[-4f32]))];
    let values = |gradients: &[Option<Tensor>]| {
        let values = gradients.iter().flatten().flat_map(|gradient| Vec::<f32>::try_from(gradient).unwrap());
        values.collect::<Vec<_>>()
    };
    let mut by_value = gradients();
    clip_value(&mut by_value, 0.5).unwrap();
    assert_eq!(values(&by_value), [0.5, 0.0, -0.1, -0.5]);
    let mut by_norm = gradients();
    let norm = gradient_norm(&by_norm).unwrap();
    clip_norm(&mut by_norm, &norm, 0.5).unwrap();
    let clipped = f64::try_from(gradient_norm(&by_norm).unwrap()).unwrap();
    assert!((f64::try_from(norm).unwrap() - 5.001).abs() < 1e-5 && (clipped - 0.5).abs() < 1e-6, "{clipped}");
}
