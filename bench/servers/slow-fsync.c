/* A disk whose flush takes 2 ms, for a Postgres of its own: preloaded, it does the real flush and then waits until
   SLOW_FSYNC_US microseconds have passed. Postgres flushes its log by fdatasync on Linux. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static long long now_us(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static int slowed(const char *name, int fd) {
  const char *given = getenv("SLOW_FSYNC_US");
  long long until = now_us() + (given ? atoll(given) : 2000);
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
  int result = real(fd);
  long long left = until - now_us();
  if (left > 0) {
    struct timespec t = {left / 1000000, left % 1000000 * 1000};
    nanosleep(&t, 0);
  }
  return result;
}

int fdatasync(int fd) { return slowed("fdatasync", fd); }
int fsync(int fd) { return slowed("fsync", fd); }
