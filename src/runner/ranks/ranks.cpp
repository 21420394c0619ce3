// c10d behind the C interface of ranks.h: a FileStore or a TCPStore, gloo for tensors of the CPU,
// and, in the library for GPUs, NCCL for those of CUDA.
//
// Nothing is linked: the symbols are those of libtorch_cpu.so and libtorch_cuda.so, which the
// runner has loaded. Of gloo and NCCL the headers name the options; the code is in libtorch.
#include "ranks.h"

#include "../guarded.h"

#include <ATen/core/Tensor.h>
#include <torch/csrc/distributed/c10d/FileStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>
#ifdef USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>
#endif
#include <torch/headeronly/version.h>

#include <netdb.h>
#include <sys/socket.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <string>
#include <vector>

struct torchd_ranks {
  int rank;
  int count;
  std::chrono::milliseconds timeout;
  // The first rank may serve the others, which are at the same place.
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::Backend> cpu;
  // NULL where the ranks compute on the CPU.
  c10::intrusive_ptr<c10d::Backend> cuda;

  c10d::Backend &of(const at::Tensor &tensor) const {
    if (!tensor.is_cuda())
      return *cpu;
    TORCH_CHECK(cuda, "the ranks have no GPUs");
    return *cuda;
  }
};

namespace {

// From so many bytes on, a vector is sent to each rank by itself: gloo's gathering of all copies
// twice what it carries. Smaller ones wait for processes to wake, and are faster together.
constexpr std::size_t LARGE = 1 << 16;

at::Tensor &as_tensor(void *pointer) { return *static_cast<at::Tensor *>(pointer); }

std::vector<int64_t> rows(const long long *list, int count) { return {list, list + count}; }

// A socket that listens at an address, given in numbers, and at no other one.
int listen_at(const char *host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE;
  hints.ai_socktype = SOCK_STREAM;
  addrinfo *found = nullptr;
  TORCH_CHECK(getaddrinfo(host, std::to_string(port).c_str(), &hints, &found) == 0, host, " is no address");
  const int fd = socket(found->ai_family, found->ai_socktype | SOCK_CLOEXEC, 0);
  const int one = 1;
  const bool listens = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
                       bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, 4096) == 0;
  const auto why = std::string(std::strerror(errno));
  freeaddrinfo(found);
  TORCH_CHECK(listens, "nobody can listen at ", host, " port ", port, ": ", why);
  return fd;
}

#ifdef USE_C10D_NCCL
// NCCL among the ranks, each on the one GPU that it sees. It makes connections at the first call of
// a kind, and the runner may make none after it is confined: each kind is called once here.
c10::intrusive_ptr<c10d::Backend> join_gpus(const c10::intrusive_ptr<c10d::Store> &store, int rank, int count,
                                            long long timeout_ms) {
  // Its options are a part of the class whose code is in libtorch.
  TORCH_CHECK(c10d::getNcclVersionNumber() == NCCL_VERSION_CODE, "NCCL error: libtorch has version ",
              c10d::getNcclVersion(), ", and libtdnccl.so was compiled for ", NCCL_VERSION_CODE,
              "; `make ranks-nccl` compiles it for the pins of scripts/nccl.txt");
  const at::Device device(at::kCUDA, 0);
  const auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::milliseconds(timeout_ms);
  const auto named = c10::make_intrusive<c10d::PrefixStore>("nccl", store);
  auto group = c10::make_intrusive<c10d::ProcessGroupNCCL>(named, rank, count, options);
  group->setBoundDeviceId(device);
  group->eagerConnectSingleDevice(device);
  const auto numbers = at::arange(1, count + 1, at::TensorOptions(device).dtype(at::kFloat));
  auto told = at::full({1}, rank + 1, numbers.options()), own = at::full({count}, rank + 1, numbers.options());
  auto all = at::zeros({count * count}, numbers.options()), received = at::zeros({count}, numbers.options());
  std::vector<at::Tensor> tensors{told};
  group->broadcast(tensors, c10d::BroadcastOptions())->wait();
  group->_allgather_base(all, own, c10d::AllgatherOptions())->wait();
  std::vector<int64_t> ones(count, 1);
  group->alltoall_base(received, own, ones, ones, c10d::AllToAllOptions())->wait();
  const auto rows = numbers.unsqueeze(1).expand({count, count});
  TORCH_CHECK(told.item<float>() == 1 && all.view({count, count}).equal(rows) && received.equal(numbers),
              "NCCL error: it does not carry numbers between the GPUs of the ranks as they are; NCCL_P2P_DISABLE=1 or "
              "NCCL_SHM_DISABLE=1 in the environment of torchd, or of the engine, takes another way");
  return group;
}
#endif

// Puts the tensors of all ranks into `all`, each by a message of its own.
void gather_large(const torchd_ranks &ranks, at::Tensor &all, at::Tensor &own) {
  constexpr int tag = 1;
  std::vector<at::Tensor> sent{own};
  std::vector<c10::intrusive_ptr<c10d::Work>> under_way;
  const auto row = [&](int rank) { return all.narrow(0, rank * own.numel(), own.numel()); };
  for (int apart = 1; apart < ranks.count; apart++) {
    const int from = (ranks.rank + ranks.count - apart) % ranks.count;
    std::vector<at::Tensor> received{row(from)};
    under_way.push_back(ranks.cpu->recv(received, from, tag));
  }
  for (int apart = 1; apart < ranks.count; apart++)
    under_way.push_back(ranks.cpu->send(sent, (ranks.rank + apart) % ranks.count, tag));
  row(ranks.rank).copy_(own);
  for (const auto &work : under_way)
    work->wait(ranks.timeout);
}

torchd_ranks *join(const c10::intrusive_ptr<c10d::Store> &store, std::shared_ptr<gloo::transport::Device> device,
                   int rank, int count, long long join_ms, long long timeout_ms) {
  const auto options = c10d::ProcessGroupGloo::Options::create(std::chrono::milliseconds(join_ms));
  options->devices.push_back(std::move(device));
  options->threads = 1;
  auto group = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, count, options);
  group->setTimeout(std::chrono::milliseconds(timeout_ms));
  c10::intrusive_ptr<c10d::Backend> cuda;
#ifdef USE_C10D_NCCL
  cuda = join_gpus(store, rank, count, timeout_ms);
#endif
  return new torchd_ranks{rank, count, std::chrono::milliseconds(timeout_ms), store, std::move(group), std::move(cuda)};
}

} // namespace

const char *torchd_ranks_built_for(void) { return TORCH_VERSION; }

const char *torchd_ranks_error(void) { return last_error.c_str(); }

torchd_ranks *torchd_ranks_join_local(const char *store, int rank, int count, long long join_ms, long long timeout_ms) {
  torchd_ranks *joined = nullptr;
  guarded([&] {
    const auto file = c10::make_intrusive<c10d::FileStore>(store, count);
    file->setTimeout(std::chrono::milliseconds(join_ms));
    // Not lazily: the runner may not connect after it is confined.
    auto device = c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1", false);
    joined = join(file, std::move(device), rank, count, join_ms, timeout_ms);
  });
  return joined;
}

torchd_ranks *torchd_ranks_join_at(const char *host, int port, int serves, const char *prefix, const char *address,
                                   const char *interface, int rank, int count, long long join_ms, long long timeout_ms) {
  torchd_ranks *joined = nullptr;
  guarded([&] {
    c10d::TCPStoreOptions options;
    options.port = static_cast<std::uint16_t>(port);
    options.isServer = serves != 0;
    options.waitWorkers = false;
    options.timeout = std::chrono::milliseconds(join_ms);
    if (options.isServer)
      options.masterListenFd = listen_at(host, options.port);
    const auto store = c10::make_intrusive<c10d::TCPStore>(host, options);
    const auto named = c10::make_intrusive<c10d::PrefixStore>(prefix, store);
    auto device = *interface ? c10d::ProcessGroupGloo::createDeviceForInterface(interface, false)
                             : c10d::ProcessGroupGloo::createDeviceForHostname(address, false);
    joined = join(named, std::move(device), rank, count, join_ms, timeout_ms);
  });
  return joined;
}

int torchd_ranks_spread(torchd_ranks *ranks, void *tensor, int from) {
  return guarded([&] {
    std::vector<at::Tensor> tensors{as_tensor(tensor)};
    c10d::BroadcastOptions options;
    options.rootRank = from;
    ranks->of(tensors[0]).broadcast(tensors, options)->wait();
  });
}

int torchd_ranks_gather(torchd_ranks *ranks, void *all, void *own) {
  return guarded([&] {
    if (!as_tensor(own).is_cuda() && as_tensor(own).nbytes() >= LARGE)
      return gather_large(*ranks, as_tensor(all), as_tensor(own));
    c10d::AllgatherOptions options;
    ranks->of(as_tensor(own))._allgather_base(as_tensor(all), as_tensor(own), options)->wait();
  });
}

int torchd_ranks_exchange(torchd_ranks *ranks, void *received, const long long *received_rows, void *sent,
                          const long long *sent_rows) {
  return guarded([&] {
    auto into = rows(received_rows, ranks->count);
    auto from = rows(sent_rows, ranks->count);
    c10d::AllToAllOptions options;
    ranks->of(as_tensor(sent)).alltoall_base(as_tensor(received), as_tensor(sent), into, from, options)->wait();
  });
}
