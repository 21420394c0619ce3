// The name of a handle that libtorch's headers take from cuSOLVER: see cublas_v2.h.
#pragma once
typedef struct cusolverDnContext *cusolverDnHandle_t;
