// Takes the place of the system's call: while there is a file `broken` in the working folder, no sync comes to its end.
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

int fdatasync(int file) {
    if (access("broken", F_OK) == 0) {
        errno = EIO;
        return -1;
    }
    return syscall(SYS_fdatasync, file);
}
