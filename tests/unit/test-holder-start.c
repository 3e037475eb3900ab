/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The start of a holder whose socket is there, when tdid cannot connect. */
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "holder.h"
#include "test.h"

struct result {
        bool there;
        int r;
};

static void on_started(int r, _unused_ struct json_object *answer, _unused_ struct ipc_fds *fds, void *userdata) {
        *(struct result *) userdata = (struct result){ .there = true, .r = r };
}

static void on_died(_unused_ void *userdata) {
}

/* A file comes to its place, as a holder's socket does. */
static void place(const char *dir, const char *name) {
        char from[128], to[128];

        snprintf(from, sizeof(from), "%s/new", dir);
        snprintf(to, sizeof(to), "%s/holder/%s", dir, name);
        test_write_file(from, "", 0);
        require(rename(from, to) == 0);
}

static void run_until(Manager *m, const struct result *result, unsigned msec) {
        for (unsigned i = 0; i < msec / 20 && !result->there; i++)
                (void) sd_event_run(m->event, 20000);
}

int main(void) {
        char dir[64], path[128];
        struct rlimit old, none;
        struct result result = {};
        sigset_t set;
        Manager *m;
        Holder *h;

        /* sd_event_add_child() */
        require(sigemptyset(&set) == 0 && sigaddset(&set, SIGCHLD) == 0 && sigprocmask(SIG_BLOCK, &set, NULL) == 0);
        test_make_dir(dir);
        snprintf(path, sizeof(path), "%s/holder", dir);
        require(mkdir(path, 0700) == 0);
        snprintf(path, sizeof(path), "%s/tdid-vm", dir);
        require(symlink("/bin/true", path) == 0);
        require(manager_new(&m) == 0);
        require(free_and_strdup(&m->libexec_dir, dir) == 0 && free_and_strdup(&m->state_dir, dir) == 0 &&
                free_and_strdup(&m->host_spec, "linux") == 0);
        check_int(holder_start(m, "7", on_started, on_died, &result, &h), 0);

        /* Another one's. */
        place(dir, "8.sock");
        run_until(m, &result, 200);
        check(!result.there);

        /* For want of a descriptor it has failed, and not when its time is over. */
        place(dir, "7.sock");
        require(getrlimit(RLIMIT_NOFILE, &old) == 0);
        none = (struct rlimit){ 3, old.rlim_max };
        require(setrlimit(RLIMIT_NOFILE, &none) == 0);
        run_until(m, &result, 5000);
        require(setrlimit(RLIMIT_NOFILE, &old) == 0);
        check(result.there);
        check_int(result.r, -EMFILE);

        holder_free(h);
        manager_free(m);
        test_remove_dir(dir);
        return test_end();
}
