/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The only program of a guest that drives functions served by tdid: process 1 of an initramfs that holds it and the module
 * edu_guest. It is linked statically and is no part of tdid.
 *
 * It does what it is told, one line at a time, by the kernel's command line (guest.run=LINE, with commas for spaces and ';'
 * between several) and then by the serial line, on which it also reports:
 *
 *      guest: ready            after the start
 *      guest: ok LINE          the end of a command
 *      guest: FAILED …         what was wrong, and then
 *      guest: not ok LINE
 *
 * Commands are in edu.c and nvme.c, besides "reboot", "poweroff" and, for who looks for a mistake, "show FILE".
 */
#include "guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#define SERIAL "/dev/ttyS0"
#define LINE_MAX_ 256
#define WORDS_MAX 8

static int serial = -1;

/* One write a line, so that the kernel's own messages do not get into it. */
static void say_line(const char *prefix, const char *format, va_list ap) {
        char text[512];
        int n;

        n = snprintf(text, sizeof(text), "guest: %s", prefix);
        n += vsnprintf(text + n, sizeof(text) - (size_t) n - 1, format, ap);
        if ((size_t) n > sizeof(text) - 2)
                n = sizeof(text) - 2;
        text[n++] = '\n';
        for (int done = 0; done < n;) {
                ssize_t r = write(serial, text + done, (size_t) (n - done));

                if (r < 0 && errno != EINTR)
                        return;
                done += r > 0 ? (int) r : 0;
        }
}

void say(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        say_line("", format, ap);
        va_end(ap);
}

bool fail(const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        say_line("FAILED ", format, ap);
        va_end(ap);
        return false;
}

bool is_called(void) {
        struct pollfd p = { .fd = serial, .events = POLLIN };

        return poll(&p, 1, 0) > 0;
}

int64_t now_ms(void) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void sleep_ms(int64_t ms) {
        struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

        while (nanosleep(&t, &t) < 0 && errno == EINTR)
                ;
}

long number(char **words, size_t i, long fallback) {
        for (size_t k = 0; k <= i; k++)
                if (!words[k])
                        return fallback;
        return strtol(words[i], NULL, 0);
}

static _Noreturn void end(int how) {
        sync();
        reboot(how);
        for (;;)
                pause();
}

static bool run(const struct test *tests, char **words, bool *ret_known) {
        for (; tests->name; tests++)
                if (strcmp(tests->name, words[0]) == 0) {
                        *ret_known = true;
                        return tests->func(words + 1);
                }
        return false;
}

static bool show(char **words) {
        char text[256];
        FILE *f;

        f = words[0] ? fopen(words[0], "re") : NULL;
        if (!f)
                return fail("cannot open it: %m");
        while (fgets(text, sizeof(text), f)) {
                text[strcspn(text, "\n")] = '\0';
                say("| %s", text);
        }
        fclose(f);
        return true;
}

static const struct test own_tests[] = { { "show", show }, { NULL, NULL } };

static void obey(char *line) {
        char copy[LINE_MAX_], *words[WORDS_MAX + 1] = { 0 }, *rest = copy;
        bool known = false, ok;

        snprintf(copy, sizeof(copy), "%s", line);
        for (size_t n = 0; n < WORDS_MAX && (words[n] = strsep(&rest, " ")); n++)
                ;
        if (!words[0] || !*words[0])
                return;
        if (strcmp(words[0], "reboot") == 0)
                end(RB_AUTOBOOT);
        if (strcmp(words[0], "poweroff") == 0)
                end(RB_POWER_OFF);
        ok = run(edu_tests, words, &known) || run(nvme_tests, words, &known) || run(own_tests, words, &known);
        if (!known)
                fail("there is no command '%s'", words[0]);
        say("%s %s", ok ? "ok" : "not ok", line);
}

/* What the kernel was told to have run. */
static void obey_command_line(void) {
        const char *text = read_text("/proc/cmdline"), *found = text ? strstr(text, "guest.run=") : NULL;
        char lines[LINE_MAX_], *rest = lines, *line;

        if (!found)
                return;
        found += strlen("guest.run=");
        snprintf(lines, sizeof(lines), "%.*s", (int) strcspn(found, " \n"), found);
        for (char *p = lines; *p; p++)
                if (*p == ',')
                        *p = ' ';
        while ((line = strsep(&rest, ";")))
                obey(line);
}

static void obey_serial(void) {
        char line[LINE_MAX_];
        size_t n = 0;

        for (;;) {
                char c;
                ssize_t r = read(serial, &c, 1);

                if (r < 0 && errno == EINTR)
                        continue;
                if (r <= 0) {
                        /* The host's end is not there. */
                        sleep_ms(100);
                        continue;
                }
                if (c == '\n' || c == '\r') {
                        line[n] = '\0';
                        n = 0;
                        obey(line);
                } else if (n < sizeof(line) - 1)
                        line[n++] = c;
        }
}

static void open_serial(void) {
        struct termios t;

        serial = open(SERIAL, O_RDWR | O_NOCTTY | O_CLOEXEC);
        if (serial < 0)
                end(RB_POWER_OFF);
        if (tcgetattr(serial, &t) == 0) {
                cfmakeraw(&t);
                tcsetattr(serial, TCSANOW, &t);
        }
}

int main(void) {
        static const struct {
                const char *type, *where;
        } mounts[] = { { "devtmpfs", "/dev" }, { "proc", "/proc" }, { "sysfs", "/sys" } };

        for (size_t i = 0; i < sizeof(mounts) / sizeof(mounts[0]); i++) {
                mkdir(mounts[i].where, 0755);
                if (mount(mounts[i].type, mounts[i].where, mounts[i].type, 0, NULL) < 0)
                        return 1;
        }
        open_serial();
        if (!load_module("/edu_guest.ko", ""))
                say("without edu_guest");
        say("ready");
        obey_command_line();
        obey_serial();
}
