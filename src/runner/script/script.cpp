// TorchScript modules behind the C interface of script.h.
#include "script.h"

#include "../guarded.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/scalar_tensor.h>
#include <torch/csrc/jit/api/module.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/csrc/jit/serialization/import.h>

#include <string>
#include <vector>

struct torchd_script {
  torch::jit::Module module;
};

namespace {

void hand_over(const c10::IValue &value, const std::string &path, void *context, torchd_script_take take) {
  const auto below = [&](const std::string &part) { return path.empty() ? part : path + "." + part; };
  const auto give = [&](at::Tensor tensor) {
    take(context, path.c_str(), new at::Tensor(std::move(tensor)), TORCHD_SCRIPT_RESULT);
  };
  if (value.isTensor()) {
    give(value.toTensor());
  } else if (value.isDouble()) {
    give(at::scalar_tensor(value.toDouble(), at::kDouble));
  } else if (value.isInt()) {
    give(at::scalar_tensor(value.toInt(), at::kLong));
  } else if (value.isTuple()) {
    size_t place = 0;
    for (const auto &item : value.toTupleRef().elements()) hand_over(item, below(std::to_string(place++)), context, take);
  } else if (value.isGenericDict()) {
    for (const auto &entry : value.toGenericDict()) {
      TORCH_CHECK(entry.key().isString(), "it returns a dictionary whose keys are no strings");
      hand_over(entry.value(), below(entry.key().toStringRef()), context, take);
    }
  } else {
    TORCH_CHECK(false, "it returns a value of the type ", value.tagKind(), ", which is no tensor");
  }
}

// Not by named_parameters(), which leaves out the further names of tied tensors.
void hand_over_tensors(const torch::jit::Module &module, const std::string &prefix, void *context,
                       torchd_script_take take) {
  const auto type = module.type();
  for (size_t slot = 0; slot < type->numAttributes(); slot++) {
    const auto value = module._ivalue()->getSlot(slot);
    const std::string name = prefix + type->getAttributeName(slot);
    if (value.isModule()) {
      hand_over_tensors(value.toModule(), name + ".", context, take);
    } else if (value.isTensor() && (type->is_parameter(slot) || type->is_buffer(slot)) && value.toTensor().defined()) {
      const int parameter = value.toTensor().requires_grad() ? TORCHD_SCRIPT_PARAMETER : TORCHD_SCRIPT_FROZEN_PARAMETER;
      const int use = type->is_parameter(slot) ? parameter : TORCHD_SCRIPT_BUFFER;
      take(context, name.c_str(), new at::Tensor(value.toTensor()), use);
    }
  }
}

} // namespace

const char *torchd_script_error(void) { return last_error.c_str(); }

torchd_script *torchd_script_load(const char *path, const char *device) {
  torchd_script *loaded = nullptr;
  guarded([&] {
    // The optimising executor compiles during the first steps, and computes the same.
    torch::jit::setGraphExecutorOptimize(false);
    loaded = new torchd_script{torch::jit::load(std::string(path), c10::Device(device))};
  });
  return loaded;
}

void torchd_script_free(torchd_script *module) { delete module; }

int torchd_script_tensors(torchd_script *module, void *context, torchd_script_take take) {
  return guarded([&] {
    hand_over_tensors(module->module, "", context, take);
  });
}

int64_t torchd_script_arguments(const torchd_script *module, const char *method) {
  int64_t count = -1;
  guarded([&] {
    if (const auto found = module->module.find_method(method))
      count = static_cast<int64_t>(found->function().getSchema().arguments().size()) - 1;
  });
  return count;
}

int torchd_script_train(torchd_script *module, int is_training) {
  return guarded([&] { module->module.train(is_training != 0); });
}

int torchd_script_call(torchd_script *module, const char *method, void *const *tensors, size_t length, void *context,
                       torchd_script_take take) {
  return guarded([&] {
    std::vector<c10::IValue> arguments;
    for (size_t place = 0; place < length; place++)
      arguments.emplace_back(*static_cast<const at::Tensor *>(tensors[place]));
    hand_over(module->module.get_method(method)(std::move(arguments)), "", context, take);
  });
}

int torchd_script_save(torchd_script *module, const char *path) {
  return guarded([&] { module->module.save(std::string(path)); });
}
