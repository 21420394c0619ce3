//! Whether a graph asks for values of the device while it runs. Such a graph cannot be captured as
//! a CUDA graph: what is recorded happens later, and there is no value to ask for.
//!
//! The list is of operators whose results have sizes that depend on values, whose results are
//! numbers of the host, that take numbers of the host out of tensors, and that check their
//! arguments on the host (`native/cuda/` in PyTorch 2.11). It cannot be whole: indexing with a
//! mask is told from indexing with places only by a type that a plan does not have. A capture that
//! fails for it names the node.

use super::plan::{Action, Operand, Plan, Step};

/// Operators of aten that ask for values of the device.
const NAMES: [&str; 29] = [
    "_assert_scalar",
    "_local_scalar_dense",
    "_unique2",
    "allclose",
    "argwhere",
    "bincount",
    "cholesky",
    "combinations",
    "ctc_loss",
    "equal",
    "histc",
    "inverse",
    "is_nonzero",
    "item",
    "lstsq",
    "masked_select",
    "matrix_exp",
    "multinomial",
    "nonzero",
    "nonzero_numpy",
    "nonzero_static",
    "pinverse",
    "qr",
    "svd",
    "tensor_split",
    "to_sparse",
    "triangular_solve",
    "unique_consecutive",
    "unique_dim",
];

/// Operators of linear algebra that ask for nothing.
const PRODUCTS: [&str; 6] =
    ["linalg_cross", "linalg_diagonal", "linalg_matmul", "linalg_multi_dot", "linalg_vecdot", "linalg_vector_norm"];

/// Operators with random numbers of their own besides those of the generator: a replay would go on
/// with them, where a step begins anew from its seed.
const RECURRENT: [&str; 4] = ["gru", "lstm", "rnn_relu", "rnn_tanh"];

/// The first step of a graph, or of one within it, that keeps it from being captured, in words;
/// None where no step is known to.
pub fn first(plan: &Plan) -> Option<String> {
    plan.steps.iter().find_map(|step| why(step).or_else(|| step.action.plans().find_map(first)))
}

/// Why a step keeps its graph from being captured.
fn why(Step { action, origin, .. }: &Step) -> Option<String> {
    let reason = match action {
        Action::Call { name, overload, .. } => {
            let name = name.strip_prefix("aten::").unwrap_or(name);
            // Of one argument: the places that are not zero.
            let finds_places = name == "where" && overload.is_empty();
            // Decompositions and their kin ask whether they went well.
            let decomposes = name.starts_with("linalg_") && !PRODUCTS.contains(&name);
            let repeats_by_tensor = name == "repeat_interleave" && overload != "self_int";
            if finds_places || decomposes || repeats_by_tensor || NAMES.contains(&name) {
                "waits for values on the host"
            } else if RECURRENT.contains(&name) {
                "keeps random numbers of its own"
            } else {
                return None;
            }
        }
        Action::Cond { condition: Operand::Slot(_), .. } => "takes a branch by a value on the host",
        Action::Cond { condition: Operand::Number(_), .. }
        | Action::Compute(..)
        | Action::SetGrad { .. }
        | Action::Autocast { .. } => return None,
    };
    Some(format!("{origin} {reason}"))
}

#[cfg(test)]
mod tests {
    use super::super::arithmetic::Number;
    use super::super::plan::Origin;
    use super::*;

    fn step(action: Action) -> Step {
        let origin = Origin { node: "n".into(), target: "t".into(), trace: None };
        Step { action, results: Vec::new(), last_uses: Vec::new(), origin }
    }

    fn call(name: &str, overload: &str) -> Action {
        Action::Call { name: format!("aten::{name}"), overload: overload.into(), arguments: Vec::new() }
    }

    fn of(actions: Vec<Action>) -> Plan {
        Plan { steps: actions.into_iter().map(step).collect(), ..Plan::default() }
    }

    #[test]
    fn a_graph_that_asks_for_values_is_told_by_its_node() {
        let cond = |condition, yes: Plan| Action::Cond {
            condition,
            yes: yes.into(),
            no: Plan::default().into(),
            inputs: Vec::new(),
        };
        let slot = Operand::Slot(0);
        let number = Operand::Number(Number::Bool(true));
        let within = |action| Action::SetGrad { is_enabled: false, plan: of(vec![action]).into(), inputs: Vec::new() };
        for (action, reason) in [
            (call("linear", ""), None),
            (call("where", "self"), None),
            (call("where", ""), Some("waits for values on the host")),
            (call("item", ""), Some("waits for values on the host")),
            (call("linalg_inv", ""), Some("waits for values on the host")),
            (call("linalg_vector_norm", ""), None),
            (call("repeat_interleave", "self_int"), None),
            (call("repeat_interleave", "self_Tensor"), Some("waits for values on the host")),
            (call("lstm", "input"), Some("keeps random numbers of its own")),
            (cond(slot, Plan::default()), Some("takes a branch by a value on the host")),
            (cond(number, Plan::default()), None),
            (cond(number, of(vec![call("nonzero", "")])), Some("waits for values on the host")),
            (within(call("masked_select", "")), Some("waits for values on the host")),
        ] {
            let plan = of(vec![call("relu", ""), action.clone()]);
            assert_eq!(first(&plan), reason.map(|reason| format!("node n (t) {reason}")), "{action:?}");
        }
    }

    #[test]
    fn the_list_has_each_name_once_and_in_order() {
        assert!(NAMES.is_sorted_by(|one, other| one < other));
    }
}
