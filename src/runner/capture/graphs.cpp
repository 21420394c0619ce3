// CUDA graphs behind the C interface of graphs.h.
//
// Nothing is linked: the symbols are those of libtorch_cuda.so and libc10_cuda.so, which the runner
// has opened with RTLD_GLOBAL before. It has not been run on a GPU yet.
#include "graphs.h"

#include <ATen/cuda/CUDAGraph.h>
#include <c10/cuda/CUDAStream.h>
#include <c10/util/Exception.h>
#include <torch/headeronly/version.h>

#include <memory>
#include <string>
#include <vector>


struct torchd_graphs {
  c10::cuda::CUDAStream stream;
  at::cuda::MempoolId_t pool;
  // A graph is where its first capture put it: its address is known to the generator.
  std::vector<std::unique_ptr<at::cuda::CUDAGraph>> graphs;
  std::unique_ptr<at::cuda::CUDAGraph> begun;
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

} // namespace

const char *torchd_graphs_built_for(void) {
  return TORCH_VERSION;
}

const char *torchd_graphs_error(void) { return last_error.c_str(); }

torchd_graphs *torchd_graphs_new(int device) {
  torchd_graphs *made = nullptr;
  guarded([&] {
    const auto index = static_cast<c10::DeviceIndex>(device);
    // Streams of the pool do not wait for the default one.
    c10::cuda::getCurrentCUDAStream(index).synchronize();
    const auto stream = c10::cuda::getStreamFromPool(false, index);
    made = new torchd_graphs{stream, at::cuda::graph_pool_handle(), {}, nullptr};
    c10::cuda::setCurrentCUDAStream(stream);
  });
  return made;
}

void torchd_graphs_free(torchd_graphs *graphs) {
  guarded([&] {
    // What a failed capture leaves cannot be ended in order, and is left to the end of the process.
    graphs->begun.release();
    graphs->stream.synchronize();
    delete graphs;
  });
}

int torchd_graphs_begin(torchd_graphs *graphs) {
  return guarded([&] {
    TORCH_CHECK(graphs->begun == nullptr, "a capture has begun, and has not ended");
    graphs->stream.synchronize();
    graphs->begun = std::make_unique<at::cuda::CUDAGraph>();
    // Other threads may call what a capture forbids: they do not work on this stream.
    graphs->begun->capture_begin(graphs->pool, cudaStreamCaptureModeThreadLocal);
  });
}

int torchd_graphs_end(torchd_graphs *graphs, size_t *graph) {
  return guarded([&] {
    TORCH_CHECK(graphs->begun != nullptr, "no capture has begun");
    graphs->begun->capture_end();
    graphs->graphs.push_back(std::move(graphs->begun));
    *graph = graphs->graphs.size() - 1;
  });
}

int torchd_graphs_clear(torchd_graphs *graphs) {
  return guarded([&] {
    graphs->stream.synchronize();
    graphs->graphs.clear();
  });
}

int torchd_graphs_replay(torchd_graphs *graphs, size_t graph) {
  return guarded([&] { graphs->graphs.at(graph)->replay(); });
}
