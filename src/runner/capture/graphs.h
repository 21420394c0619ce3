// The C interface between torchd-runner and CUDA graphs: a library of its own, which the runner
// opens at run time, after libtorch_cuda.so. `scripts/cuda-graphs` builds it.
//
// No exception leaves a function: those that can fail return NULL or non-zero, and
// torchd_graphs_error() tells why. All functions are for the thread that made the recorder.
#pragma once
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif
// All that the library shows: it is compiled with hidden names.
#pragma GCC visibility push(default)

// The stream of a training loop, and the graphs that were captured on it.
typedef struct torchd_graphs torchd_graphs;

// The version of libtorch whose headers it was compiled against, such as "2.11.0". It serves no
// other one: the classes behind it have another layout there.
const char *torchd_graphs_built_for(void);

// The reason of this thread's last failure, until the next one; empty before the first.
const char *torchd_graphs_error(void);

// Waits for the work on the current stream of a device, and makes a stream of the pool the current
// one of this thread, for good: capturing needs one that is not the default stream.
torchd_graphs *torchd_graphs_new(int device);

// Waits for the work on the stream, and frees all graphs. The stream stays the current one.
void torchd_graphs_free(torchd_graphs *graphs);

// Begins a capture: work on the stream is recorded, and does not happen, until it ends. All graphs
// of a recorder share their memory.
int torchd_graphs_begin(torchd_graphs *graphs);

// Ends the capture, and tells the number of its graph, counted from 0.
int torchd_graphs_end(torchd_graphs *graphs, size_t *graph);

// Waits for the work on the stream, and frees all graphs: the next one has the number 0.
int torchd_graphs_clear(torchd_graphs *graphs);

// Puts the work of a graph on the stream, and does not wait for it. Random numbers are those that
// the same work would have drawn by itself from the seed that is set.
int torchd_graphs_replay(torchd_graphs *graphs, size_t graph);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
