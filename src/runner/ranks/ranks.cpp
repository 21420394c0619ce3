// c10d behind the C interface of ranks.h: a FileStore, and gloo for tensors of the CPU.
//
// Nothing is linked: the symbols are those of libtorch_cpu.so, which the runner has loaded. Of gloo
// the headers name the options; its code is in libtorch.
#include "ranks.h"

#include "../guarded.h"

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/headeronly/version.h>

#include <chrono>
#include <string>
#include <vector>

struct torchd_ranks {
  int count;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group;
};

namespace {

at::Tensor &as_tensor(void *pointer) { return *static_cast<at::Tensor *>(pointer); }

std::vector<int64_t> rows(const long long *list, int count) { return {list, list + count}; }

} // namespace

const char *torchd_ranks_built_for(void) { return TORCH_VERSION; }

const char *torchd_ranks_error(void) { return last_error.c_str(); }

torchd_ranks *torchd_ranks_join_local(const char *store, int rank, int count, long long join_ms, long long timeout_ms) {
  torchd_ranks *joined = nullptr;
  guarded([&] {
    const auto file = c10::make_intrusive<c10d::FileStore>(store, count);
    file->setTimeout(std::chrono::milliseconds(join_ms));
    const auto options = c10d::ProcessGroupGloo::Options::create(std::chrono::milliseconds(join_ms));
    // Not lazily: the runner may not connect after it is confined.
    options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1", false));
    options->threads = 1;
    auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(file, rank, count, options);
    group->setTimeout(std::chrono::milliseconds(timeout_ms));
    joined = new torchd_ranks{count, std::move(group)};
  });
  return joined;
}

int torchd_ranks_spread(torchd_ranks *ranks, void *tensor, int from) {
  return guarded([&] {
    std::vector<at::Tensor> tensors{as_tensor(tensor)};
    c10d::BroadcastOptions options;
    options.rootRank = from;
    ranks->group->broadcast(tensors, options)->wait();
  });
}

int torchd_ranks_gather(torchd_ranks *ranks, void *all, void *own) {
  return guarded([&] {
    c10d::AllgatherOptions options;
    ranks->group->_allgather_base(as_tensor(all), as_tensor(own), options)->wait();
  });
}

int torchd_ranks_exchange(torchd_ranks *ranks, void *received, const long long *received_rows, void *sent,
                          const long long *sent_rows) {
  return guarded([&] {
    auto into = rows(received_rows, ranks->count);
    auto from = rows(sent_rows, ranks->count);
    c10d::AllToAllOptions options;
    ranks->group->alltoall_base(as_tensor(received), as_tensor(sent), into, from, options)->wait();
  });
}
