// The names that libtorch's headers take from cuBLAS. Nothing of ours calls it: its headers come
// with a library of 400 MB, which these lines save.
#pragma once
typedef struct cublasContext *cublasHandle_t;
enum cublasStatus_t : int {};
