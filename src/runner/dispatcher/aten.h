// The C interface between torchd-runner and the parts of libtorch that tch does not bind.
//
// A tensor is an at::Tensor *, which is what torch-sys calls C_tensor *, so that tensors pass
// between both. No exception leaves a function: those that can fail return NULL or non-zero, and
// torchd_aten_error() tells why.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

// The kinds of values, with the fields that count.
enum torchd_aten_tag {
  TORCHD_ATEN_NONE = 0,
  TORCHD_ATEN_TENSOR = 1,            // pointer: at::Tensor *
  TORCHD_ATEN_INT = 2,               // integer; also data types, layouts, memory formats
  TORCHD_ATEN_DOUBLE = 3,            // number
  TORCHD_ATEN_BOOL = 4,              // integer
  TORCHD_ATEN_INTS = 5,              // pointer: int64_t[length]
  TORCHD_ATEN_DOUBLES = 6,           // pointer: double[length]
  TORCHD_ATEN_BOOLS = 7,             // pointer: uint8_t[length]
  TORCHD_ATEN_STRING = 8,            // pointer: char[length]
  TORCHD_ATEN_TENSORS = 9,           // pointer: at::Tensor *[length]
  TORCHD_ATEN_OPTIONAL_TENSORS = 10, // the same; NULL is None
  TORCHD_ATEN_DEVICE = 11,           // pointer: char[length], such as "cuda:0"
  TORCHD_ATEN_DEFAULT = 12,          // the default of the operator's schema
  TORCHD_ATEN_WRAPPED_INT = 13,      // a number where the operator takes a tensor
  TORCHD_ATEN_WRAPPED_DOUBLE = 14,
  TORCHD_ATEN_WRAPPED_BOOL = 15,
};

typedef struct {
  int64_t tag;
  int64_t integer;
  double number;
  const void *pointer;
  size_t length;
} torchd_aten_value;

// An operator with the arguments that are the same in each call.
typedef struct torchd_aten_call torchd_aten_call;

// Takes a text that ends with a null byte, before it returns.
typedef void (*torchd_aten_text)(void *context, const char *text);

// The reason of this thread's last failure, until the next one; empty before the first.
const char *torchd_aten_error(void);

// Gives the schema of every operator of a namespace. 0 on success.
int torchd_aten_schemas(const char *name_space, void *context, torchd_aten_text take);

// Prepares a call. There is one argument for each of the operator's schema.
torchd_aten_call *torchd_aten_prepare(const char *name, const char *overload, const torchd_aten_value *arguments,
                                      size_t length);
void torchd_aten_free(torchd_aten_call *call);

// Calls with `length` arguments replaced: arguments[k] at the place places[k]. Writes at most
// `most` results and, also on failure, how many the caller owns. Results are NONE, TENSOR (a new
// at::Tensor), INT, DOUBLE, BOOL, or TENSORS (a new array, to be freed by free(), of new
// at::Tensors). 0 on success.
int torchd_aten_run(const torchd_aten_call *call, const size_t *places, const torchd_aten_value *arguments,
                    size_t length, torchd_aten_value *results, size_t most, size_t *found);

// The state of autocast on a type of device. A data type is c10's number.
typedef struct {
  int32_t is_enabled; // 0 or 1
  int32_t data_type;  // -1 for the one that the device has
  int32_t is_cached;  // 0 or 1; -1 for what is set
} torchd_aten_autocast;

// Enters a region of autocast, and tells the state before it. 0 on success.
int torchd_aten_autocast_enter(const char *device_type, torchd_aten_autocast state, torchd_aten_autocast *before);
// Leaves the region that was entered last, with the state before it.
int torchd_aten_autocast_leave(const char *device_type, torchd_aten_autocast before);

#ifdef __cplusplus
}
#endif
