/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Writes to files of functions: heard of those that are watched, of no others, and not any more when they are not. */
#include <stdio.h>
#include <sys/stat.h>

#include "function-files.h"
#include "test.h"
#include "watch.h"

#define FIRST "0000:01:00.0"
#define SECOND "0000:02:00.0"

static char dir[64], said[256];
static sd_event *event;

static void found(struct tdi_bdf bdf, const char *file, void *userdata) {
        char name[TDI_BDF_MAX];
        size_t n = strlen(said);

        check(userdata == said);
        snprintf(said + n, sizeof(said) - n, "%s%s/%s", n ? " " : "", tdi_bdf_format(bdf, name), file);
}

static void write_to(const char *function, const char *file) {
        char path[128];
        int fd;

        snprintf(path, sizeof(path), "%s/%s/%s", dir, function, file);
        fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        require(fd >= 0 && write(fd, "1", 1) == 1);
        close_fd(fd);
}

static void make(const char *function) {
        char path[128];

        snprintf(path, sizeof(path), "%s/%s", dir, function);
        require(mkdir(path, 0700) == 0);
        write_to(function, "config");
        write_to(function, "remove");
        write_to(function, "enable");
}

static const char *heard(void) {
        static char copy[sizeof(said)];

        while (sd_event_run(event, 20000) > 0)
                ;
        snprintf(copy, sizeof(copy), "%s", said);
        *said = '\0';
        return copy;
}

static struct tdi_bdf parse(const char *text) {
        struct tdi_bdf bdf = {};

        require(tdi_bdf_parse(text, &bdf) == 0);
        return bdf;
}

static void test_files(TdiHost *host) {
        struct watch *w = NULL;

        require(watch_new(event, host, dir, found, said, &w) == 0);
        check_str(watch_describe(w), "inotify");
        write_to(FIRST, "config");
        check_str(heard(), "");
        watch_add(w, parse(FIRST));
        watch_add(w, parse(FIRST));
        write_to(FIRST, "config");
        check_str(heard(), FIRST "/config");
        write_to(FIRST, "remove");
        write_to(SECOND, "config");
        write_to(FIRST, "enable");
        check_str(heard(), FIRST "/remove");
        watch_add(w, parse(SECOND));
        write_to(SECOND, "remove");
        write_to(FIRST, "config");
        check_str(heard(), SECOND "/remove " FIRST "/config");
        watch_drop(w, parse(FIRST));
        watch_drop(w, parse(FIRST));
        write_to(FIRST, "config");
        write_to(SECOND, "config");
        check_str(heard(), SECOND "/config");
        /* Without a reset of its own, and one that has it. */
        write_to(FIRST, "reset");
        watch_add(w, parse(FIRST));
        write_to(FIRST, "reset");
        write_to(FIRST, "reset_method");
        check_str(heard(), FIRST "/reset");
        /* The same that the guard refuses, each of them. */
        watch_drop(w, parse(FIRST));
        watch_add(w, parse(FIRST));
#define WRITE(name, kind) write_to(FIRST, name);
#define HEARD(name, kind) " " FIRST "/" name
        FUNCTION_FILES(WRITE)
        check_str(heard(), &FUNCTION_FILES(HEARD)[1]);
        check_str(watch_describe(w), "inotify");
        watch_free(w);
        write_to(SECOND, "config");
        check_str(heard(), "");
}

static void test_none(void) {
        /* A host with nothing of the kind, as the simulation is. */
        static const struct tdi_host_ops none = { .name = "none" };
        TdiHost host = { &none };
        struct watch *w = NULL;

        require(watch_new(event, &host, dir, found, said, &w) == 0);
        check(startswith(watch_describe(w), "none: "));
        watch_add(w, parse(FIRST));
        watch_drop(w, parse(FIRST));
        write_to(FIRST, "config");
        check_str(heard(), "");
        watch_free(w);
        watch_add(NULL, parse(FIRST));
        watch_drop(NULL, parse(FIRST));
        check_str(watch_describe(NULL), "none");
        watch_free(NULL);
}

int main(void) {
        TdiHost *host = NULL;
        unsigned before;

        require(sd_event_default(&event) >= 0 && tdi_host_linux_new(&host) == 0);
        test_make_dir(dir);
        make(FIRST);
        make(SECOND);
        before = test_count_fds();
        test_files(host);
        test_none();
        check_int(test_count_fds(), before);
        test_remove_dir(dir);
        tdi_host_free(host);
        sd_event_unref(event);
        return test_end();
}
