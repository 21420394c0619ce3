// The C interface between torchd-runner and TorchScript modules: tch binds neither their buffers
// nor the names of their methods.
//
// A tensor is an at::Tensor *, which is what torch-sys calls C_tensor *. No exception leaves a
// function: those that can fail return NULL or non-zero, and torchd_script_error() tells why.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// A module.
typedef struct torchd_script torchd_script;

// The uses of a tensor that is handed over.
enum torchd_script_use {
  TORCHD_SCRIPT_RESULT = 0,
  TORCHD_SCRIPT_BUFFER = 1,
  TORCHD_SCRIPT_PARAMETER = 2,        // one that wants a gradient
  TORCHD_SCRIPT_FROZEN_PARAMETER = 3, // one that does not
};

// Takes a new at::Tensor, which is the receiver's, with its name, which ends with a null byte and
// lives until this returns.
typedef void (*torchd_script_take)(void *context, const char *name, void *tensor, int use);

// The reason of this thread's last failure, until the next one; empty before the first.
const char *torchd_script_error(void);

// Loads a module onto a device such as "cuda:0".
torchd_script *torchd_script_load(const char *path, const char *device);
void torchd_script_free(torchd_script *module);

// Hands over parameters and buffers by their dotted names, tied ones by each of theirs. 0 on
// success.
int torchd_script_tensors(torchd_script *module, void *context, torchd_script_take take);

// How many arguments a method takes besides the module; -1 where there is no such method.
int64_t torchd_script_arguments(const torchd_script *module, const char *method);

// Switches between training and evaluation. 0 on success.
int torchd_script_train(torchd_script *module, int is_training);

// Calls a method with tensors. Hands over each tensor or number of the result by its path: "" for
// the result itself, "1.accuracy" for an entry of a dictionary in a tuple. 0 on success.
int torchd_script_call(torchd_script *module, const char *method, void *const *tensors, size_t length, void *context,
                       torchd_script_take take);

// Saves the module as torch.jit.save does. 0 on success.
int torchd_script_save(torchd_script *module, const char *path);

#ifdef __cplusplus
}
#endif
