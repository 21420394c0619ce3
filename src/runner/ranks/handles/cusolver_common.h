// The name of a status that libtorch's headers take from cuSOLVER: see cublas_v2.h.
#pragma once
enum cusolverStatus_t : int {};
