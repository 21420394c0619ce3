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

// Slots for the values of a graph. One that is empty has no value.
typedef struct torchd_aten_frame torchd_aten_frame;

// Makes so many empty slots; NULL on failure.
torchd_aten_frame *torchd_aten_frame_new(size_t slots);
void torchd_aten_frame_free(torchd_aten_frame *frame);
// Empties a slot, if it is there.
void torchd_aten_frame_drop(torchd_aten_frame *frame, size_t slot);
// Empties all of them.
void torchd_aten_frame_clear(torchd_aten_frame *frame);
// Puts NONE, a TENSOR (another handle on it), an INT, a DOUBLE or a BOOL into a slot. 0 on success.
int torchd_aten_frame_set(torchd_aten_frame *frame, size_t slot, torchd_aten_value value);
// Tells the value in a slot, which stays there: a TENSOR is a new at::Tensor. 0 on success.
int torchd_aten_frame_get(const torchd_aten_frame *frame, size_t slot, torchd_aten_value *value);
// Puts the value in a slot of one frame into a slot of another, or of the same. 0 on success.
int torchd_aten_frame_pass(const torchd_aten_frame *from, size_t slot, torchd_aten_frame *to, size_t place);

// How an argument is made of slots.
enum torchd_aten_form {
  TORCHD_ATEN_FORM_TENSOR = 0,           // the tensor in slots[0]
  TORCHD_ATEN_FORM_TENSORS = 1,          // a list of tensors
  TORCHD_ATEN_FORM_OPTIONAL_TENSORS = 2, // the same; a slot below 0 is None
  TORCHD_ATEN_FORM_NUMBER = 3,           // the number in slots[0]
  TORCHD_ATEN_FORM_DOUBLE = 4,           // the same, as a double
  TORCHD_ATEN_FORM_WRAPPED = 5,          // the same, where the operator takes a tensor
  TORCHD_ATEN_FORM_REPEATED = 6,         // the same, so many times in a list of whole numbers
  TORCHD_ATEN_FORM_INTS = 7,             // a list of whole numbers
};

// An argument that changes from call to call.
typedef struct {
  size_t place;           // in the operator's schema
  int64_t form;           // a torchd_aten_form
  const int64_t *slots;   // int64_t[length]; of REPEATED int64_t[1]
  const int64_t *numbers; // of INTS int64_t[length]: the number where a slot is below 0; else NULL
  size_t length;          // of REPEATED the times
} torchd_aten_source;

// Where a result goes.
typedef struct {
  int64_t is_list;      // 0: `slots` has one slot, below 0 for nowhere; 1: one for each tensor of a list
  const int64_t *slots; // int64_t[length]
  size_t length;
} torchd_aten_place;

// Tells a call which slots its arguments come from, where its results go, and which slots are
// empty after it. All that the pointers lead to is copied. 0 on success.
int torchd_aten_bind(torchd_aten_call *call, const torchd_aten_source *sources, size_t sources_length,
                     const torchd_aten_place *places, size_t places_length, const size_t *last_uses,
                     size_t last_uses_length);
// Calls with arguments out of slots, and puts the results into slots. On failure slots may be empty
// that were not before. 0 on success.
int torchd_aten_step(torchd_aten_call *call, torchd_aten_frame *frame);

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
