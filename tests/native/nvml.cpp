// A library of NVML's interface for tests. What it tells stands in the file that NVML_FAKE names, which is read anew at every
// call, so that a test changes the machine while the daemon runs. A statement a line:
//
//   init CODE                     what nvmlInit_v2 returns          driver V   nvml V   cuda NUMBER
//   gpu UUID NAME_WITH_UNDERSCORES                                  capability GPU MAJOR MINOR
//   set GPU KEY NUMBER            a reading; without it the function says that it is not supported
//   fail GPU FUNCTION CODE        the function returns that         lost GPU   every call on it returns 15
//   hang FUNCTION                 calls return when the line is gone
//   process GPU PID BYTES [GI CI]                                   graphics GPU PID BYTES
//   share GPU PID TIME SM MEMORY  utilization of a process, where it is newer than what was asked for; at time 0 it always is
//   mig GPU UUID GI CI PROFILE TOTAL USED
//   event SEQUENCE GPU TYPE DATA  is told once, by rising sequence (type 8 is an Xid)
//
// Without the variable there is one GPU; NVML_FAKE_INIT is then what the initialisation returns. OLD_DRIVER leaves out what
// drivers of 2019 did not have. (nvml.h; the versioned names are those that nvml-wrapper asks for)
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <mutex>
#include <set>
#include <sstream>
#include <string>
#include <unistd.h>
#include <vector>

namespace {
using Words = std::vector<std::string>;
enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMEOUT = 10, LOST = 15 };
constexpr long MIG = 1000, MIG_OF_GPU = 100;

std::vector<Words> scenario() {
    std::vector<Words> lines;
    const char *path = getenv("NVML_FAKE");
    std::stringstream built_in("driver 535.161.07\nnvml 12.535.161.07\ncuda 12020\n"
                               "gpu GPU-00000000-0000-4000-8000-00000000fa4e Tesla_V100-SXM2-16GB\ncapability 0 7 0\n");
    std::ifstream file;
    if (path) file.open(path);
    std::istream &in = path ? static_cast<std::istream &>(file) : built_in;
    for (std::string line; std::getline(in, line);) {
        std::istringstream words(line);
        Words split;
        for (std::string word; words >> word && word[0] != '#';) split.push_back(word);
        if (!split.empty()) lines.push_back(split);
    }
    return lines;
}

std::vector<Words> all(const std::string &statement) {
    std::vector<Words> found;
    for (auto &line : scenario())
        if (line[0] == statement) found.push_back(line);
    return found;
}

std::string one(const std::string &statement, const std::string &otherwise) {
    auto found = all(statement);
    return found.empty() ? otherwise : found.back()[1];
}

long long number(const std::string &text) { return atoll(text.c_str()); }

void *handle(long id) { return reinterpret_cast<void *>(id + 1); }
long id_of(void *device) { return reinterpret_cast<long>(device) - 1; }
bool is_mig(void *device) { return id_of(device) >= MIG; }
long gpu_of(void *device) { return is_mig(device) ? (id_of(device) - MIG) / MIG_OF_GPU : id_of(device); }

std::vector<Words> of_gpu(const std::string &statement, long gpu) {
    std::vector<Words> found;
    for (auto &line : all(statement))
        if (number(line[1]) == gpu) found.push_back(line);
    return found;
}

// The scenario may have changed since the handle was made: what is gone is told as zeros, and not by an exception, which no
// caller of a library in C can catch.
Words line_at(const std::vector<Words> &lines, size_t place) { return place < lines.size() ? lines[place] : Words(8, "0"); }

// The instance that a handle stands for: a `mig` line.
Words instance(void *device) { return line_at(of_gpu("mig", gpu_of(device)), (id_of(device) - MIG) % MIG_OF_GPU); }

// The GPU that a handle stands for: a `gpu` line.
Words gpu_line(void *device) { return line_at(all("gpu"), gpu_of(device)); }

// Blocks while the scenario says so, then tells what the function has to return apart from its own.
int enter(const char *function, void *device) {
    for (bool hangs = true; hangs;) {
        hangs = false;
        for (auto &line : all("hang")) hangs |= line[1] == function;
        if (hangs) usleep(20000);
    }
    if (!device) return OK;
    long gpu = gpu_of(device);
    if (gpu < 0 || gpu >= static_cast<long>(all("gpu").size())) return INVALID;
    if (!of_gpu("lost", gpu).empty()) return LOST;
    for (auto &line : of_gpu("fail", gpu))
        if (line[2] == function) return number(line[3]);
    return OK;
}

template <class T> int reading(const char *function, void *device, const std::string &key, T *value) {
    if (int code = enter(function, device)) return code;
    if (is_mig(device)) return NOT_SUPPORTED;
    for (auto &line : of_gpu("set", gpu_of(device)))
        if (line[2] == key) {
            *value = static_cast<T>(number(line[3]));
            return OK;
        }
    return NOT_SUPPORTED;
}

int text(char *buffer, unsigned length, const std::string &value) {
    snprintf(buffer, length, "%s", value.c_str());
    return OK;
}

struct Process {
    unsigned pid;
    unsigned long long memory;
    unsigned gi, ci;
};

int processes(const char *function, void *device, const char *statement, unsigned *count, Process *infos) {
    if (int code = enter(function, device)) return code;
    auto lines = of_gpu(statement, gpu_of(device));
    unsigned room = *count;
    *count = lines.size();
    if (room < lines.size()) return TOO_SMALL;
    for (size_t i = 0; i < lines.size(); i++) {
        auto &line = lines[i];
        unsigned none = ~0u;
        infos[i] = {static_cast<unsigned>(number(line[2])), static_cast<unsigned long long>(number(line[3])),
                    line.size() > 5 ? static_cast<unsigned>(number(line[4])) : none,
                    line.size() > 5 ? static_cast<unsigned>(number(line[5])) : none};
    }
    return OK;
}

std::mutex lock;
long long told = 0;
} // namespace

#define GETTER(name, type, key)                                                                                        \
    int name(void *device, type *value) { return reading(#name, device, key, value); }

extern "C" {
int nvmlInit_v2() {
    enter("nvmlInit_v2", nullptr);
    const char *code = getenv("NVML_FAKE_INIT");
    return code ? atoi(code) : number(one("init", "0"));
}
int nvmlInitWithFlags(unsigned) { return nvmlInit_v2(); }
int nvmlShutdown() { return OK; }
const char *nvmlErrorString(int) { return "an error of a test"; }
int nvmlSystemGetDriverVersion(char *buffer, unsigned length) { return text(buffer, length, one("driver", "590.48.01")); }
int nvmlSystemGetNVMLVersion(char *buffer, unsigned length) { return text(buffer, length, one("nvml", "13.590.48.01")); }
int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    *version = number(one("cuda", "13010"));
    return OK;
}
int nvmlDeviceGetCount_v2(unsigned *count) {
    if (int code = enter("nvmlDeviceGetCount_v2", nullptr)) return code;
    if (int code = number(one("init", "0"))) return code;
    *count = all("gpu").size();
    return OK;
}
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) {
    *device = handle(index);
    return enter("nvmlDeviceGetHandleByIndex_v2", *device);
}
int nvmlDeviceGetHandleByUUID(const char *uuid, void **device) {
    auto gpus = all("gpu");
    for (size_t gpu = 0; gpu < gpus.size(); gpu++) {
        if (gpus[gpu][1] == uuid) {
            *device = handle(gpu);
            return enter("nvmlDeviceGetHandleByUUID", *device);
        }
        auto instances = of_gpu("mig", gpu);
        for (size_t i = 0; i < instances.size(); i++)
            if (instances[i][2] == uuid) {
                *device = handle(MIG + gpu * MIG_OF_GPU + i);
                return OK;
            }
    }
    return NOT_FOUND;
}
int nvmlDeviceGetUUID(void *device, char *buffer, unsigned length) {
    if (int code = enter("nvmlDeviceGetUUID", device)) return code;
    return text(buffer, length, is_mig(device) ? instance(device)[2] : gpu_line(device)[1]);
}
int nvmlDeviceGetName(void *device, char *buffer, unsigned length) {
    if (int code = enter("nvmlDeviceGetName", device)) return code;
    std::string name = gpu_line(device)[2];
    for (char &letter : name)
        if (letter == '_') letter = ' ';
    return text(buffer, length, is_mig(device) ? name + " MIG " + instance(device)[5] : name);
}
int nvmlDeviceGetIndex(void *device, unsigned *index) {
    *index = gpu_of(device);
    return enter("nvmlDeviceGetIndex", device);
}
int nvmlDeviceGetMinorNumber(void *device, unsigned *minor) {
    *minor = gpu_of(device);
    return enter("nvmlDeviceGetMinorNumber", device);
}
struct Pci {
    char legacy[16];
    unsigned domain, bus, device, id, subsystem;
    char bus_id[32];
};
int nvmlDeviceGetPciInfo_v3(void *device, Pci *pci) {
    if (int code = enter("nvmlDeviceGetPciInfo_v3", device)) return code;
    memset(pci, 0, sizeof *pci);
    pci->bus = gpu_of(device) + 1;
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus);
    return OK;
}
int nvmlDeviceGetCudaComputeCapability(void *device, int *major, int *minor) {
    if (int code = enter("nvmlDeviceGetCudaComputeCapability", device)) return code;
    auto lines = of_gpu("capability", gpu_of(device));
    *major = lines.empty() ? 9 : number(lines[0][2]);
    *minor = lines.empty() ? 0 : number(lines[0][3]);
    return OK;
}
int nvmlDeviceGetUtilizationRates(void *device, unsigned *rates) {
    if (int code = reading("nvmlDeviceGetUtilizationRates", device, "util", &rates[0])) return code;
    if (reading("nvmlDeviceGetUtilizationRates", device, "memutil", &rates[1])) rates[1] = 0;
    return OK;
}
GETTER(nvmlDeviceGetPowerUsage, unsigned, "power")
GETTER(nvmlDeviceGetEnforcedPowerLimit, unsigned, "limit")
GETTER(nvmlDeviceGetTotalEnergyConsumption, unsigned long long, "energy")
GETTER(nvmlDeviceGetCurrentClocksThrottleReasons, unsigned long long, "reasons")
GETTER(nvmlDeviceGetPerformanceState, unsigned, "pstate")
GETTER(nvmlDeviceGetNumFans, unsigned, "fans")
GETTER(nvmlDeviceGetCurrPcieLinkGeneration, unsigned, "pcie.gen")
GETTER(nvmlDeviceGetCurrPcieLinkWidth, unsigned, "pcie.width")
GETTER(nvmlDeviceGetPcieReplayCounter, unsigned, "pcie.replay")
GETTER(nvmlDeviceGetComputeMode, unsigned, "compute_mode")
GETTER(nvmlDeviceGetPersistenceMode, unsigned, "persistence")
GETTER(nvmlDeviceGetArchitecture, unsigned, "architecture")
int nvmlDeviceGetTemperature(void *device, unsigned, unsigned *celsius) {
    return reading("nvmlDeviceGetTemperature", device, "temp", celsius);
}
int nvmlDeviceGetClockInfo(void *device, unsigned which, unsigned *megahertz) {
    return reading("nvmlDeviceGetClockInfo", device, "clock." + std::to_string(which), megahertz);
}
int nvmlDeviceGetFanSpeed_v2(void *device, unsigned fan, unsigned *percent) {
    return reading("nvmlDeviceGetFanSpeed_v2", device, "fan." + std::to_string(fan), percent);
}
int nvmlDeviceGetEccMode(void *device, unsigned *now, unsigned *later) {
    if (int code = reading("nvmlDeviceGetEccMode", device, "ecc", now)) return code;
    *later = *now;
    return OK;
}
int nvmlDeviceGetTotalEccErrors(void *device, unsigned error, unsigned counter, unsigned long long *count) {
    return reading("nvmlDeviceGetTotalEccErrors", device, "ecc." + std::to_string(error) + std::to_string(counter), count);
}
int nvmlDeviceGetPcieThroughput(void *device, unsigned which, unsigned *kilobytes) {
    return reading("nvmlDeviceGetPcieThroughput", device, "throughput." + std::to_string(which), kilobytes);
}
int nvmlDeviceGetNvLinkState(void *device, unsigned link, unsigned *state) {
    return reading("nvmlDeviceGetNvLinkState", device, "nvlink." + std::to_string(link), state);
}
int nvmlDeviceGetNvLinkErrorCounter(void *device, unsigned link, unsigned counter, unsigned long long *count) {
    return reading("nvmlDeviceGetNvLinkErrorCounter", device, "nvlink." + std::to_string(link) + "." + std::to_string(counter), count);
}
struct FieldValue {
    unsigned field, scope;
    long long timestamp, latency;
    unsigned type;
    int code;
    unsigned long long value;
};
int nvmlDeviceGetFieldValues(void *device, int count, FieldValue *values) {
    if (int code = enter("nvmlDeviceGetFieldValues", device)) return code;
    for (int i = 0; i < count; i++) {
        values[i].type = 3; // unsigned long long
        values[i].code = reading("nvmlDeviceGetFieldValues", device, "field." + std::to_string(values[i].field), &values[i].value);
    }
    return OK;
}
int nvmlDeviceGetRetiredPages_v2(void *device, unsigned cause, unsigned *count, unsigned long long *, unsigned long long *) {
    return reading("nvmlDeviceGetRetiredPages_v2", device, "retired." + std::to_string(cause), count);
}
int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(void *device, void **parent) {
    *parent = handle(gpu_of(device));
    return is_mig(device) ? OK : INVALID;
}
int nvmlDeviceIsMigDeviceHandle(void *device, unsigned *answer) {
    *answer = is_mig(device);
    return OK;
}
struct Share {
    unsigned pid;
    unsigned long long time;
    unsigned sm, memory, encoder, decoder;
};
int nvmlDeviceGetProcessUtilization(void *device, Share *shares, unsigned *count, unsigned long long seen) {
    if (enter("nvmlDeviceGetProcessUtilization", device)) return LOST;
    std::vector<Share> newer;
    for (auto &line : of_gpu("share", gpu_of(device))) {
        Share share = {static_cast<unsigned>(number(line[2])), strtoull(line[3].c_str(), nullptr, 10),
                       static_cast<unsigned>(number(line[4])), static_cast<unsigned>(number(line[5])), 0, 0};
        if (!share.time) share.time = seen + 1;
        if (share.time > seen) newer.push_back(share);
    }
    unsigned room = *count;
    *count = newer.size();
    if (newer.empty()) return NOT_FOUND;
    if (room < newer.size()) return TOO_SMALL;
    std::copy(newer.begin(), newer.end(), shares);
    return OK;
}
int nvmlEventSetCreate(void **set) {
    *set = &told;
    return OK;
}
int nvmlEventSetFree(void *) { return OK; }
int nvmlDeviceGetSupportedEventTypes(void *device, unsigned long long *types) {
    *types = 0xf1ff;
    return enter("nvmlDeviceGetSupportedEventTypes", device);
}
int nvmlDeviceRegisterEvents(void *device, unsigned long long, void *) { return enter("nvmlDeviceRegisterEvents", device); }
struct Event {
    void *device;
    unsigned long long type, data;
    unsigned gi, ci;
};
int nvmlEventSetWait_v2(void *, Event *event, unsigned milliseconds) {
    for (unsigned waited = 0; waited <= milliseconds; waited += 10) {
        for (auto &line : all("event")) {
            std::lock_guard<std::mutex> guard(lock);
            if (number(line[1]) <= told) continue;
            told = number(line[1]);
            *event = {handle(number(line[2])), static_cast<unsigned long long>(number(line[3])),
                      static_cast<unsigned long long>(number(line[4])), 0, 0};
            return OK;
        }
        usleep(10000);
    }
    return TIMEOUT;
}
#ifndef OLD_DRIVER
struct Memory {
    unsigned version;
    unsigned long long total, reserved, free, used;
};
int nvmlDeviceGetMemoryInfo_v2(void *device, Memory *memory) {
    if (int code = enter("nvmlDeviceGetMemoryInfo_v2", device)) return code;
    if (is_mig(device)) {
        auto line = instance(device);
        memory->total = number(line[6]);
        memory->used = number(line[7]);
        memory->reserved = 0;
    } else if (int code = reading("nvmlDeviceGetMemoryInfo_v2", device, "total", &memory->total)) {
        return code;
    } else {
        if (reading("nvmlDeviceGetMemoryInfo_v2", device, "used", &memory->used)) memory->used = 0;
        if (reading("nvmlDeviceGetMemoryInfo_v2", device, "reserved", &memory->reserved)) memory->reserved = 0;
    }
    memory->free = memory->total - memory->used - memory->reserved;
    return OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *device, unsigned *count, Process *infos) {
    return processes("nvmlDeviceGetComputeRunningProcesses_v3", device, "process", count, infos);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *device, unsigned *count, Process *infos) {
    return processes("nvmlDeviceGetGraphicsRunningProcesses_v3", device, "graphics", count, infos);
}
int nvmlDeviceGetMigMode(void *device, unsigned *now, unsigned *later) {
    if (int code = reading("nvmlDeviceGetMigMode", device, "mig", now)) return code;
    *later = *now;
    return OK;
}
int nvmlDeviceGetMaxMigDeviceCount(void *device, unsigned *count) {
    *count = 7;
    return enter("nvmlDeviceGetMaxMigDeviceCount", device);
}
int nvmlDeviceGetMigDeviceHandleByIndex(void *device, unsigned index, void **instance) {
    if (int code = enter("nvmlDeviceGetMigDeviceHandleByIndex", device)) return code;
    *instance = handle(MIG + gpu_of(device) * MIG_OF_GPU + index);
    return index < of_gpu("mig", gpu_of(device)).size() ? OK : NOT_FOUND;
}
int nvmlDeviceGetGpuInstanceId(void *device, unsigned *id) {
    *id = is_mig(device) ? number(instance(device)[3]) : 0;
    return is_mig(device) ? OK : NOT_SUPPORTED;
}
int nvmlDeviceGetComputeInstanceId(void *device, unsigned *id) {
    *id = is_mig(device) ? number(instance(device)[4]) : 0;
    return is_mig(device) ? OK : NOT_SUPPORTED;
}
struct GpmSupport {
    unsigned version, is_supported;
};
int nvmlGpmQueryDeviceSupport(void *device, GpmSupport *support) {
    unsigned value;
    support->is_supported = reading("nvmlGpmQueryDeviceSupport", device, "gpm.3", &value) == OK;
    return enter("nvmlGpmQueryDeviceSupport", device);
}
int nvmlGpmSampleAlloc(void **sample) {
    *sample = malloc(sizeof(void *));
    return OK;
}
int nvmlGpmSampleFree(void *sample) {
    free(sample);
    return OK;
}
int nvmlGpmSampleGet(void *device, void *sample) {
    *static_cast<void **>(sample) = device;
    return enter("nvmlGpmSampleGet", device);
}
int nvmlGpmMigSampleGet(void *device, unsigned, void *sample) { return nvmlGpmSampleGet(device, sample); }
struct GpmMetric {
    unsigned id;
    int code;
    double value;
    const char *names[3];
};
struct GpmMetrics {
    unsigned version, count;
    void *before, *after;
    GpmMetric metrics[1];
};
int nvmlGpmMetricsGet(GpmMetrics *request) {
    void *device = *static_cast<void **>(request->after);
    for (unsigned i = 0; i < request->count; i++) {
        GpmMetric &metric = request->metrics[i];
        long long value = 0;
        metric.code = reading("nvmlGpmMetricsGet", device, "gpm." + std::to_string(metric.id), &value);
        metric.value = value;
        metric.names[0] = metric.names[1] = metric.names[2] = "";
    }
    return OK;
}
#endif
}
