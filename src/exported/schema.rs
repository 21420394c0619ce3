//! The JSON of an exported program as PyTorch writes it, schema 8.7 (PyTorch 2.7) to 8.20, field by
//! field. A field or a kind that stands in none of them is refused: it may change what the graph
//! computes. (PyTorch, torch/_export/serde/schema.py)
//!
//! Only the form: whether the names fit together is asked in `resolve`.

#![allow(dead_code, reason = "the form is read whole, also what nobody asks for")]
#![allow(clippy::enum_variant_names, reason = "the names are those of the file")]

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, Visitor};

/// Read first: they tell whether the rest can be understood.
#[derive(Debug, Deserialize)]
pub(super) struct Versions {
    pub(super) schema_version: SchemaVersion,
    #[serde(default)]
    pub(super) torch_version: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SchemaVersion {
    pub(super) major: u32,
    pub(super) minor: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ExportedProgram {
    pub(super) graph_module: GraphModule,
    pub(super) range_constraints: Entries<RangeConstraint>,
    opset_version: BTreeMap<String, i64>,
    pub(super) schema_version: SchemaVersion,
    #[serde(default)]
    pub(super) torch_version: String,
    #[serde(default)]
    pub(super) verifiers: Vec<String>,
    /// Python that guards the inputs; the ranges and shapes tell the same.
    #[serde(default)]
    guards_code: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RangeConstraint {
    pub(super) min_val: Option<i64>,
    pub(super) max_val: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GraphModule {
    pub(super) graph: Graph,
    pub(super) signature: GraphSignature,
    pub(super) module_call_graph: Vec<ModuleCallEntry>,
    #[serde(default)]
    metadata: BTreeMap<String, String>,
    #[serde(default)]
    treespec_namedtuple_fields: BTreeMap<String, NamedTupleDef>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedTupleDef {
    field_names: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Graph {
    pub(super) inputs: Vec<Argument>,
    pub(super) outputs: Vec<Argument>,
    pub(super) nodes: Vec<Node>,
    pub(super) tensor_values: Entries<TensorMeta>,
    pub(super) sym_int_values: Entries<SymInt>,
    pub(super) sym_bool_values: Entries<SymBool>,
    #[serde(default)]
    pub(super) sym_float_values: Entries<SymFloat>,
    #[serde(default)]
    is_single_tensor_return: bool,
    #[serde(default)]
    pub(super) custom_obj_values: BTreeMap<String, CustomObject>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Node {
    pub(super) target: String,
    pub(super) inputs: Vec<NamedArgument>,
    pub(super) outputs: Vec<Argument>,
    pub(super) metadata: BTreeMap<String, String>,
    #[serde(default)]
    is_hop_single_tensor_return: Option<bool>,
    #[serde(default)]
    pub(super) name: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NamedArgument {
    pub(super) name: String,
    pub(super) arg: Argument,
    /// Positional or by keyword; the name tells more.
    #[serde(default)]
    kind: Option<i64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Argument {
    AsNone(bool),
    AsTensor(Named),
    AsTensors(Vec<Named>),
    AsInt(i64),
    AsInts(Vec<i64>),
    AsFloat(Float),
    AsFloats(Vec<Float>),
    AsString(String),
    AsStrings(Vec<String>),
    AsSymInt(SymIntArgument),
    AsSymInts(Vec<SymIntArgument>),
    AsScalarType(i64),
    AsMemoryFormat(i64),
    AsLayout(i64),
    AsDevice(Device),
    AsBool(bool),
    AsBools(Vec<bool>),
    AsSymBool(SymBoolArgument),
    AsSymBools(Vec<SymBoolArgument>),
    AsGraph(GraphArgument),
    AsOptionalTensors(Vec<OptionalTensor>),
    AsCustomObj(CustomObject),
    AsOperator(String),
    AsSymFloat(SymFloatArgument),
    AsSymFloats(Vec<SymFloatArgument>),
    AsOptionalTensor(OptionalTensor),
    AsComplex(Complex),
    AsNestedTensors(Vec<Vec<Named>>),
    AsIntLists(Vec<Vec<i64>>),
    AsStringToArgument(BTreeMap<String, Argument>),
    AsFloatLists(Vec<Vec<Float>>),
}

impl Argument {
    /// Its kind, as the file calls it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::AsNone(_) => "as_none",
            Self::AsTensor(_) => "as_tensor",
            Self::AsTensors(_) => "as_tensors",
            Self::AsInt(_) => "as_int",
            Self::AsInts(_) => "as_ints",
            Self::AsFloat(_) => "as_float",
            Self::AsFloats(_) => "as_floats",
            Self::AsString(_) => "as_string",
            Self::AsStrings(_) => "as_strings",
            Self::AsSymInt(_) => "as_sym_int",
            Self::AsSymInts(_) => "as_sym_ints",
            Self::AsScalarType(_) => "as_scalar_type",
            Self::AsMemoryFormat(_) => "as_memory_format",
            Self::AsLayout(_) => "as_layout",
            Self::AsDevice(_) => "as_device",
            Self::AsBool(_) => "as_bool",
            Self::AsBools(_) => "as_bools",
            Self::AsSymBool(_) => "as_sym_bool",
            Self::AsSymBools(_) => "as_sym_bools",
            Self::AsGraph(_) => "as_graph",
            Self::AsOptionalTensors(_) => "as_optional_tensors",
            Self::AsCustomObj(_) => "as_custom_obj",
            Self::AsOperator(_) => "as_operator",
            Self::AsSymFloat(_) => "as_sym_float",
            Self::AsSymFloats(_) => "as_sym_floats",
            Self::AsOptionalTensor(_) => "as_optional_tensor",
            Self::AsComplex(_) => "as_complex",
            Self::AsNestedTensors(_) => "as_nested_tensors",
            Self::AsIntLists(_) => "as_int_lists",
            Self::AsStringToArgument(_) => "as_string_to_argument",
            Self::AsFloatLists(_) => "as_float_lists",
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum SymIntArgument {
    AsName(String),
    AsInt(i64),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum SymFloatArgument {
    AsName(String),
    AsFloat(Float),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum SymBoolArgument {
    AsName(String),
    AsBool(bool),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum OptionalTensor {
    AsTensor(Named),
    AsNone(bool),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GraphArgument {
    name: String,
    pub(super) graph: Box<Graph>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CustomObject {
    name: String,
    pub(super) class_fqn: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Complex {
    real: Float,
    imag: Float,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Device {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) index: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TensorMeta {
    pub(super) dtype: i64,
    pub(super) sizes: Vec<SymInt>,
    pub(super) requires_grad: bool,
    pub(super) device: Device,
    pub(super) strides: Vec<SymInt>,
    pub(super) storage_offset: SymInt,
    pub(super) layout: i64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum SymInt {
    AsExpr(SymExpr),
    AsInt(i64),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum SymFloat {
    AsExpr(SymExpr),
    AsFloat(Float),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum SymBool {
    AsExpr(SymExpr),
    AsBool(bool),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SymExpr {
    pub(super) expr_str: String,
    #[serde(default)]
    hint: Option<Hint>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Hint {
    AsInt(i64),
    AsBool(bool),
    AsFloat(Float),
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GraphSignature {
    pub(super) input_specs: Vec<InputSpec>,
    pub(super) output_specs: Vec<OutputSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum InputSpec {
    UserInput { arg: Argument },
    Parameter { arg: Named, parameter_name: String },
    Buffer { arg: Named, buffer_name: String, persistent: bool },
    TensorConstant { arg: Named, tensor_constant_name: String },
    CustomObj { arg: CustomObject, custom_obj_name: String },
    Token { arg: Named },
    ConstantInput { name: String, value: ConstantValue },
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum ConstantValue {
    AsNone(bool),
    AsInt(i64),
    AsFloat(Float),
    AsString(String),
    AsBool(bool),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum OutputSpec {
    UserOutput { arg: Argument },
    LossOutput { arg: Named },
    BufferMutation { arg: Named, buffer_name: String },
    GradientToParameter { arg: Named, parameter_name: String },
    GradientToUserInput { arg: Named, user_input_name: String },
    UserInputMutation { arg: Named, user_input_name: String },
    Token { arg: Named },
    ParameterMutation { arg: Named, parameter_name: String },
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModuleCallEntry {
    pub(super) fqn: String,
    #[serde(default)]
    pub(super) signature: Option<ModuleCallSignature>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModuleCallSignature {
    inputs: Vec<Argument>,
    outputs: Vec<Argument>,
    in_spec: String,
    pub(super) out_spec: String,
    #[serde(default)]
    forward_arg_names: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PayloadConfig {
    pub(super) config: Entries<PayloadMeta>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PayloadMeta {
    pub(super) path_name: String,
    pub(super) is_param: bool,
    pub(super) use_pickle: bool,
    pub(super) tensor_meta: Option<TensorMeta>,
}

/// The entries of an object as they come; a name that stands there twice is refused.
#[derive(Debug)]
pub(super) struct Entries<T>(pub(super) Vec<(String, T)>);

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Entries<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Reader<T> {
            type Value = Entries<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Entries<T>, M::Error> {
                let mut seen = std::collections::HashSet::new();
                let mut entries = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if !seen.insert(name.clone()) {
                        return Err(de::Error::custom(format_args!("{name:?} stands there twice")));
                    }
                    entries.push((name, map.next_value()?));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(Reader(PhantomData))
    }
}

/// A number with a fraction. JSON has no infinities: they come as strings.
#[derive(Debug, Clone, Copy)]
pub(super) struct Float(pub(super) f64);

impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Float;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(r#"a number, "Infinity", "-Infinity" or "NaN""#)
            }

            fn visit_f64<E: de::Error>(self, number: f64) -> Result<Float, E> {
                Ok(Float(number))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Float, E> {
                Ok(Float(number as f64))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Float, E> {
                Ok(Float(number as f64))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Float, E> {
                match text {
                    "Infinity" => Ok(Float(f64::INFINITY)),
                    "-Infinity" => Ok(Float(f64::NEG_INFINITY)),
                    "NaN" => Ok(Float(f64::NAN)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Reader)
    }
}
