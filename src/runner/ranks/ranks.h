// The C interface between torchd-runner and c10d, by which the ranks of a job exchange tensors: a
// library of its own, which the runner opens at run time. `scripts/ranks` builds it, and, with
// `--nccl`, a second one for ranks on GPUs with the same interface.
//
// No exception leaves a function: those that can fail return NULL or non-zero, and
// torchd_ranks_error() tells why. All functions are for the thread that joined. Tensors are
// at::Tensor, contiguous, on the CPU or, by the library for GPUs, on the first GPU that CUDA shows;
// every rank calls with the same types and devices. Calls with tensors on a GPU return before they
// have been carried out, in the order of the current stream.
#pragma once

#ifdef __cplusplus
extern "C" {
#endif
// All that the library shows: it is compiled with hidden names.
#pragma GCC visibility push(default)

// A rank among the others.
typedef struct torchd_ranks torchd_ranks;

// The version of libtorch whose headers it was compiled against, such as "2.11.0".
const char *torchd_ranks_built_for(void);

// The reason of this thread's last failure, until the next one; empty before the first.
const char *torchd_ranks_error(void);

// Joins `count` ranks of one machine as one of them, by a file at `store` that none has used
// before, and loopback. Waits up to `join_ms` milliseconds for the others; calls that wait for them
// later fail after `timeout_ms`. All connections are made when it returns.
torchd_ranks *torchd_ranks_join_local(const char *store, int rank, int count, long long join_ms, long long timeout_ms);

// The same for ranks of several machines, which meet at the TCP store of `host` and `port`. The
// rank that `serves` runs the store there; where none does, somebody else has it. `prefix` begins
// the names of their keys. `address` is that of this machine by which the others reach it, or empty
// where `interface` names the network interface.
torchd_ranks *torchd_ranks_join_at(const char *host, int port, int serves, const char *prefix, const char *address,
                                   const char *interface, int rank, int count, long long join_ms, long long timeout_ms);

// Puts the tensor of rank `from` into that of all.
int torchd_ranks_spread(torchd_ranks *ranks, void *tensor, int from);

// Puts the tensors of all ranks, in their order, into `all`, which has as many numbers as they
// have together. Each is as long as the others.
int torchd_ranks_gather(torchd_ranks *ranks, void *all, void *own);

// Sends each rank its rows of `sent`, and receives rows from each into `received`, in their order:
// the lists have how many rows are each rank's.
int torchd_ranks_exchange(torchd_ranks *ranks, void *received, const long long *received_rows, void *sent,
                          const long long *sent_rows);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
