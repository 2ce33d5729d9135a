/* Loaded before libc (LD_PRELOAD) into a process, it writes down, in the order of their effect, the calls that change files below
   $RECORD_ROOT, and the syncs. powercut.py reads the record ($RECORD_TO) and knows from it what a disk has to keep.

   A record: one letter, then fields; numbers are 64 bits, texts have their length in front.
     C created(path, inode)   W written(inode, offset, bytes)   T cut(inode, length)   S synced(inode)
     L linked(inode, path)    R renamed(from, to)               U unlinked(path)       M directory made(path, inode)   K mark(number) */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static FILE *record;
static const char *root;

static int begin(void) {
  int before = errno;
  pthread_mutex_lock(&order);
  if (!record && getenv("RECORD_TO")) {
    root = getenv("RECORD_ROOT");
    record = fopen(getenv("RECORD_TO"), "ab");
  }
  errno = before;
  return record != NULL;
}
static void end(void) {
  int before = errno;
  if (record) fflush(record);
  pthread_mutex_unlock(&order);
  errno = before;
}
static int ours(const char *path) { return record && path && !strncmp(path, root, strlen(root)); }
static void letter(char what) { fputc(what, record); }
static void number(uint64_t n) { fwrite(&n, sizeof n, 1, record); }
static void bytes(const void *from, size_t count) {
  number(count);
  fwrite(from, 1, count, record);
}
static void text(const char *t) { bytes(t, strlen(t)); }
static uint64_t inode(const char *path) {
  struct stat s;
  return stat(path, &s) ? 0 : s.st_ino;
}
/* The inode of a file or directory of ours, else 0. */
static uint64_t known(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  struct stat s;
  return ours(path) && !fstat(fd, &s) ? s.st_ino : 0;
}

static int opened(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
  begin();
  int mine = ours(path), was = mine && !access(path, F_OK);
  int fd = real(path, flags, mode);
  int before = errno;
  if (mine && fd >= 0) {
    uint64_t at = inode(path);
    if ((flags & O_CREAT) && !was) letter('C'), text(path), number(at);
    else if (flags & O_TRUNC) letter('T'), number(at), number(0);
  }
  errno = before;
  end();
  return fd;
}
#define OPEN(name)                                  \
  int name(const char *path, int flags, ...) {      \
    va_list more;                                   \
    va_start(more, flags);                          \
    mode_t mode = va_arg(more, mode_t);             \
    va_end(more);                                   \
    return opened(REAL(name), path, flags, mode);   \
  }
OPEN(open)
OPEN(open64)

static ssize_t written(ssize_t n, int fd, const void *from, int64_t at) {
  int before = errno;
  uint64_t file = n > 0 ? known(fd) : 0;
  if (file) {
    if (at < 0) at = lseek(fd, 0, SEEK_CUR) - n;
    letter('W'), number(file), number(at), bytes(from, n);
  }
  errno = before;
  end();
  return n;
}
ssize_t write(int fd, const void *from, size_t count) {
  begin();
  return written(REAL(write)(fd, from, count), fd, from, -1);
}
ssize_t pwrite64(int fd, const void *from, size_t count, off64_t at) {
  begin();
  return written(REAL(pwrite64)(fd, from, count, at), fd, from, at);
}
int ftruncate64(int fd, off64_t length) {
  begin();
  int done = REAL(ftruncate64)(fd, length);
  uint64_t file = done ? 0 : known(fd);
  if (file) letter('T'), number(file), number(length);
  end();
  return done;
}
static int synced(int done, int fd) {
  uint64_t file = done ? 0 : known(fd);
  if (file) letter('S'), number(file);
  end();
  return done;
}
int fsync(int fd) { begin(); return synced(REAL(fsync)(fd), fd); }
int fdatasync(int fd) { begin(); return synced(REAL(fdatasync)(fd), fd); }

static int linked(int done, const char *to) {
  if (!done && ours(to)) letter('L'), number(inode(to)), text(to);
  end();
  return done;
}
int link(const char *from, const char *to) { begin(); return linked(REAL(link)(from, to), to); }
int linkat(int a, const char *from, int b, const char *to, int flags) {
  begin();
  return linked(REAL(linkat)(a, from, b, to, flags), to);
}
int rename(const char *from, const char *to) {
  begin();
  int done = REAL(rename)(from, to);
  if (!done && ours(to)) letter('R'), text(from), text(to);
  end();
  return done;
}
static int removed(int done, const char *path) {
  if (!done && ours(path)) letter('U'), text(path);
  end();
  return done;
}
int unlink(const char *path) { begin(); return removed(REAL(unlink)(path), path); }
int mkdir(const char *path, mode_t mode) {
  begin();
  int done = REAL(mkdir)(path, mode);
  if (!done && ours(path)) letter('M'), text(path), number(inode(path));
  end();
  return done;
}
/* Called by the process itself: what was acknowledged up to here. */
void recorder_mark(uint64_t what) {
  if (begin()) letter('K'), number(what);
  end();
}
