/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Random raw calls on one PCI function, legal and illegal, in random order; everything is given back at the end.
 *
 *      random --host=SPEC --seed=N --calls=N --driver=NAME|- BDF [OTHER_BDF [TSM]]
 *
 * It judges nothing: run it under a tracing host ("trace:FOLDER:linux") and compare what was recorded. The same seed makes the same
 * calls as long as the answers are the same. DRIVER is the function's own driver; OTHER_BDF a second function that may be used, too (of
 * the same IOMMU group, say). What could only end with somebody else's help is left out: a function is not unbound while it is open.
 */
#include "random.h"

#include <stdarg.h>
#include <stdio.h>

/* ---- dice ---- */

uint32_t dice(struct run *r, uint32_t n) {
        /* xorshift64*: the same on every machine. */
        r->state ^= r->state >> 12;
        r->state ^= r->state << 25;
        r->state ^= r->state >> 27;
        return (uint32_t) ((r->state * 2685821657736338717ULL) >> 33) % n;
}

bool chance(struct run *r, uint32_t percent) {
        return dice(r, 100) < percent;
}

/* ---- descriptors ---- */

int keep(struct run *r, enum kind kind, int fd) {
        if (fd < 0)
                return fd;
        if (r->n == ARRAY_SIZE(r->fd)) {
                (void) host_close(r->host, fd);
                return -EMFILE;
        }
        r->fd[r->n].fd = fd;
        r->fd[r->n].kind = kind;
        r->fd[r->n].function = r->function;
        r->n++;
        return fd;
}

int some(struct run *r, enum kind kind) {
        size_t n = 0, k;

        for (size_t i = 0; i < r->n; i++)
                n += r->fd[i].kind == kind;
        if (n == 0)
                return -1;
        k = dice(r, (uint32_t) n);
        for (size_t i = 0; i < r->n; i++)
                if (r->fd[i].kind == kind && k-- == 0)
                        return r->fd[i].fd;
        return -1;
}

int any(struct run *r) {
        return r->n > 0 ? r->fd[dice(r, (uint32_t) r->n)].fd : -1;
}

/* vfio_unregister_group_dev() waits until the function's files are closed, KVM's references included: nobody here would close them. */
bool is_open(struct run *r) {
        for (size_t i = 0; i < r->n; i++)
                if (r->fd[i].kind == CDEV || r->fd[i].kind == KVM_VFIO || r->fd[i].kind == KVM_VM)
                        return true;
        return false;
}

uint32_t known(struct run *r, const struct ids *ids) {
        return ids->n > 0 ? ids->id[dice(r, ids->n)] : 0;
}

void learn(struct run *r, struct ids *ids, uint32_t id) {
        if (ids->n < ARRAY_SIZE(ids->id))
                ids->id[ids->n++] = id;
        else
                ids->id[dice(r, ids->n)] = id;
}

static void drop(struct run *r, size_t i) {
        (void) host_close(r->host, r->fd[i].fd);
        r->fd[i] = r->fd[--r->n];
}

void close_some(struct run *r) {
        if (r->n > 0)
                drop(r, dice(r, (uint32_t) r->n));
}

/* ---- sysfs ---- */

const char *bdf_of(struct run *r) {
        return r->bdf[r->function];
}

const char *attribute(struct run *r, const char *name) {
        snprintf(r->path, sizeof(r->path), PCI "devices/%s/%s", bdf_of(r), name);
        return r->path;
}

void put(struct run *r, const char *path, const char *format, ...) {
        char text[8192];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        (void) host_write_text(r->host, path, text);
}

static bool driver_is(struct run *r, const char *name) {
        char link[128];

        if (host_read_link_name(r->host, attribute(r, "driver"), link, sizeof(link)) < 0)
                link[0] = '\0';
        return streq(link, name);
}

void to_vfio(struct run *r) {
        char driver[128];

        if (is_open(r) || driver_is(r, "vfio-pci"))
                return;
        put(r, attribute(r, "driver_override"), "vfio-pci\n");
        if (host_read_link_name(r->host, attribute(r, "driver"), driver, sizeof(driver)) >= 0)
                put(r, attribute(r, "driver/unbind"), "%s", bdf_of(r));
        put(r, PCI "drivers_probe", "%s", bdf_of(r));
}

/* The end: all closed, and each function as it was. */
static void clean_up(struct run *r) {
        while (r->n > 0)
                close_some(r);
        for (r->function = 0; r->function < r->functions; r->function++) {
                char name[128];

                put(r, attribute(r, "power/control"), "%s", r->power[r->function]);
                put(r, attribute(r, "driver_override"), "\n");
                if (r->tsm[0])
                        put(r, attribute(r, "tsm/disconnect"), "%s", r->tsm);
                if (host_read_link_name(r->host, attribute(r, "driver"), name, sizeof(name)) >= 0 && !streq(name, r->driver[r->function]))
                        put(r, attribute(r, "driver/unbind"), "%s", bdf_of(r));
                if (!streq(r->driver[r->function], "-") && !driver_is(r, r->driver[r->function])) {
                        snprintf(r->path, sizeof(r->path), PCI "drivers/%s/bind", r->driver[r->function]);
                        put(r, r->path, "%s", bdf_of(r));
                }
        }
}

static void set_up(struct run *r) {
        for (r->function = 0; r->function < r->functions; r->function++) {
                ssize_t n = host_read_text(r->host, attribute(r, "power/control"), r->power[r->function], sizeof(r->power[0]));

                if (n < 0)
                        strcpy(r->power[r->function], "auto");
                if (host_read_link_name(r->host, attribute(r, "driver"), r->driver[r->function], sizeof(r->driver[0])) < 0)
                        strcpy(r->driver[r->function], "-");
        }
        /* Most sequences get somewhere; some start from nothing. */
        if (!chance(r, 80))
                return;
        for (r->function = 0; r->function < r->functions; r->function++)
                to_vfio(r);
        for (r->function = 0; r->function < r->functions; r->function++)
                if (chance(r, 75))
                        start_device(r);
}

static const char *argument(int argc, char **argv, const char *name, const char *otherwise) {
        for (int i = 1; i < argc; i++)
                if (startswith(argv[i], name))
                        return argv[i] + strlen(name);
        return otherwise;
}

int main(int argc, char **argv) {
        const char *spec = argument(argc, argv, "--host=", "linux");
        struct run *r = calloc(1, sizeof(*r));
        unsigned long calls = strtoul(argument(argc, argv, "--calls=", "60"), NULL, 10);
        int k;

        if (!r)
                return 1;
        r->state = strtoull(argument(argc, argv, "--seed=", "1"), NULL, 10) * 2654435761ULL + 88172645463325252ULL;
        for (int i = 1; i < argc; i++) {
                if (startswith(argv[i], "--"))
                        continue;
                if (strchr(argv[i], ':') && r->functions < FUNCTIONS)
                        r->bdf[r->functions++] = argv[i];
                else
                        snprintf(r->tsm, sizeof(r->tsm), "%s", argv[i]);
        }
        if (r->functions == 0) {
                fprintf(stderr, "usage: random --host=SPEC --seed=N --calls=N BDF [OTHER_BDF] [TSM]\n");
                return 2;
        }
        k = tdi_host_new(spec, &r->host);
        if (k < 0) {
                fprintf(stderr, "random: --host=%s: %s\n", spec, strerror(-k));
                return 1;
        }
        set_up(r);
        for (unsigned long i = 0; i < calls; i++) {
                r->function = dice(r, r->functions);
                one_call(r);
        }
        clean_up(r);
        tdi_host_free(r->host);
        free(r);
        return 0;
}
