// The clock of the machine, wrong by what a file says: loaded before the C library by LD_PRELOAD, it adds the seconds in
// the file that CLOCK_FAKE names to CLOCK_REALTIME. The monotonic clock is left as it is, as a step of the clock does.

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <sys/syscall.h>
#include <unistd.h>

extern "C" int clock_gettime(clockid_t clock, struct timespec *time) {
    long answer = syscall(SYS_clock_gettime, clock, time);
    const char *path = getenv("CLOCK_FAKE");
    if (answer != 0 || clock != CLOCK_REALTIME || path == nullptr) {
        return static_cast<int>(answer);
    }
    if (FILE *file = fopen(path, "re")) {
        long long seconds = 0;
        if (fscanf(file, "%lld", &seconds) == 1) {
            time->tv_sec += seconds;
        }
        fclose(file);
    }
    return 0;
}
