/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tdid-vm: the holder of one VM's descriptors. It outlives tdid, serves the VM's vPCI functions, and closes the VM by its own death. Under systemd it is an instance of tdid-vm@.service, elsewhere it detaches itself.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>

#include "log.h"
#include "vm/confine.h"
#include "vm/serve.h"

/* So many descriptors, where the hard limit allows it. */
#define FILES_MAX 65536

static const char help[] = "tdid-vm --id=ID [--state=DIR] [--host=HOST] [--detach]\n"
                           "Keeps a VM's descriptors for tdid, which starts it. See tdid(8).\n";

/* Bound under another name first: whoever sees the socket can connect to it. */
static int listen_at(const char *state, const char *id) {
        struct sockaddr_un temp = { .sun_family = AF_UNIX }, name = { .sun_family = AF_UNIX };
        _cleanup_close_ int fd = -EBADF;

        if (snprintf(temp.sun_path, sizeof(temp.sun_path), "%s/holder/.%s.new", state, id) >= (int) sizeof(temp.sun_path) ||
            snprintf(name.sun_path, sizeof(name.sun_path), "%s/holder/%s.sock", state, id) >= (int) sizeof(name.sun_path))
                return -ENAMETOOLONG;
        fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        (void) umask(0077);
        (void) unlink(temp.sun_path);
        if (bind(fd, (struct sockaddr *) &temp, sizeof(temp)) < 0 || listen(fd, 4) < 0 || rename(temp.sun_path, name.sun_path) < 0)
                return -errno;
        return TAKE_FD(fd);
}

static int detach(void) {
        pid_t pid = fork();

        if (pid < 0)
                return -errno;
        if (pid > 0)
                _exit(0);
        if (setsid() < 0)
                return -errno;
        return chdir("/") < 0 ? -errno : 0;
}

/* What clients may bring is limited elsewhere; a holder that runs out of descriptors loses its connection to tdid. */
static void raise_files(void) {
        struct rlimit files;

        if (getrlimit(RLIMIT_NOFILE, &files) < 0 || files.rlim_cur >= FILES_MAX)
                return;
        files.rlim_cur = files.rlim_max < FILES_MAX ? files.rlim_max : FILES_MAX;
        if (setrlimit(RLIMIT_NOFILE, &files) < 0)
                log_warning("could not raise the limit of open files: %s", strerror(errno));
}

int main(int argc, char **argv) {
        const char *id = NULL, *state = "/run/tdid", *spec = "linux";
        _cleanup_(tdi_host_freep) TdiHost *host = NULL;
        _cleanup_close_ int listener = -EBADF;
        struct store store = {};
        bool want_detach = false;
        int r;

        log_open("tdid-vm");
        for (int i = 1; i < argc; i++) {
                if (startswith(argv[i], "--id="))
                        id = argv[i] + strlen("--id=");
                else if (startswith(argv[i], "--state="))
                        state = argv[i] + strlen("--state=");
                else if (startswith(argv[i], "--host="))
                        spec = argv[i] + strlen("--host=");
                else if (streq(argv[i], "--detach"))
                        want_detach = true;
                else {
                        fputs(help, streq(argv[i], "--help") ? stdout : stderr);
                        return streq(argv[i], "--help") ? 0 : 2;
                }
        }
        if (isempty(id) || strspn(id, "0123456789") != strlen(id)) {
                fputs(help, stderr);
                return 2;
        }
        if (want_detach) {
                r = detach();
                if (r < 0) {
                        log_error("could not detach: %s", strerror(-r));
                        return 1;
                }
        }
        (void) signal(SIGPIPE, SIG_IGN);
        raise_files();
        listener = listen_at(state, id);
        if (listener < 0) {
                log_error("could not listen at %s/holder/%s.sock: %s", state, id, strerror(-listener));
                return 1;
        }
        r = tdi_host_new(spec, &host);
        if (r < 0) {
                log_error("could not reach host %s: %s", spec, strerror(-r));
                return 1;
        }
        (void) sd_notify(1, "READY=1");
        /* A host that writes down what passes through it needs its files. */
        r = startswith(spec, "trace:") ? 0 : confine(!streq(spec, "linux"));
        if (r < 0) {
                log_error("could not confine itself: %s", strerror(-r));
                return 1;
        }
        r = serve(listener, host, id, &store);
        store_clear(&store);
        if (r < 0)
                log_error("could not serve: %s", strerror(-r));
        return r < 0;
}
