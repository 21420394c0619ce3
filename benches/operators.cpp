// The time of an operator in a graph that is interpreted, beside a plain loop in C++ that calls the
// same operators on the same tensors. It reads the name of a way and a number of rounds from each
// line, and answers with the nanoseconds that an operator took.
#include "aten.h"

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <iostream>
#include <map>
#include <string>
#include <vector>

namespace {

// A chain of operators as networks have them: x = relu(x + y) * 0.5, so many times.
constexpr int LENGTH = 32;
constexpr int OPERATORS = 3 * LENGTH;

void must(int status) {
  if (status == 0) return;
  std::fprintf(stderr, "%s\n", torchd_aten_error());
  std::exit(1);
}

torchd_aten_value tensor(const at::Tensor &tensor) {
  torchd_aten_value value{};
  value.tag = TORCHD_ATEN_TENSOR;
  value.pointer = &tensor;
  return value;
}

torchd_aten_call *prepare(const char *name, const char *overload, std::vector<torchd_aten_value> arguments) {
  auto *call = torchd_aten_prepare(name, overload, arguments.data(), arguments.size());
  if (call == nullptr) must(1);
  return call;
}

// The operators of a step of the chain; arguments that change are None.
std::vector<torchd_aten_call *> step() {
  const torchd_aten_value none{};
  torchd_aten_value number{}, standard{};
  number.tag = TORCHD_ATEN_WRAPPED_DOUBLE;
  number.number = 0.5;
  standard.tag = TORCHD_ATEN_DEFAULT;
  return {prepare("aten::add", "Tensor", {none, none, standard}), prepare("aten::relu", "", {none}),
          prepare("aten::mul", "Tensor", {none, number})};
}

void in_cpp(const at::Tensor &x, const at::Tensor &y, int rounds) {
  for (int round = 0; round < rounds; round++) {
    at::Tensor value = x;
    for (int place = 0; place < LENGTH; place++) value = at::mul(at::relu(at::add(value, y)), 0.5);
  }
}

// As the runner did before values stayed in slots: a handle for each argument and result.
void by_handles(const at::Tensor &x, const at::Tensor &y, int rounds) {
  static const std::vector<torchd_aten_call *> calls = step();
  for (int round = 0; round < rounds; round++) {
    auto *value = new at::Tensor(x);
    for (int place = 0; place < OPERATORS; place++) {
      const size_t places[] = {0, 1};
      const torchd_aten_value arguments[] = {tensor(*value), tensor(y)};
      torchd_aten_value results[16]{};
      size_t found = 0;
      must(torchd_aten_run(calls[place % 3], places, arguments, place % 3 == 0 ? 2 : 1, results, 16, &found));
      delete value;
      value = static_cast<at::Tensor *>(const_cast<void *>(results[0].pointer));
    }
    delete value;
  }
}

// A call of the chain with its slots: 0 is x, 1 is y, and then comes a result for each operator.
torchd_aten_call *bound(torchd_aten_call *call, int place) {
  const int64_t slots[] = {place == 0 ? 0 : place + 1, 1}, result[] = {place + 2};
  const torchd_aten_source sources[] = {{0, TORCHD_ATEN_FORM_TENSOR, &slots[0], nullptr, 1},
                                        {1, TORCHD_ATEN_FORM_TENSOR, &slots[1], nullptr, 1}};
  const torchd_aten_place places[] = {{0, result, 1}};
  const auto last = static_cast<size_t>(slots[0]);
  must(torchd_aten_bind(call, sources, place % 3 == 0 ? 2 : 1, places, 1, &last, 1));
  return call;
}

void by_slots(const at::Tensor &x, const at::Tensor &y, int rounds) {
  static std::vector<torchd_aten_call *> calls;
  static torchd_aten_frame *frame = torchd_aten_frame_new(2 + OPERATORS);
  while (calls.size() < OPERATORS)
    for (auto *call : step()) calls.push_back(bound(call, static_cast<int>(calls.size())));
  for (int round = 0; round < rounds; round++) {
    must(torchd_aten_frame_set(frame, 0, tensor(x)));
    must(torchd_aten_frame_set(frame, 1, tensor(y)));
    for (auto *call : calls) must(torchd_aten_step(call, frame));
    torchd_aten_frame_clear(frame);
  }
}

} // namespace

int main() {
  at::set_num_threads(1);
  const auto plain = at::ones({16}), y = at::ones({16});
  const auto learned = at::ones({16}).set_requires_grad(true);
  using Way = std::function<void(const at::Tensor &, const at::Tensor &, int)>;
  const std::map<std::string, Way> ways = {{"cpp", in_cpp}, {"handles", by_handles}, {"slots", by_slots}};
  std::string name, records;
  for (int rounds; std::cin >> name >> records >> rounds;) {
    const auto &way = ways.at(name);
    const auto &x = records == "recorded" ? learned : plain;
    way(x, y, 10);
    const auto begun = std::chrono::steady_clock::now();
    way(x, y, rounds);
    const std::chrono::duration<double, std::nano> taken = std::chrono::steady_clock::now() - begun;
    std::cout << taken.count() / (static_cast<double>(rounds) * OPERATORS) << std::endl;
  }
}
