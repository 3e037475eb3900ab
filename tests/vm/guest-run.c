/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Runs one command in the VM of the test suite, sends its output and its exit code to the host, and turns the machine
 * off. As process 1 it also does what little an init must do; under systemd it is an ordinary service. It is linked
 * statically, and it is no part of tdid.
 *
 * Towards the host there is one virtio port. What goes out is a row of frames: a letter, the length as 32 bits in the
 * machine's order, the data. 'o' is output of the command, 'p' a sign of life of every processor, 't' says that the command's
 * time was up, 'x' is its exit code in decimal and the last frame. The host answers 'x' with one byte once it has read everything before it; only then is the power
 * turned off, because what is still queued in the port would be lost.
 */

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/wait.h>
#include <unistd.h>

#define RUN "/opt/tdid/run/"

enum { EXIT_TIMEOUT = 124, EXIT_BROKEN = 125, EXIT_NOT_RUN = 127 };

static int console = -1;
static int port = -1;

static void say(const char *format, ...) {
        char text[1024];
        va_list ap;
        int n;

        va_start(ap, format);
        n = vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        if (n > 0)
                dprintf(console, "guest-run: %s\n", text);
}

static void send_all(const void *data, size_t size) {
        const char *p = data;

        while (size > 0) {
                ssize_t n = write(port, p, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0) {
                        say("cannot write to the port: %m");
                        return;
                }
                p += n;
                size -= (size_t) n;
        }
}

static void send_frame(char kind, const void *data, size_t size) {
        char head[5] = { kind };
        uint32_t n = (uint32_t) size;

        memcpy(head + 1, &n, sizeof(n));
        send_all(head, sizeof(head));
        send_all(data, size);
}

/* The content of a small file with a NUL after it, or NULL when there is none. */
static char *read_file(const char *path, size_t *ret_size) {
        char *data = NULL;
        size_t size = 0;
        int fd;

        fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0)
                return NULL;

        for (;;) {
                ssize_t n;

                data = realloc(data, size + 4097);
                if (!data)
                        abort();
                n = read(fd, data + size, 4096);
                if (n <= 0)
                        break;
                size += (size_t) n;
        }
        close(fd);
        data[size] = '\0';
        if (ret_size)
                *ret_size = size;
        return data;
}

/* A file of strings that each end in NUL, as an array that ends in NULL. */
static char **read_strings(const char *path) {
        size_t size = 0, n = 0;
        char *data, **list;

        data = read_file(path, &size);
        list = calloc(size + 1, sizeof(char *));
        if (!list)
                abort();
        for (size_t i = 0; data && i < size; i += strlen(data + i) + 1)
                list[n++] = data + i;
        return list;
}

/* The device node of the port named "tdid": devtmpfs knows numbers only, sysfs has the names. */
static int open_port(void) {
        struct dirent *entry;
        DIR *dir;

        dir = opendir("/sys/class/virtio-ports");
        if (!dir)
                return -1;
        while ((entry = readdir(dir))) {
                char path[512], *name;
                bool found;

                snprintf(path, sizeof(path), "/sys/class/virtio-ports/%s/name", entry->d_name);
                name = read_file(path, NULL);
                found = name && strcmp(name, "tdid\n") == 0;
                free(name);
                if (found) {
                        snprintf(path, sizeof(path), "/dev/%s", entry->d_name);
                        closedir(dir);
                        return open(path, O_RDWR | O_CLOEXEC);
                }
        }
        closedir(dir);
        return -1;
}

static void loopback_up(void) {
        struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
        int fd;

        fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd < 0 || ioctl(fd, SIOCSIFFLAGS, &request) < 0)
                say("cannot bring up the loopback interface: %m");
        if (fd >= 0)
                close(fd);
}

/* What everybody is doing, on the console: for the person who must find out why a command did not end. */
static void dump_tasks(void) {
        struct dirent *entry;
        DIR *dir;
        int fd;

        dir = opendir("/proc");
        while (dir && (entry = readdir(dir))) {
                char path[512], *comm, *cmdline, *wchan, *stack;
                size_t size = 0;

                if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
                        continue;
                snprintf(path, sizeof(path), "/proc/%s/cmdline", entry->d_name);
                cmdline = read_file(path, &size);
                if (!cmdline || size == 0) { /* a kernel thread */
                        free(cmdline);
                        continue;
                }
                for (size_t i = 0; i + 1 < size; i++)
                        if (cmdline[i] == '\0')
                                cmdline[i] = ' ';
                snprintf(path, sizeof(path), "/proc/%s/comm", entry->d_name);
                comm = read_file(path, NULL);
                snprintf(path, sizeof(path), "/proc/%s/wchan", entry->d_name);
                wchan = read_file(path, NULL);
                snprintf(path, sizeof(path), "/proc/%s/stack", entry->d_name);
                stack = read_file(path, NULL);
                if (comm)
                        comm[strcspn(comm, "\n")] = '\0';
                say("%s (%s) waits in %s: %s\n%s", entry->d_name, comm ?: "?", wchan ?: "?", cmdline, stack ?: "");
                free(comm);
                free(cmdline);
                free(wchan);
                free(stack);
        }
        if (dir)
                closedir(dir);

        fd = open("/proc/sysrq-trigger", O_WRONLY | O_CLOEXEC);
        if (fd >= 0) {
                (void) !write(fd, "w", 1); /* tasks in uninterruptible sleep, with their stacks */
                close(fd);
        }
}

static _Noreturn void power_off(void) {
        sync();
        reboot(RB_POWER_OFF);
        _exit(EXIT_BROKEN);
}

/* Sends the exit code and ends the machine, whoever is still running in it. */
static _Noreturn void finish(int code) {
        struct pollfd p = { .fd = port, .events = POLLIN };
        char text[16];

        snprintf(text, sizeof(text), "%d", code);
        send_frame('x', text, strlen(text));
        if (poll(&p, 1, 20000) <= 0)
                say("the host did not acknowledge the exit code in 20 s");
        power_off();
}

static pid_t start_command(int output, const char *tty) {
        char **command, **environment, *cwd;
        sigset_t none;
        pid_t pid;

        pid = fork();
        if (pid != 0)
                return pid;

        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        setsid();
        if (tty) {
                int fd = open(tty, O_RDWR);

                if (fd < 0 || ioctl(fd, TIOCSCTTY, 0) < 0)
                        say("cannot open %s as a terminal: %m", tty);
                for (int i = 0; i < 3; i++)
                        dup2(fd, i);
                if (fd > 2)
                        close(fd);
        } else {
                int null = open("/dev/null", O_RDONLY);

                dup2(null, STDIN_FILENO);
                dup2(output, STDOUT_FILENO);
                dup2(output, STDERR_FILENO);
                if (null > 2)
                        close(null);
        }

        environment = read_strings(RUN "environment");
        for (size_t i = 0; environment[i]; i++)
                putenv(environment[i]);
        cwd = read_file(RUN "cwd", NULL);
        if (cwd && chdir(cwd) < 0)
                dprintf(STDERR_FILENO, "guest-run: cannot change to %s: %m\n", cwd);
        command = read_strings(RUN "command");
        if (!command[0])
                _exit(0);
        execvp(command[0], command);
        dprintf(STDERR_FILENO, "guest-run: cannot run '%s' in the guest: %m\n", command[0]);
        _exit(EXIT_NOT_RUN);
}

/* Starts a process that sleeps on one processor after the other, and writes a byte when it has woken on each: an emulated
 * processor can lose its timer, and then stands still for good with whatever waits on it. Returns the pipe's end to read. */
static int start_pulse(void) {
        int ends[2];
        cpu_set_t all;

        if (pipe2(ends, O_CLOEXEC) < 0 || sched_getaffinity(0, sizeof(all), &all) < 0)
                return -1;
        if (fork() == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                prctl(PR_SET_NAME, "pulse");
                do
                        for (int i = 0; i < CPU_SETSIZE; i++) {
                                cpu_set_t one;

                                if (!CPU_ISSET(i, &all))
                                        continue;
                                CPU_ZERO(&one);
                                CPU_SET(i, &one);
                                sched_setaffinity(0, sizeof(one), &one); /* a processor that has gone offline is none */
                                usleep(500000);
                        }
                while (write(ends[1], "", 1) == 1);
                _exit(0);
        }
        close(ends[1]);
        return ends[0];
}

/* Reaps whatever has ended; true when the command itself was among it. */
static bool reap(pid_t pid, int *ret_status) {
        bool seen = false;
        int status;
        pid_t p;

        while ((p = waitpid(-1, &status, WNOHANG)) > 0)
                if (p == pid) {
                        *ret_status = status;
                        seen = true;
                }
        return seen;
}

int main(void) {
        int output[2], child_fd, timer_fd, status = 0;
        char *timeout, *tty;
        static char buffer[1 << 16];
        sigset_t mask;
        pid_t pid;

        console = open("/dev/console", O_WRONLY | O_CLOEXEC | O_NOCTTY);
        port = open_port();
        if (port < 0) {
                say("no virtio port named 'tdid': nothing can be reported to the host");
                power_off();
        }
        if (getpid() == 1) {
                setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
                setenv("HOME", "/root", 1);
                setenv("LANG", "C.UTF-8", 1);
                (void) !sethostname("tdid-vm", 7);
                loopback_up();
                signal(SIGPIPE, SIG_IGN);
        }
        umask(022);

        sigemptyset(&mask);
        sigaddset(&mask, SIGCHLD);
        sigprocmask(SIG_BLOCK, &mask, NULL);
        child_fd = signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
        timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
        if (pipe2(output, O_CLOEXEC) < 0 || child_fd < 0 || timer_fd < 0) {
                say("cannot set up: %m");
                finish(EXIT_BROKEN);
        }
        timeout = read_file(RUN "timeout", NULL);
        if (timeout) {
                struct itimerspec when = { .it_value.tv_sec = atoi(timeout) };

                timerfd_settime(timer_fd, 0, &when, NULL);
        }

        tty = read_file(RUN "tty", NULL);
        pid = start_command(output[1], tty);
        if (pid < 0) {
                say("cannot fork: %m");
                finish(EXIT_BROKEN);
        }
        close(output[1]);
        fcntl(output[0], F_SETFL, O_NONBLOCK);

        enum { OUTPUT, CHILD, TIMER, PULSE };
        struct pollfd p[] = {
                [OUTPUT] = { .fd = output[0], .events = POLLIN },
                [CHILD] = { .fd = child_fd, .events = POLLIN },
                [TIMER] = { .fd = timer_fd, .events = POLLIN },
                [PULSE] = { .fd = start_pulse(), .events = POLLIN },
        };

        for (;;) {
                if (poll(p, 4, -1) < 0 && errno != EINTR) {
                        say("cannot poll: %m");
                        finish(EXIT_BROKEN);
                }
                if (p[OUTPUT].revents) {
                        ssize_t n = read(output[0], buffer, sizeof(buffer));

                        if (n > 0)
                                send_frame('o', buffer, (size_t) n);
                        else if (n == 0) /* everybody closed it, though the command goes on */
                                p[OUTPUT].fd = -1;
                }
                if (p[PULSE].revents) {
                        if (read(p[PULSE].fd, buffer, 1) > 0)
                                send_frame('p', NULL, 0);
                        else
                                p[PULSE].fd = -1;
                }
                if (p[TIMER].revents) {
                        say("the command did not end in time; every process:");
                        dump_tasks();
                        send_frame('t', NULL, 0);
                        finish(EXIT_TIMEOUT);
                }
                if (p[CHILD].revents) {
                        (void) !read(child_fd, buffer, sizeof(struct signalfd_siginfo));
                        if (reap(pid, &status))
                                break;
                }
        }

        /* What the command left in the pipe is still its output; what processes that it left behind add from now on
         * is not waited for. The pipe cannot hold more than the buffer. */
        if (p[OUTPUT].fd >= 0) {
                ssize_t n = read(output[0], buffer, sizeof(buffer));

                if (n > 0)
                        send_frame('o', buffer, (size_t) n);
        }

        finish(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
}
