// The name that libtorch's headers take from cuBLASLt: see cublas_v2.h.
#pragma once
typedef struct cublasLtContext *cublasLtHandle_t;
