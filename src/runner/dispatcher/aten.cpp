// ATen's dispatcher behind the C interface of aten.h.
#include "aten.h"

#include <ATen/autocast_mode.h>
#include <ATen/core/List.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/core/ivalue.h>
#include <ATen/ops/scalar_tensor.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <variant>
#include <vector>

namespace {

using Tensors = c10::List<at::Tensor>;
using OptionalTensors = c10::List<std::optional<at::Tensor>>;
using Ints = c10::List<int64_t>;
using Lists = std::variant<std::monostate, Tensors, OptionalTensors, Ints>;

// An argument that comes out of slots, with the list that is filled anew for each call.
struct Source {
  size_t place;
  torchd_aten_form form;
  std::vector<int64_t> slots;
  std::vector<int64_t> numbers;
  size_t length;
  // The only use of a slot whose last use this call is: the value moves.
  bool moves;
  Lists list;
};

struct Place {
  bool is_list;
  std::vector<int64_t> slots;
};

} // namespace

struct torchd_aten_call {
  c10::OperatorHandle handle;
  std::vector<c10::IValue> arguments;
  std::vector<Source> sources;
  std::vector<Place> places;
  std::vector<size_t> last_uses;
};

struct torchd_aten_frame {
  struct Slot {
    c10::IValue value;
    bool is_set = false;
  };
  std::vector<Slot> slots;
};

namespace {

using Frame = torchd_aten_frame;

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
    const auto *const *first = static_cast<const at::Tensor *const *>(value.pointer);
    c10::List<at::Tensor> list;
    list.reserve(value.length);
    for (size_t place = 0; place < value.length; place++) list.push_back(*first[place]);
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

// The stack of this thread's call, with its room kept from call to call. A call within a call has
// one of its own.
class Stack {
public:
  Stack() : is_shared(!is_in_use()), own(is_shared ? shared() : nested) { is_in_use() = true; }
  ~Stack() {
    own.clear();
    if (is_shared) is_in_use() = false;
  }
  Stack(const Stack &) = delete;
  Stack &operator=(const Stack &) = delete;
  torch::jit::Stack &operator*() { return own; }

private:
  static torch::jit::Stack &shared() {
    static thread_local torch::jit::Stack stack;
    return stack;
  }
  static bool &is_in_use() {
    static thread_local bool is = false;
    return is;
  }
  const bool is_shared;
  torch::jit::Stack nested;
  torch::jit::Stack &own;
};

const c10::IValue &in_slot(const Frame &frame, size_t slot) {
  TORCH_CHECK(slot < frame.slots.size() && frame.slots[slot].is_set, "the value ", slot,
              " is used, and not there");
  return frame.slots[slot].value;
}

void put(Frame &frame, int64_t slot, c10::IValue &&value) {
  if (slot < 0 || static_cast<size_t>(slot) >= frame.slots.size()) return;
  frame.slots[slot] = {std::move(value), true};
}

void drop(Frame &frame, size_t slot) {
  if (slot < frame.slots.size() && frame.slots[slot].is_set) frame.slots[slot] = {};
}

const at::Tensor &tensor_in(const Frame &frame, size_t slot) {
  const auto &value = in_slot(frame, slot);
  TORCH_CHECK(value.isTensor(), value, " (", value.tagKind(), ") is used as a tensor");
  return value.toTensor();
}

const c10::IValue &number_in(const Frame &frame, size_t slot) {
  const auto &value = in_slot(frame, slot);
  TORCH_CHECK(value.isInt() || value.isDouble() || value.isBool(), "a ", value.tagKind(), " is used as a number");
  return value;
}

int64_t whole_in(const Frame &frame, size_t slot) {
  const auto &value = number_in(frame, slot);
  TORCH_CHECK(value.isInt(), value, " (", value.tagKind(), ") is used as a whole number");
  return value.toInt();
}

// The list of a source to be filled: that of the last call, which is empty.
template <typename List> List &list_of(Source &source) {
  if (!std::holds_alternative<List>(source.list)) {
    source.list = List();
    std::get<List>(source.list).reserve(source.length);
  }
  return std::get<List>(source.list);
}

// Empties the lists of a call when it is over, so that they keep no tensor. One that somebody else
// has by now is theirs.
struct Emptied {
  torchd_aten_call &call;
  ~Emptied() {
    const auto empty = [](auto &list, Lists &kept) {
      if (list.use_count() == 1)
        list.clear();
      else
        kept = std::monostate();
    };
    for (auto &source : call.sources) {
      if (auto *tensors = std::get_if<Tensors>(&source.list)) empty(*tensors, source.list);
      else if (auto *optional = std::get_if<OptionalTensors>(&source.list)) empty(*optional, source.list);
      else if (auto *ints = std::get_if<Ints>(&source.list)) empty(*ints, source.list);
    }
  }
};

c10::IValue argument(Frame &frame, Source &source) {
  const auto slot = static_cast<size_t>(source.slots.empty() ? 0 : source.slots[0]);
  switch (source.form) {
  case TORCHD_ATEN_FORM_TENSOR: {
    tensor_in(frame, slot);
    if (!source.moves) return frame.slots[slot].value;
    frame.slots[slot].is_set = false;
    return std::move(frame.slots[slot].value);
  }
  case TORCHD_ATEN_FORM_TENSORS: {
    auto &list = list_of<Tensors>(source);
    for (const int64_t item : source.slots) list.push_back(tensor_in(frame, item));
    return list;
  }
  case TORCHD_ATEN_FORM_OPTIONAL_TENSORS: {
    auto &list = list_of<OptionalTensors>(source);
    for (const int64_t item : source.slots)
      list.push_back(item < 0 ? std::nullopt : std::optional<at::Tensor>(tensor_in(frame, item)));
    return list;
  }
  case TORCHD_ATEN_FORM_NUMBER:
    return number_in(frame, slot);
  case TORCHD_ATEN_FORM_DOUBLE:
    return number_in(frame, slot).toScalar().toDouble();
  case TORCHD_ATEN_FORM_WRAPPED: {
    const auto &value = number_in(frame, slot);
    return wrapped(value.toScalar(), value.isInt() ? at::kLong : value.isBool() ? at::kBool : at::kDouble);
  }
  case TORCHD_ATEN_FORM_REPEATED: {
    auto &list = list_of<Ints>(source);
    list.resize(source.length, whole_in(frame, slot));
    return list;
  }
  case TORCHD_ATEN_FORM_INTS: {
    auto &list = list_of<Ints>(source);
    for (size_t place = 0; place < source.slots.size(); place++)
      list.push_back(source.slots[place] < 0 ? source.numbers.at(place) : whole_in(frame, source.slots[place]));
    return list;
  }
  }
  TORCH_CHECK(false, "an argument has the unknown form ", source.form);
}

std::string described(const torch::jit::Stack &stack, size_t place) {
  if (place >= stack.size() || stack[place].isNone()) return "nothing";
  std::ostringstream words;
  const auto &value = stack[place];
  if (value.isTensor()) {
    words << "a tensor " << value.toTensor().sizes();
  } else if (value.isTensorList()) {
    words << "a list of " << value.toTensorVector().size() << " tensors";
  } else {
    words << "the value " << value;
  }
  return words.str();
}

void put_results(Frame &frame, const std::vector<Place> &places, torch::jit::Stack &stack) {
  for (size_t place = 0; place < places.size(); place++) {
    const auto &[is_list, slots] = places[place];
    if (!is_list) {
      if (slots.empty() || slots[0] < 0) continue;
      const bool is_one = place < stack.size() && (stack[place].isTensor() || stack[place].isScalar());
      TORCH_CHECK(is_one, "it returned ", described(stack, place), ", and the graph wants one value");
      put(frame, slots[0], std::move(stack[place]));
      continue;
    }
    const bool is_list_too = place < stack.size() && stack[place].isTensorList();
    const size_t length = is_list_too ? stack[place].toListRef().size() : 0;
    TORCH_CHECK(is_list_too && length == slots.size(), "it returned ", described(stack, place),
                ", and the graph wants a list of ", slots.size(), " tensors");
    const auto items = stack[place].toListRef();
    for (size_t item = 0; item < length; item++) put(frame, slots[item], c10::IValue(items[item]));
  }
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
    call = new torchd_aten_call{*found, std::move(values), {}, {}, {}};
  });
  return call;
}

void torchd_aten_free(torchd_aten_call *call) { delete call; }

int torchd_aten_run(const torchd_aten_call *call, const size_t *places, const torchd_aten_value *arguments,
                    size_t length, torchd_aten_value *results, size_t most, size_t *found) {
  *found = 0;
  return guarded([&] {
    const auto &wanted = call->handle.schema().arguments();
    Stack stack;
    *stack = call->arguments;
    for (size_t place = 0; place < length; place++)
      (*stack).at(places[place]) = to_ivalue(arguments[place], wanted.at(places[place]));
    call->handle.callBoxed(*stack);
    TORCH_CHECK((*stack).size() <= most, "it returned ", (*stack).size(), " values; ", most, " at most are taken");
    // Counted one by one: the caller owns what is counted, even if a later one is not taken.
    for (auto &value : *stack) {
      results[*found] = to_value(std::move(value));
      ++*found;
    }
  });
}

torchd_aten_frame *torchd_aten_frame_new(size_t slots) {
  torchd_aten_frame *frame = nullptr;
  guarded([&] { frame = new torchd_aten_frame{std::vector<Frame::Slot>(slots)}; });
  return frame;
}

void torchd_aten_frame_free(torchd_aten_frame *frame) { delete frame; }

void torchd_aten_frame_drop(torchd_aten_frame *frame, size_t slot) { drop(*frame, slot); }

void torchd_aten_frame_clear(torchd_aten_frame *frame) {
  for (size_t slot = 0; slot < frame->slots.size(); slot++) drop(*frame, slot);
}

int torchd_aten_frame_set(torchd_aten_frame *frame, size_t slot, torchd_aten_value value) {
  return guarded([&] {
    static const c10::Argument none;
    TORCH_CHECK(value.tag <= TORCHD_ATEN_BOOL, "a value of the tag ", value.tag, " does not go into a slot");
    put(*frame, static_cast<int64_t>(slot), to_ivalue(value, none));
  });
}

int torchd_aten_frame_get(const torchd_aten_frame *frame, size_t slot, torchd_aten_value *value) {
  return guarded([&] { *value = to_value(c10::IValue(in_slot(*frame, slot))); });
}

int torchd_aten_frame_pass(const torchd_aten_frame *from, size_t slot, torchd_aten_frame *to, size_t place) {
  return guarded([&] { put(*to, static_cast<int64_t>(place), c10::IValue(in_slot(*from, slot))); });
}

int torchd_aten_bind(torchd_aten_call *call, const torchd_aten_source *sources, size_t sources_length,
                     const torchd_aten_place *places, size_t places_length, const size_t *last_uses,
                     size_t last_uses_length) {
  return guarded([&] {
    std::map<int64_t, size_t> uses;
    std::vector<Source> bound;
    for (const auto *source = sources; source != sources + sources_length; source++) {
      TORCH_CHECK(source->place < call->arguments.size(), "there is no argument ", source->place);
      const size_t length = source->form == TORCHD_ATEN_FORM_REPEATED ? 1 : source->length;
      std::vector<int64_t> slots(source->slots, source->slots + length), numbers;
      if (source->numbers) numbers.assign(source->numbers, source->numbers + length);
      const bool is_list = source->form == TORCHD_ATEN_FORM_TENSORS ||
                           source->form == TORCHD_ATEN_FORM_OPTIONAL_TENSORS || source->form == TORCHD_ATEN_FORM_INTS;
      TORCH_CHECK(is_list || (length == 1 && slots[0] >= 0), "an argument that is no list has one slot");
      TORCH_CHECK(source->form != TORCHD_ATEN_FORM_INTS || numbers.size() == length, "numbers are missing");
      for (const int64_t slot : slots) uses[slot]++;
      bound.push_back({source->place, static_cast<torchd_aten_form>(source->form), std::move(slots),
                       std::move(numbers), source->length, false, {}});
    }
    call->last_uses.assign(last_uses, last_uses + last_uses_length);
    for (auto &source : bound) {
      if (source.form != TORCHD_ATEN_FORM_TENSOR || uses[source.slots[0]] != 1) continue;
      const auto slot = static_cast<size_t>(source.slots[0]);
      source.moves = std::find(last_uses, last_uses + last_uses_length, slot) != last_uses + last_uses_length;
    }
    call->sources = std::move(bound);
    call->places.clear();
    for (const auto *place = places; place != places + places_length; place++)
      call->places.push_back({place->is_list != 0, {place->slots, place->slots + place->length}});
  });
}

int torchd_aten_step(torchd_aten_call *call, torchd_aten_frame *frame) {
  return guarded([&] {
    const Emptied emptied{*call};
    Stack stack;
    *stack = call->arguments;
    for (auto &source : call->sources) (*stack)[source.place] = argument(*frame, source);
    call->handle.callBoxed(*stack);
    put_results(*frame, call->places, *stack);
    for (const size_t slot : call->last_uses) drop(*frame, slot);
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
