// ATen's dispatcher behind the C interface of aten.h.
#include "aten.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/scalar_tensor.h>

#include <cstdlib>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

struct torchd_aten_call {
  c10::OperatorHandle handle;
  std::vector<c10::IValue> arguments;
};

namespace {

thread_local std::string last_error;

// Runs `work`; 0, or 1 with the reason kept.
template <typename Work> int guarded(const Work &work) {
  try {
    work();
    return 0;
  } catch (const c10::Error &error) {
    last_error = error.what_without_backtrace();
  } catch (const std::exception &error) {
    last_error = error.what();
  } catch (...) {
    last_error = "libtorch threw something that is no exception";
  }
  return 1;
}

// The tensor that Python makes of a number where an operator takes a tensor. A wrapped number takes
// part in type promotion as a number does, not as a tensor.
c10::IValue wrapped(const c10::Scalar &number, at::ScalarType type) {
  at::Tensor tensor = at::scalar_tensor(number, at::TensorOptions(at::kCPU).dtype(type));
  tensor.unsafeGetTensorImpl()->set_wrapped_number(true);
  return tensor;
}

template <typename Item> std::vector<Item> items(const torchd_aten_value &value) {
  const auto *first = static_cast<const Item *>(value.pointer);
  return std::vector<Item>(first, first + value.length);
}

std::string text(const torchd_aten_value &value) {
  return std::string(static_cast<const char *>(value.pointer), value.length);
}

c10::IValue to_ivalue(const torchd_aten_value &value, const c10::Argument &argument) {
  switch (value.tag) {
  case TORCHD_ATEN_NONE:
    return {};
  case TORCHD_ATEN_TENSOR:
    return *static_cast<const at::Tensor *>(value.pointer);
  case TORCHD_ATEN_INT:
    return value.integer;
  case TORCHD_ATEN_DOUBLE:
    return value.number;
  case TORCHD_ATEN_BOOL:
    return value.integer != 0;
  case TORCHD_ATEN_INTS:
    return items<int64_t>(value);
  case TORCHD_ATEN_DOUBLES:
    return items<double>(value);
  case TORCHD_ATEN_BOOLS: {
    c10::List<bool> list;
    for (const uint8_t item : items<uint8_t>(value)) list.push_back(item != 0);
    return list;
  }
  case TORCHD_ATEN_STRING:
    return text(value);
  case TORCHD_ATEN_TENSORS: {
    c10::List<at::Tensor> list;
    for (const at::Tensor *item : items<const at::Tensor *>(value)) list.push_back(*item);
    return list;
  }
  case TORCHD_ATEN_OPTIONAL_TENSORS: {
    c10::List<std::optional<at::Tensor>> list;
    for (const at::Tensor *item : items<const at::Tensor *>(value))
      list.push_back(item ? std::optional<at::Tensor>(*item) : std::nullopt);
    return list;
  }
  case TORCHD_ATEN_DEVICE:
    return c10::Device(text(value));
  case TORCHD_ATEN_DEFAULT:
    TORCH_CHECK(argument.default_value().has_value(), "the argument ", argument.name(), " has no default");
    return *argument.default_value();
  case TORCHD_ATEN_WRAPPED_INT:
    return wrapped(value.integer, at::kLong);
  case TORCHD_ATEN_WRAPPED_DOUBLE:
    return wrapped(value.number, at::kDouble);
  case TORCHD_ATEN_WRAPPED_BOOL:
    return wrapped(value.integer != 0, at::kBool);
  default:
    TORCH_CHECK(false, "an argument has the unknown tag ", value.tag);
  }
}

torchd_aten_value to_value(c10::IValue &&value) {
  torchd_aten_value result{};
  if (value.isNone()) {
    result.tag = TORCHD_ATEN_NONE;
  } else if (value.isTensor()) {
    result.tag = TORCHD_ATEN_TENSOR;
    result.pointer = new at::Tensor(std::move(value).toTensor());
  } else if (value.isInt()) {
    result.tag = TORCHD_ATEN_INT;
    result.integer = value.toInt();
  } else if (value.isDouble()) {
    result.tag = TORCHD_ATEN_DOUBLE;
    result.number = value.toDouble();
  } else if (value.isBool()) {
    result.tag = TORCHD_ATEN_BOOL;
    result.integer = value.toBool();
  } else if (value.isTensorList()) {
    const auto list = std::move(value).toTensorList();
    auto **array = static_cast<at::Tensor **>(std::malloc(sizeof(at::Tensor *) * (list.size() + 1)));
    if (array == nullptr) throw std::bad_alloc();
    for (size_t place = 0; place < list.size(); place++) array[place] = new at::Tensor(list.get(place));
    result.tag = TORCHD_ATEN_TENSORS;
    result.pointer = array;
    result.length = list.size();
  } else {
    TORCH_CHECK(false, "a result of type ", value.tagKind(), " is not taken");
  }
  return result;
}

} // namespace

const char *torchd_aten_error(void) { return last_error.c_str(); }

int torchd_aten_schemas(const char *name_space, void *context, torchd_aten_text take) {
  return guarded([&] {
    auto &dispatcher = c10::Dispatcher::singleton();
    const std::string prefix = std::string(name_space) + "::";
    for (const auto &name : dispatcher.getAllOpNames()) {
      if (name.name.rfind(prefix, 0) != 0) continue;
      const auto found = dispatcher.findSchema(name);
      if (!found) continue;
      std::ostringstream schema;
      schema << found->schema();
      take(context, schema.str().c_str());
    }
  });
}

torchd_aten_call *torchd_aten_prepare(const char *name, const char *overload, const torchd_aten_value *arguments,
                                      size_t length) {
  torchd_aten_call *call = nullptr;
  guarded([&] {
    const auto found = c10::Dispatcher::singleton().findSchema({name, overload});
    TORCH_CHECK(found, "libtorch has no operator ", name, overload[0] ? "." : "", overload);
    const auto &wanted = found->schema().arguments();
    TORCH_CHECK(wanted.size() == length, name, " takes ", wanted.size(), " arguments, ", length, " are given");
    std::vector<c10::IValue> values;
    values.reserve(length);
    for (size_t place = 0; place < length; place++) values.push_back(to_ivalue(arguments[place], wanted[place]));
    call = new torchd_aten_call{*found, std::move(values)};
  });
  return call;
}

void torchd_aten_free(torchd_aten_call *call) { delete call; }

int torchd_aten_run(const torchd_aten_call *call, const size_t *places, const torchd_aten_value *arguments,
                    size_t length, torchd_aten_value *results, size_t most, size_t *found) {
  *found = 0;
  return guarded([&] {
    const auto &wanted = call->handle.schema().arguments();
    torch::jit::Stack stack(call->arguments);
    for (size_t place = 0; place < length; place++)
      stack.at(places[place]) = to_ivalue(arguments[place], wanted.at(places[place]));
    call->handle.callBoxed(stack);
    TORCH_CHECK(stack.size() <= most, "it returned ", stack.size(), " values; ", most, " at most are taken");
    // Counted one by one: the caller owns what is counted, even if a later one is not taken.
    for (auto &value : stack) {
      results[*found] = to_value(std::move(value));
      ++*found;
    }
  });
}

int torchd_aten_autocast_enter(const char *device_type, torchd_aten_autocast state, torchd_aten_autocast *before) {
  return guarded([&] {
    const auto device = c10::Device(device_type).type();
    before->is_enabled = at::autocast::is_autocast_enabled(device);
    before->data_type = static_cast<int32_t>(at::autocast::get_autocast_dtype(device));
    before->is_cached = at::autocast::is_autocast_cache_enabled();
    at::autocast::set_autocast_enabled(device, state.is_enabled != 0);
    if (state.data_type >= 0) at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(state.data_type));
    if (state.is_cached >= 0) at::autocast::set_autocast_cache_enabled(state.is_cached != 0);
    at::autocast::increment_nesting();
  });
}

int torchd_aten_autocast_leave(const char *device_type, torchd_aten_autocast before) {
  return guarded([&] {
    const auto device = c10::Device(device_type).type();
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device, before.is_enabled != 0);
    at::autocast::set_autocast_dtype(device, static_cast<at::ScalarType>(before.data_type));
    at::autocast::set_autocast_cache_enabled(before.is_cached != 0);
  });
}
