/* Attempts to escape from a sandbox. The first argument selects the attempt. Exit code 0: the attempt succeeded; 1: it
 * failed, with the reason on standard error. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/vm_sockets.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

/* The exit code of an attempt; prints the reason if it failed. */
static int through(int failed) {
    if (failed) { fprintf(stderr, "%s\n", strerror(errno)); return 1; }
    return 0;
}
static int put(const char *path, const char *text, int flags) {
    int fd = open(path, O_WRONLY | flags, 0644);
    if (fd < 0) return through(1);
    int failed = write(fd, text, strlen(text)) < 0;
    close(fd);
    return through(failed);
}
static int get(const char *path, const char *wanted) {
    char buffer[65536];
    int fd = open(path, O_RDONLY);
    if (fd < 0) return through(1);
    ssize_t count = read(fd, buffer, sizeof buffer - 1);
    if (count < 0) return through(1);
    for (ssize_t i = 0; i < count; i++) if (!buffer[i]) buffer[i] = '\n';
    buffer[count] = 0;
    if (!strstr(buffer, wanted)) { fprintf(stderr, "not in it\n"); return 1; }
    return 0;
}
static int get_any(const char *path) {
    char byte;
    int fd = open(path, O_RDONLY);
    if (fd < 0) return through(1);
    ssize_t count = read(fd, &byte, 1);
    if (count < 0) return through(1);
    if (count == 0) fprintf(stderr, "it is empty\n");
    return count == 0;
}
/* Asks the kernel for the network interfaces; succeeds if it names one that is not the loopback. */
static int other_interface(void) {
    static char buffer[65536];
    struct { struct nlmsghdr head; struct ifinfomsg body; } request = {
        .head = {.nlmsg_len = sizeof request, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP}};
    int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE);
    if (fd < 0 || send(fd, &request, sizeof request, 0) < 0) return through(1);
    for (;;) {
        int length = recv(fd, buffer, sizeof buffer, 0);
        if (length <= 0) return through(1);
        for (struct nlmsghdr *message = (void *)buffer; NLMSG_OK(message, length); message = NLMSG_NEXT(message, length)) {
            if (message->nlmsg_type == NLMSG_DONE || message->nlmsg_type == NLMSG_ERROR) {
                fprintf(stderr, "only the loopback\n");
                return 1;
            }
            struct ifinfomsg *interface = NLMSG_DATA(message);
            if (!(interface->ifi_flags & IFF_LOOPBACK) && (interface->ifi_flags & IFF_UP)) return 0;
        }
    }
}
static int inet_to(int type, const char *address, int port) {
    struct sockaddr_storage to = {0};
    socklen_t length;
    int is6 = strchr(address, ':') != NULL;
    if (is6) {
        struct sockaddr_in6 *a = (void *)&to;
        a->sin6_family = AF_INET6; a->sin6_port = htons(port); inet_pton(AF_INET6, address, &a->sin6_addr); length = sizeof *a;
    } else {
        struct sockaddr_in *a = (void *)&to;
        a->sin_family = AF_INET; a->sin_port = htons(port); inet_pton(AF_INET, address, &a->sin_addr); length = sizeof *a;
    }
    int fd = socket(is6 ? AF_INET6 : AF_INET, type, 0);
    if (fd < 0) return through(1);
    if (type == SOCK_DGRAM) return through(sendto(fd, "x", 1, 0, (void *)&to, length) < 0);
    if (connect(fd, (void *)&to, length)) return through(1);
    return through(write(fd, "x", 1) != 1);
}
static int unix_to(int type, const char *path, int use_pair) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    socklen_t length = offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1;
    strcpy(to.sun_path, path);
    if (path[0] == '@') { to.sun_path[0] = 0; length--; }
    int pair[2], fd;
    if (use_pair) { if (socketpair(AF_UNIX, type, 0, pair)) return through(1); fd = pair[0]; }
    else fd = socket(AF_UNIX, type, 0);
    if (fd < 0) return through(1);
    if (type == SOCK_STREAM) { if (connect(fd, (void *)&to, length)) return through(1); return through(write(fd, "x", 1) != 1); }
    return through(sendto(fd, "x", 1, 0, (void *)&to, length) < 0);
}
static int sleeper(void *unused) { (void)unused; return 0; }
/* Starts up to `max` processes, and prints how many are alive at the same time. */
static int fork_bomb(long max) {
    long started = 0;
    for (; started < max; started++) {
        pid_t pid = fork();
        if (pid < 0) break;
        if (pid == 0) { pause(); _exit(0); }
    }
    int saved = errno;
    printf("%ld\n", started); fflush(stdout);
    usleep(300000);
    if (started < max) { errno = saved; return through(1); }
    return 0;
}
static int memory(long mebibytes) {
    for (long i = 0; i < mebibytes; i++) {
        char *piece = mmap(0, 1 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (piece == MAP_FAILED) return through(1);
        memset(piece, i + 1, 1 << 20);
        if (i % 64 == 63) usleep(20000);
    }
    usleep(200000);
    return 0;
}
static int children(int count, int (*work)(long), long argument) {
    for (int i = 0; i < count; i++) if (fork() == 0) _exit(work(argument));
    int status, worst = 0;
    while (wait(&status) > 0) if (status) worst = 1;
    return worst;
}
static int spin(long milliseconds) {
    struct timespec now;
    do clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    while (now.tv_sec * 1000 + now.tv_nsec / 1000000 < milliseconds);
    return 0;
}
static int fill(const char *path, long mebibytes) {
    static char piece[1 << 20];
    memset(piece, 1, sizeof piece);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) return through(1);
    for (long i = 0; i < mebibytes; i++) {
        if (write(fd, piece, sizeof piece) != sizeof piece) return through(1);
        if (i % 64 == 63) usleep(20000);
    }
    usleep(200000);
    return 0;
}
static int tiocsti(unsigned long request) {
    int fd = open("/dev/ptmx", O_RDWR | O_NOCTTY);
    int zero = 0;
    if (fd < 0) return through(1);
    ioctl(fd, TIOCSPTLCK, &zero);
    int terminal = ioctl(fd, TIOCGPTPEER, O_RDWR | O_NOCTTY);
    if (terminal < 0) return through(1);
    setsid();
    ioctl(terminal, TIOCSCTTY, 0);
    return through(syscall(SYS_ioctl, terminal, request, "x") < 0);
}
static int swap_git(const char *git) {
    char away[4096], hook[4096], command[16384];
    snprintf(away, sizeof away, "%s.away", git);
    if (rename(git, away)) return through(1);
    snprintf(command, sizeof command, "cp -r %s %s", away, git);
    if (system(command)) return 1;
    snprintf(hook, sizeof hook, "%s/hooks/pre-commit", git);
    return put(hook, "#!/bin/sh\n", O_CREAT | O_TRUNC);
}

int main(int count, char **arg) {
    if (count < 2) return 2;
    const char *what = arg[1], *a = count > 2 ? arg[2] : "", *b = count > 3 ? arg[3] : "";
    long number = atol(a);
#define IS(name) (!strcmp(what, name))
    /* The disk. */
    if (IS("write")) return put(a, "escaped", 0);
    if (IS("create")) return put(a, "escaped", O_CREAT | O_EXCL);
    if (IS("append")) return put(a, "escaped", O_APPEND);
    if (IS("read")) return get(a, b);
    if (IS("read-any")) return get_any(a);
    if (IS("rename")) return through(rename(a, b));
    if (IS("exchange")) return through(syscall(SYS_renameat2, AT_FDCWD, a, AT_FDCWD, b, 2));
    if (IS("link-write")) { unlink(b); if (link(a, b)) return through(1); return put(b, "escaped", 0); }
    if (IS("symlink-write")) { unlink(b); if (symlink(a, b)) return through(1); return put(b, "escaped", 0); }
    if (IS("symlink")) return through(symlink("/etc/passwd", a));
    if (IS("truncate")) return through(truncate(a, 0));
    if (IS("open-truncate")) { int fd = open(a, O_RDONLY | O_TRUNC); return through(fd < 0); }
    if (IS("unlink")) return through(unlink(a));
    if (IS("mkdir")) return through(mkdir(a, 0755));
    if (IS("rmdir")) return through(rmdir(a));
    if (IS("chmod")) return through(chmod(a, strtol(b, 0, 8)));
    if (IS("fchmod")) { int fd = open(a, O_RDONLY); return through(fd < 0 || fchmod(fd, 0777)); }
    if (IS("chown")) return through(chown(a, atoi(b), -1));
    if (IS("utime")) { struct timeval t[2] = {{1, 0}, {1, 0}}; return through(utimes(a, t)); }
    if (IS("setxattr")) return through(setxattr(a, "user.x", "y", 1, 0));
    if (IS("setflags")) { int fd = open(a, O_RDONLY), flags = FS_NODUMP_FL; return through(fd < 0 || ioctl(fd, FS_IOC_SETFLAGS, &flags)); }
    if (IS("mkfifo")) return through(mkfifo(a, 0644));
    if (IS("read-device")) {
        struct stat s;
        if (stat("/", &s)) return through(1);
        unlink(a);
        if (mknod(a, S_IFBLK | 0600, s.st_dev)) return through(1);
        char byte; int fd = open(a, O_RDONLY);
        return through(fd < 0 || read(fd, &byte, 1) != 1);
    }
    if (IS("read-disk")) { char byte; int fd = open(a, O_RDONLY); return through(fd < 0 || read(fd, &byte, 1) != 1); }
    if (IS("write-descriptor")) return through(write(atoi(a), "escaped", 7) != 7);
    if (IS("handle")) {
        struct { struct file_handle h; char space[128]; } handle = {.h = {.handle_bytes = 128}};
        int id;
        return through(name_to_handle_at(AT_FDCWD, a, &handle.h, &id, 0) || open_by_handle_at(AT_FDCWD, &handle.h, O_RDWR) < 0);
    }
    /* The network. */
    if (IS("tcp")) return inet_to(SOCK_STREAM, a, atoi(b));
    if (IS("udp")) return inet_to(SOCK_DGRAM, a, atoi(b));
    if (IS("raw")) {
        int fd = socket(AF_INET, SOCK_RAW, 1);
        return through(fd < 0);
    }
    if (IS("packet")) return through(socket(AF_PACKET, SOCK_RAW, 0) < 0);
    if (IS("vsock")) return through(socket(AF_VSOCK, SOCK_STREAM, 0) < 0);
    if (IS("alg")) return through(socket(AF_ALG, SOCK_SEQPACKET, 0) < 0);
    if (IS("netlink-uevent")) {
        int fd = socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT);
        struct sockaddr_nl to = {.nl_family = AF_NETLINK, .nl_groups = 1};
        return through(fd < 0 || bind(fd, (void *)&to, sizeof to));
    }
    if (IS("netlink-diag")) return through(socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG) < 0);
    if (IS("netlink-interfaces")) return other_interface();
    if (IS("unix")) return unix_to(SOCK_STREAM, a, 0);
    if (IS("unix-datagram")) return unix_to(SOCK_DGRAM, a, 0);
    if (IS("unix-pair")) return unix_to(SOCK_DGRAM, a, 1);
    if (IS("unix-raw-pair")) return unix_to(SOCK_RAW, a, 1);
    /* Other processes. */
    if (IS("kill")) return through(kill(number, SIGTERM));
    if (IS("pidfd-kill")) { int fd = syscall(SYS_pidfd_open, number, 0); return through(fd < 0 || syscall(SYS_pidfd_send_signal, fd, SIGTERM, 0, 0)); }
    if (IS("ptrace")) return through(ptrace(PTRACE_SEIZE, number, 0, 0));
    if (IS("vm-read")) {
        char byte; struct iovec here = {&byte, 1}, there = {(void *)strtoul(b, 0, 16), 1};
        if (process_vm_readv(number, &here, 1, &there, 1, 0) == 1) return 0;
        return errno == EFAULT ? 0 : through(1);
    }
    if (IS("prlimit")) { struct rlimit limit = {64, 64}; return through(prlimit(number, RLIMIT_NOFILE, &limit, 0)); }
    if (IS("renice")) return through(setpriority(PRIO_PROCESS, number, 19));
    if (IS("setns")) { char path[64]; snprintf(path, sizeof path, "/proc/%ld/ns/mnt", number); int fd = open(path, O_RDONLY); return through(fd < 0 || setns(fd, 0)); }
    if (IS("shm")) { int id = shmget(number, 1, 0); return through(id < 0 || shmat(id, 0, 0) == (void *)-1); }
    /* The kernel. */
    if (IS("mount")) return through(mount("tmpfs", a, "tmpfs", 0, 0));
    if (IS("remount")) return through(mount(0, a, 0, MS_REMOUNT | MS_BIND, 0));
    if (IS("umount")) return through(umount2(a, MNT_DETACH));
    if (IS("unshare-user")) return through(unshare(CLONE_NEWUSER));
    if (IS("unshare-mount")) return through(unshare(CLONE_NEWNS));
    if (IS("clone-user")) {
        static char stack[65536];
        return through(clone(sleeper, stack + sizeof stack, CLONE_NEWUSER | SIGCHLD, 0) < 0);
    }
    if (IS("clone3-user")) {
        uint64_t args[8] = {CLONE_NEWUSER, 0, 0, 0, SIGCHLD};
        long pid = syscall(SYS_clone3, args, sizeof args);
        if (pid == 0) _exit(0);
        return through(pid < 0);
    }
    if (IS("chroot")) return through(chroot(a));
    if (IS("io-uring")) { char params[120] = {0}; return through(syscall(SYS_io_uring_setup, 1, params) < 0); }
    if (IS("bpf")) { char attributes[128] = {0}; uint32_t *u = (void *)attributes; u[0] = 2; u[1] = 4; u[2] = 4; u[3] = 1; return through(syscall(SYS_bpf, 0, attributes, sizeof attributes) < 0); }
    if (IS("perf")) { char attributes[128] = {0}; ((uint32_t *)attributes)[0] = 1; ((uint32_t *)attributes)[1] = 128; return through(syscall(SYS_perf_event_open, attributes, 0, -1, -1, 0) < 0); }
    if (IS("keyring")) return through(syscall(SYS_add_key, "user", "confine-test", "x", 1, -4) < 0);
    if (IS("userfaultfd")) return through(syscall(SYS_userfaultfd, 1) < 0);
    if (IS("tiocsti")) return tiocsti(TIOCSTI);
    if (IS("tiocsti-high")) return tiocsti(TIOCSTI | 1UL << 32);
    if (IS("tioclinux")) return tiocsti(TIOCLINUX);
    if (IS("syslog")) { char text[64]; return through(syscall(SYS_syslog, 3, text, sizeof text) < 0); }
    if (IS("hostname")) { char name[65]; gethostname(name, sizeof name); return through(sethostname(name, strlen(name))); }
#ifdef __x86_64__
    if (IS("x32")) return through(syscall(0x40000000 | 521, PTRACE_TRACEME, 0, 0, 0) < 0);
    if (IS("int80")) {
        long result; /* unshare(CLONE_NEWUSER) in the table of 32-bit programs */
        __asm__ volatile("int $0x80" : "=a"(result) : "a"(310L), "b"((long)CLONE_NEWUSER) : "memory");
        if (result < 0) { errno = -result; return through(1); }
        return 0;
    }
#endif
    if (IS("write-back")) {
        char text[4096]; int fd = open(a, O_RDONLY);
        if (fd < 0) return through(1);
        ssize_t length = read(fd, text, sizeof text);
        close(fd);
        fd = open(a, O_WRONLY);
        return through(fd < 0 || write(fd, text, length) != length);
    }
    if (IS("euid")) return geteuid() == 0 && getuid() != 0 ? 0 : 1;
    if (IS("exec")) { execv(a, arg + 2); return through(1); }
    if (IS("set-uid")) { char *args[] = {(char *)a, "euid", 0}; execv(a, args); return through(1); }
    /* git. */
    if (IS("swap-git")) return swap_git(a);
    if (IS("replace")) { if (unlink(a) && errno != ENOENT && rmdir(a)) return through(1); return put(a, b, O_CREAT); }
    if (IS("put-in")) { char path[4096]; mkdir(a, 0755); snprintf(path, sizeof path, "%s/file", a); return put(path, b, O_CREAT); }
    if (IS("create-mode")) {
        int fd = open(a, O_CREAT | O_WRONLY | O_EXCL, (mode_t)strtol(b, 0, 8));
        struct stat s;
        return through(fd < 0 || fstat(fd, &s)) || !(s.st_mode & S_ISUID);
    }
    /* Outside of a process id namespace, process 1 belongs to the machine, so this attempt must not kill it. */
    if (IS("kill-first")) { if (getppid() != 1) return 1; kill(1, SIGKILL); usleep(50000); return kill(1, 0) == 0; }
    if (IS("readlink")) { char text[1024]; return through(readlink(a, text, sizeof text) < 0); }
    if (IS("put")) return put(a, b, O_CREAT);
    /* Limits. */
    if (IS("fork-bomb")) return fork_bomb(number);
    if (IS("memory")) return memory(number);
    if (IS("memory-children")) return children(4, memory, number);
    if (IS("hidden-memory-children")) { if (prctl(PR_SET_DUMPABLE, 0)) return through(1); return children(4, memory, number); }
    if (IS("fill")) return fill(a, atol(b));
    if (IS("spin")) return spin(number);
    if (IS("spin-children")) return children(4, spin, number);
    if (IS("open-files")) { for (long i = 0; i < number; i++) if (open("/dev/null", O_RDONLY) < 0) return through(1); return 0; }
    return 2;
}
