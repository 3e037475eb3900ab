/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `tdictl run`: a VM with its functions, made for one VMM and for as long as that lives. Everything that can be wrong with the command line
 * is found before anything is made; what fails afterwards takes the VM with it.
 */
#include <stdio.h>

#include "act.h"
#include "attach.h"
#include "hold.h"
#include "model.h"
#include "plan.h"
#include "substitute.h"
#include "vm.h"

struct device {
        bool wants_socket, wants_vfio;
        char *socket;
        char number[16]; /* of its descriptor */
};

struct run {
        struct tdictl *t;
        struct device *devices;
        struct tdi_function *functions;
        size_t n;
        bool wants_iommufd;
        char iommufd[16];
        int *fds; /* what the VMM inherits besides its lease */
        size_t n_fds;
        char **command;
};

/* With a copy left here, the function could not be given back. */
static void close_fds(struct run *r) {
        for (size_t i = 0; i < r->n_fds; i++)
                close_fdp(&r->fds[i]);
}

static void run_done(struct run *r) {
        close_fds(r);
        for (size_t i = 0; r->devices && i < r->n; i++)
                free(r->devices[i].socket);
        for (char **p = r->command; p && *p; p++)
                free(*p);
        free(r->command);
        free(r->fds);
        free(r->functions);
        free(r->devices);
}

static struct device *find(struct run *run, struct tdi_bdf bdf) {
        for (size_t i = 0; i < run->n; i++)
                if (tdi_bdf_number(run->functions[i].bdf) == tdi_bdf_number(bdf))
                        return &run->devices[i];
        return NULL;
}

static int complain(char **ret_error, struct tdi_bdf bdf, const char *what) {
        char text[TDI_BDF_MAX];

        if (asprintf(ret_error, "A placeholder is for %s: %s.", tdi_bdf_format(bdf, text), what) < 0)
                *ret_error = NULL;
        return -EINVAL;
}

/* First time round: what is wanted, and whether it can be had. */
static int note_wanted(enum placeholder what, struct tdi_bdf bdf, void *userdata, const char **ret, char **ret_error) {
        struct run *run = userdata;
        struct device *d = find(run, bdf);

        *ret = "";
        if (what == PLACEHOLDER_IOMMUFD) {
                run->wants_iommufd = true;
                return 0;
        }
        if (!d)
                return complain(ret_error, bdf, "no --device names it");
        d->wants_socket |= what == PLACEHOLDER_SOCKET;
        d->wants_vfio |= what == PLACEHOLDER_VFIO;
        if (d->wants_socket && d->wants_vfio)
                return complain(ret_error, bdf, "it is asked for as @socket:BDF@ and as @vfio:BDF@, and a device has one driver");
        return 0;
}

/* Second time: what it is. */
static int put_value(enum placeholder what, struct tdi_bdf bdf, void *userdata, const char **ret, _unused_ char **ret_error) {
        struct run *run = userdata;
        const struct device *d = find(run, bdf);

        *ret = what == PLACEHOLDER_IOMMUFD ? run->iommufd : what == PLACEHOLDER_VFIO ? d->number : d->socket;
        return 0;
}

/* The words of the command, substituted; kept only when `keep`. */
static int substitute_all(struct run *run, substitute_value value, bool keep) {
        char *const *words = run->t->arguments.command;
        int r;

        for (size_t i = 0; words[i]; i++) {
                _cleanup_free_ char *word = NULL, *error = NULL;

                r = substitute(words[i], value, run, &word, &error);
                if (r < 0)
                        return error ? fail_usage(run->t, "%s", error) : fail_oom(run->t);
                if (keep)
                        run->command[i] = TAKE_PTR(word);
        }
        return 0;
}

static int read_devices(struct run *run) {
        const struct arguments *a = &run->t->arguments;
        _cleanup_free_ const char **bdfs = NULL;

        while (arguments_option(a, "device", run->n))
                run->n++;
        if (run->n == 0)
                return fail_usage(run->t, "'run' needs a function: give --device=BDF, once for each.");
        bdfs = calloc(run->n, sizeof(*bdfs));
        run->functions = calloc(run->n, sizeof(*run->functions));
        run->devices = calloc(run->n, sizeof(*run->devices));
        run->fds = calloc(run->n + 1, sizeof(*run->fds));
        if (!bdfs || !run->functions || !run->devices || !run->fds)
                return fail_oom(run->t);
        for (size_t i = 0; i < run->n; i++)
                bdfs[i] = arguments_option(a, "device", i)->text;
        return attach_read_functions(run->t, bdfs, run->functions, run->n);
}

static int check_command(struct run *run) {
        char *const *words = run->t->arguments.command;
        bool wants_vfio = false;
        size_t n = 0;
        int r;

        while (words[n])
                n++;
        run->command = calloc(n + 1, sizeof(*run->command));
        if (!run->command)
                return fail_oom(run->t);
        r = substitute_all(run, note_wanted, false);
        for (size_t i = 0; i < run->n; i++)
                wants_vfio |= run->devices[i].wants_vfio;
        if (r >= 0 && run->wants_iommufd && !wants_vfio)
                return fail_usage(run->t, "@iommufd@ is of use with @vfio:BDF@ only: a VMM that uses vPCI sockets needs no iommufd.");
        return r;
}

/* A function's own descriptors. The VM has one iommufd: that of the first is as good as all others. */
static int hand_off(struct run *run, size_t i) {
        _cleanup_close_ int iommufd = -EBADF, device = -EBADF;
        int r;

        r = tdi_client_handoff(run->t->client, run->functions[i].bdf, &iommufd, &device);
        if (r < 0)
                return r;
        snprintf(run->devices[i].number, sizeof(run->devices[i].number), "%d", device);
        run->fds[run->n_fds++] = TAKE_FD(device);
        if (run->wants_iommufd && !*run->iommufd) {
                snprintf(run->iommufd, sizeof(run->iommufd), "%d", iommufd);
                run->fds[run->n_fds++] = TAKE_FD(iommufd);
        }
        return 0;
}

static int get_values(struct run *run, const char *id) {
        int r = 0;

        for (size_t i = 0; i < run->n && r >= 0; i++) {
                if (run->devices[i].wants_vfio)
                        r = hand_off(run, i);
                else if (run->devices[i].wants_socket)
                        r = tdi_client_vpci_socket(run->t->client, id, run->functions[i].bdf, &run->devices[i].socket);
        }
        return r < 0 ? fail_client(run->t, r) : 0;
}

/* The VM, up to where its VMM can start; nothing is left of it on failure. */
static int prepare(struct run *run, const char *name, char **ret_id, int *ret_lease) {
        struct tdi_vm_options options = vm_options(&run->t->arguments);
        _cleanup_close_ int lease = -EBADF;
        _cleanup_free_ char *id = NULL;
        int r;

        r = tdi_client_prepare_vm(run->t->client, name, &options, run->functions, run->n, &id, &lease);
        if (r < 0)
                r = fail_client(run->t, r);
        else {
                r = get_values(run, id);
                if (r < 0) {
                        close_fds(run);
                        (void) tdi_client_destroy(run->t->client, id, 0);
                }
        }
        if (r < 0)
                return r;
        *ret_id = TAKE_PTR(id);
        *ret_lease = TAKE_FD(lease);
        return 0;
}

static int print_plan(struct run *run, const char *name) {
        struct tdi_vm_options options = vm_options(&run->t->arguments);
        _cleanup_(json_object_putp) json_object *model = NULL;
        _cleanup_close_ int lease = -EBADF;
        _cleanup_free_ char *id = NULL;
        int r;

        r = tdi_client_prepare_vm(run->t->client, name, &options, run->functions, run->n, &id, &lease);
        if (r < 0)
                return fail_client(run->t, r);
        r = plan_take(run->t, &model);
        return r < 0 ? r : plan_print(run->t, model);
}

/* The command could not be run, or waited for; hold_and_run() has given up the connection and the lease. */
static void destroy(struct tdictl *t, const char *id) {
        t->client = tdi_client_free(t->client);
        if (tdi_client_new(&t->client) >= 0 && tdi_client_connect(t->client, arguments_text(&t->arguments, "bus")) >= 0)
                (void) tdi_client_destroy(t->client, id, 0);
}

int verb_run(struct tdictl *t) {
        const struct arguments *a = &t->arguments;
        _cleanup_(run_done) struct run run = { .t = t };
        _cleanup_(json_object_putp) json_object *model = NULL;
        const char *name = arguments_text(a, "name");
        _cleanup_free_ char *id = NULL;
        _cleanup_close_ int lease = -EBADF;
        json_object *vm = NULL;
        struct held held;
        struct act act;
        char number[32];
        int r;

        r = read_devices(&run);
        if (r >= 0)
                r = check_command(&run);
        if (r >= 0)
                r = model_connect(t);
        if (r < 0)
                return r;
        if (!name) {
                snprintf(number, sizeof(number), "run-%d", (int) getpid());
                name = number;
        }
        if (plan_wanted(t))
                return print_plan(&run, name);
        act_begin(&act, t);
        r = prepare(&run, name, &id, &lease);
        if (r < 0) {
                act_end(&act);
                return r;
        }
        r = model_of_vm(t, id, &model, &vm);
        if (r >= 0)
                r = substitute_all(&run, put_value, true);
        held = (struct held){ .command = run.command, .inherit = !arguments_has(a, "no-inherit"), .fds = run.fds, .n_fds = run.n_fds, .act = &act };
        if (r >= 0)
                r = hold_and_run(t, TAKE_FD(lease), vm, &held);
        else
                act_end(&act);
        if (r < 0) {
                close_fds(&run);
                destroy(t, id);
        }
        return r;
}
