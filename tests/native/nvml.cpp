// A library of NVML's interface for tests: one GPU, and an initialisation that fails where NVML_FAKE_INIT says so.
// (nvml.h; the versioned names are those that nvml-wrapper asks for)
#include <cstdio>
#include <cstdlib>

extern "C" {
int nvmlInit_v2() {
    const char *code = getenv("NVML_FAKE_INIT");
    return code ? atoi(code) : 0;
}
int nvmlShutdown() { return 0; }
const char *nvmlErrorString(int) { return "an error of a test"; }
int nvmlSystemGetDriverVersion(char *text, unsigned length) { snprintf(text, length, "535.161.07"); return 0; }
int nvmlSystemGetNVMLVersion(char *text, unsigned length) { snprintf(text, length, "12.535.161.07"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    static int gpu;
    *device = &gpu;
    return index == 0 ? 0 : 2;
}
int nvmlDeviceGetName(void *, char *text, unsigned length) { snprintf(text, length, "Tesla V100-SXM2-16GB"); return 0; }
int nvmlDeviceGetCudaComputeCapability(void *, int *major, int *minor) { *major = 7; *minor = 0; return 0; }
}
