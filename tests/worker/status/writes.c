// Takes the place of the system's calls: while there is a file `errno` in the working folder, no write to the results file,
// or to what is beside it, succeeds; the number in the file says why.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(int file) {
    char link[64], path[4096], text[16];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    if (!strstr(path, "results.db")) return 0;
    int numbers = syscall(SYS_openat, AT_FDCWD, "errno", O_RDONLY | O_CLOEXEC);
    if (numbers < 0) return 0;
    length = read(numbers, text, sizeof text - 1);
    close(numbers);
    if (length <= 0) return 0;
    text[length] = 0;
    errno = atoi(text);
    return 1;
}

ssize_t write(int file, const void *bytes, size_t count) {
    return fails(file) ? -1 : syscall(SYS_write, file, bytes, count);
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off_t offset) {
    return fails(file) ? -1 : syscall(SYS_pwrite64, file, bytes, count, offset);
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
    return pwrite64(file, bytes, count, offset);
}
