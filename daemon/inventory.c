/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The readers, and what they bring: functions appear, change and vanish here. */
#include <stdio.h>

#include "bus/bus.h"
#include "custody.h"
#include "device.h"
#include "ide.h"
#include "tsm.h"
#include "vm.h"
#include "worker.h"

/* Connect, disconnect and bind have no uevent: what others do to tsm/ is noticed by looking. */
#define TSM_POLL_USEC 1000000ULL
/* A function in reset, or a handshake, holds a reader up for as long as it likes: tdid serves without it then. */
/*
 * A reader of tsm/bound or tsm/dsm waits for pci_tsm_rwsem with the file active in kernfs; a disconnect holds the semaphore and
 * waits for the file to be inactive (sysfs_update_groups). That is a deadlock for good, of the whole TSM core, unless the reader
 * gives up: its wait ends by a signal.
 */
#define READER_USEC 3000000ULL
#define READY_USEC 1000000ULL
#define DIRTY_MAX 256

struct inventory {
        Manager *manager;
        Worker *pci, *tsm;
        sd_event_source *uevents, *poll, *retry, *patience, *reader_deadline;
        int uevent_fd;
        void (*ready)(Manager *m);
        uint32_t dirty[DIRTY_MAX]; /* functions to read again */
        size_t n_dirty;
        uint64_t tsm_started, tsm_done; /* rounds of reading tsm/ */
        struct json_object *tsms, *functions; /* what the round under way has brought so far */
        char *tsm_after;
        bool tsm_went, tsm_had_gone; /* a TSM has gone: since the round under way began, and before that since the last one */
        bool all_dirty, scanning, tsm_dirty, first_pci, first_names, first_tsm;
        char *after;
};

static void pci_next(struct inventory *i);
static void tsm_next(struct inventory *i);
static void retry_later(struct inventory *i);

static void become_ready(struct inventory *i) {
        void (*ready)(Manager *) = i->ready;

        i->ready = NULL;
        i->patience = sd_event_source_disable_unref(i->patience);
        if (ready)
                ready(i->manager);
}

static void check_ready(struct inventory *i) {
        /* Names are waited for so that nobody who reads at once is told of each of them a moment later. */
        if (!i->first_names && !i->first_tsm)
                become_ready(i);
}

static int on_patience(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        log_warning("reading PCI functions takes long: serving what is known so far");
        become_ready(userdata);
        return 0;
}

static uint32_t number_or_none(const char *bdf) {
        struct tdi_bdf b;

        return tdi_bdf_parse(bdf, &b) < 0 ? UINT32_MAX : tdi_bdf_number(b);
}

static bool update_str(char **p, const char *value) {
        if (streq_ptr(strempty(*p), value))
                return false;
        if (free_and_strdup(p, *value ? value : NULL) < 0)
                log_oom();
        return true;
}

static void dirty(struct inventory *i, struct tdi_bdf bdf) {
        uint32_t n = tdi_bdf_number(bdf);

        for (size_t k = 0; k < i->n_dirty; k++)
                if (i->dirty[k] == n)
                        return;
        if (i->n_dirty == DIRTY_MAX)
                i->all_dirty = true;
        else
                i->dirty[i->n_dirty++] = n;
}

/* What config space and the place in the tree say does not change while the function is there. */
static void take_fixed(Device *d, struct json_object *o) {
        struct json_object *list;
        Manager *m = d->manager;

        d->unreadable = json_bool_or(o, "unreadable", false);
        d->tee &= DEVICE_DSM;
        if (json_get_array(o, "tee", &list) >= 0)
                for (size_t i = 0; i < json_object_array_length(list); i++) {
                        const char *name = json_object_get_string(json_object_array_get_idx(list, i));

                        d->tee |= streq(name, "tee-io") ? DEVICE_TEE_IO : streq(name, "ide") ? DEVICE_IDE : DEVICE_DOE;
                }
        d->upstream = json_bool_or(o, "upstream", false);
        d->has_serial = json_get_u64(o, "serial", &d->serial) >= 0;
        d->upstream_above = UINT32_MAX;
        d->n_parents = 0;
        if (json_get_array(o, "parents", &list) >= 0)
                for (size_t i = 0; i < json_object_array_length(list); i++) {
                        uint32_t n = number_or_none(json_object_get_string(json_object_array_get_idx(list, i)));
                        Device *parent = device_find_number(m, n);

                        if (parent && parent->upstream && d->upstream_above == UINT32_MAX)
                                d->upstream_above = n;
                        if (d->n_parents < DEVICE_PARENTS_MAX)
                                d->parents[d->n_parents++] = n;
                }
}

static Device *add(Manager *m, struct tdi_bdf bdf) {
        Device *d = calloc(1, sizeof(*d));

        if (!d)
                log_oom();
        d->manager = m;
        d->bdf = bdf;
        d->group = -1;
        d->phys_fn = d->upstream_above = UINT32_MAX;
        device_renew(d);
        /* Mostly they come after it. */
        for (size_t i = 0; i < m->n_devices; i++)
                d->n_vfs += m->devices[i]->phys_fn == tdi_bdf_number(bdf);
        manager_append((void ***) &m->devices, &m->n_devices, &m->room_devices, d);
        /* They come in their order, so that this is mostly its place already. */
        for (size_t k = m->n_devices - 1; k > 0 && tdi_bdf_number(m->devices[k - 1]->bdf) > tdi_bdf_number(bdf); k--) {
                m->devices[k] = m->devices[k - 1];
                m->devices[k - 1] = d;
        }
        return d;
}

static void count_vf(Manager *m, uint32_t phys_fn, int more) {
        Device *pf = phys_fn == UINT32_MAX ? NULL : device_find_number(m, phys_fn);
        char path[64];

        if (!pf)
                return;
        pf->n_vfs += (unsigned) more;
        /* The first has come, or the last gone: that is what role it has. */
        if (pf->announced && pf->n_vfs == (more > 0))
                bus_changed(m, device_path(pf->bdf, path), BUS_DEVICE, "SRIOV", NULL);
}

static void set_phys_fn(Device *d, uint32_t phys_fn) {
        uint32_t was = d->phys_fn;

        if (was == phys_fn)
                return;
        d->phys_fn = phys_fn;
        count_vf(d->manager, was, -1);
        count_vf(d->manager, phys_fn, 1);
}

static void announce(Device *d) {
        char path[64];

        d->announced = true;
        bus_added(d->manager, device_path(d->bdf, path), BUS_DEVICE);
}

static void withdraw(Device *d) {
        char path[64];

        d->announced = false;
        bus_removed(d->manager, device_path(d->bdf, path), BUS_DEVICE);
}

static void take_function(Manager *m, struct json_object *o) {
        const char *bdf = json_str_or(o, "bdf", "");
        struct json_object *fixed;
        struct tdi_bdf b;
        char path[64];
        bool driver, named = false, fixed_now = false;
        const char *name;
        Device *d;

        if (tdi_bdf_parse(bdf, &b) < 0)
                return; /* domains above 16 bits are not for assignment (VMD) */
        d = device_find(m, b);
        if (!d)
                d = add(m, b);
        else if (d->gone) {
                withdraw(d);
                d->gone = false;
                device_renew(d);
        }
        if (!d->announced) {
                d->tsm_round = m->inventory->tsm_started + 1;
                m->inventory->tsm_dirty = true;
        }
        d->seen = true;
        d->vendor = (uint16_t) json_u64_or(o, "vendor", 0);
        d->device = (uint16_t) json_u64_or(o, "device", 0);
        d->subsystem_vendor = (uint16_t) json_u64_or(o, "subsystem_vendor", 0);
        d->subsystem_device = (uint16_t) json_u64_or(o, "subsystem_device", 0);
        d->class = (uint32_t) json_u64_or(o, "class", 0);
        d->group = (int32_t) json_i64_or(o, "iommu_group", -1);
        /* Once the reader of tsm/ knows it, a long batch that began before the TSM came has nothing to say. */
        if (d->tsm_read == 0)
                d->tee = (uint8_t) (json_bool_or(o, "dsm", false) ? d->tee | DEVICE_DSM : d->tee & ~DEVICE_DSM);
        set_phys_fn(d, number_or_none(json_str_or(o, "phys_fn", "")));
        if (json_get_array(o, "tee", &fixed) >= 0) {
                take_fixed(d, o);
                fixed_now = !d->fixed;
                d->fixed = true;
        } else if (!d->fixed)
                dirty(m->inventory, b);
        if (json_get_str(o, "name", &name) >= 0) {
                named = update_str(&d->name, name);
                named |= update_str(&d->class_name, json_str_or(o, "class_name", ""));
        }
        driver = update_str(&d->driver, json_str_or(o, "driver", ""));
        if (!d->announced) {
                announce(d);
                return;
        }
        if (driver)
                bus_changed(m, device_path(b, path), BUS_DEVICE, "Driver", NULL);
        if (fixed_now)
                bus_changed(m, device_path(b, path), BUS_DEVICE, "TEE", "Bridges", NULL);
        if (named)
                bus_changed(m, device_path(b, path), BUS_DEVICE, "Name", "ClassName", NULL);
}

static void drop(Device *d) {
        set_phys_fn(d, UINT32_MAX);
        withdraw(d);
        manager_remove((void **) d->manager->devices, &d->manager->n_devices, d);
        device_free(d);
}

/* Off the bus. One that is in custody stays to be seen and restored: what it was is known, what it does is no more. */
static void vanish(Device *d) {
        if (!custody_find(d->manager, d->bdf)) {
                drop(d);
                return;
        }
        if (d->gone)
                return;
        withdraw(d);
        d->gone = true;
        d->fixed = d->upstream = false;
        d->tee = 0;
        d->group = -1;
        set_phys_fn(d, UINT32_MAX);
        d->upstream_above = UINT32_MAX;
        d->tsm_read = 0;
        (void) update_str(&d->driver, "");
        (void) update_str(&d->tsm, "");
        (void) update_str(&d->dsm, "");
        (void) update_str(&d->bound, "");
        ide_forget(d);
        announce(d);
}

/* All functions of the host have been read. */
static void scanned(Manager *m) {
        for (size_t k = m->n_devices; k > 0; k--)
                if (!m->devices[k - 1]->seen)
                        vanish(m->devices[k - 1]);
        /* The journal knows functions that went while no tdid was there. */
        for (size_t k = 0; k < m->n_custodies; k++)
                if (!device_find(m, m->custodies[k]->bdf)) {
                        Device *d = add(m, m->custodies[k]->bdf);

                        d->gone = true;
                        announce(d);
                }
}

void inventory_released(Manager *m, struct tdi_bdf bdf) {
        Device *d = device_find(m, bdf);

        if (d && d->gone)
                drop(d);
}

static void on_pci(Worker *w, int r, const char *text, struct json_object *values, _unused_ struct ipc_fds *fds, void *userdata) {
        struct inventory *i = userdata;
        Manager *m = i->manager;
        struct json_object *list;
        const char *more;

        if (r < 0) {
                log_warning("could not read PCI functions: %s", text);
                /* What was asked for is lost: everything is read again, a little later. */
                i->scanning = false;
                i->all_dirty = true;
                i->pci = worker_free(w);
                retry_later(i);
                i->first_pci = i->first_names = false;
                check_ready(i);
                return;
        } else {
                if (json_get_array(values, "functions", &list) >= 0)
                        for (size_t k = 0; k < json_object_array_length(list); k++)
                                take_function(m, json_object_array_get_idx(list, k));
                if (json_get_array(values, "gone", &list) >= 0)
                        for (size_t k = 0; k < json_object_array_length(list); k++) {
                                Device *d = device_find_number(m, number_or_none(json_object_get_string(json_object_array_get_idx(list, k))));

                                if (d)
                                        vanish(d);
                        }
                if (i->scanning) {
                        if (json_get_str(values, "more", &more) >= 0) {
                                if (free_and_strdup(&i->after, more) < 0)
                                        log_oom();
                        } else {
                                i->scanning = false;
                                scanned(m);
                        }
                }
        }
        if (!i->scanning && i->first_pci) {
                /* The first names take long to look up: what else there is to know comes before them. */
                i->first_pci = false;
                i->all_dirty = true;
        } else if (!i->scanning)
                i->first_names = false;
        /* A function that has just appeared: what tsm/ says of it is not known yet. */
        if (i->tsm_dirty && !i->scanning)
                tsm_next(i);
        pci_next(i);
        check_ready(i);
        manager_touch(m);
}

static int on_retry(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        struct inventory *i = userdata;

        i->retry = sd_event_source_disable_unref(i->retry);
        pci_next(i);
        if (i->tsm_dirty)
                tsm_next(i);
        return 0;
}

static void retry_later(struct inventory *i) {
        if (!i->retry)
                (void) sd_event_add_time_relative(i->manager->event, &i->retry, CLOCK_MONOTONIC, 1000000, 0, on_retry, i);
}

/* A reader that could not be started, or died, is tried again a second later. */
static bool reader_ready(struct inventory *i, Worker **w) {
        int r;

        if (*w)
                return !worker_busy(*w);
        r = worker_new(i->manager, -EBADF, w);
        if (r >= 0)
                return true;
        log_warning("could not start a reader: %s", strerror(-r));
        retry_later(i);
        return false;
}

static void pci_next(struct inventory *i) {
        _cleanup_json_ struct json_object *args = NULL;
        char buf[TDI_BDF_MAX];

        if (!i->scanning && !i->all_dirty && i->n_dirty == 0)
                return;
        if (!reader_ready(i, &i->pci))
                return;
        args = json_new();
        if (i->all_dirty && !i->scanning) {
                i->all_dirty = false;
                i->scanning = true;
                i->n_dirty = 0;
                if (free_and_strdup(&i->after, "") < 0)
                        log_oom();
                for (size_t k = 0; k < i->manager->n_devices; k++)
                        i->manager->devices[k]->seen = false;
        }
        json_set_bool(args, "names", !i->first_pci);
        if (i->scanning) {
                json_set_str(args, "after", i->after);
                json_set_bool(args, "config", i->first_pci);
        } else {
                struct json_object *bdfs = json_new_array();
                bool config = false;

                for (size_t k = 0; k < i->n_dirty; k++) {
                        Device *d = device_find_number(i->manager, i->dirty[k]);

                        config |= !d || !d->fixed;
                        json_push_str(bdfs, tdi_bdf_format((struct tdi_bdf){ .domain = (uint16_t) (i->dirty[k] >> 16),
                                                                             .bus = (uint8_t) (i->dirty[k] >> 8),
                                                                             .devfn = (uint8_t) i->dirty[k] },
                                                           buf));
                }
                json_set_take(args, "bdfs", bdfs);
                json_set_bool(args, "config", config);
                i->n_dirty = 0;
        }
        if (worker_call(i->pci, "read.pci", "do", args, NULL, 0, on_pci, i) < 0)
                i->pci = worker_free(i->pci);
}

void inventory_refresh(Manager *m, struct tdi_bdf bdf) {
        if (!m->inventory)
                return;
        dirty(m->inventory, bdf);
        pci_next(m->inventory);
}

static int by_bdf(const void *a, const void *b) {
        return strcmp(json_str_or(*(struct json_object *const *) a, "bdf", ""), json_str_or(*(struct json_object *const *) b, "bdf", ""));
}

/* The reader gives them in the order of their names. */
static struct json_object *find_function(struct json_object *list, const char *bdf) {
        _cleanup_json_ struct json_object *key = json_new();

        json_set_str(key, "bdf", bdf);
        return json_object_array_bsearch(key, list, by_bdf);
}

/* A function that is no DSM is connected where its DSM is. */
static const char *connection(struct json_object *functions, struct json_object *o) {
        const char *own = json_str_or(o, "connect", ""), *dsm = json_str_or(o, "dsm", "");

        return *own || !*dsm ? own : json_str_or(find_function(functions, dsm), "connect", "");
}

static void take_tsm(Manager *m, struct json_object *tsms, struct json_object *functions) {
        uint64_t now = now_realtime();

        tsm_update(m, tsms);
        for (size_t i = 0; i < m->n_devices; i++) {
                Device *d = m->devices[i];
                char bdf[TDI_BDF_MAX], path[64];
                struct json_object *o;
                bool changed;
                uint8_t tee;

                if (json_object_array_length(functions) == 0 && d->tsm_read == 0)
                        continue;
                tdi_bdf_format(d->bdf, bdf);
                o = find_function(functions, bdf);
                if (!o && d->tsm_read == 0)
                        continue;
                tee = (uint8_t) (d->tee & ~DEVICE_DSM);
                if (json_bool_or(o, "dsm_capable", false))
                        tee |= DEVICE_DSM;
                changed = tee != d->tee;
                d->tee = tee;
                changed |= update_str(&d->tsm, connection(functions, o));
                changed |= update_str(&d->dsm, json_str_or(o, "dsm", ""));
                changed |= update_str(&d->bound, json_str_or(o, "bound", ""));
                d->says_bound = o && json_object_object_get_ex(o, "bound", NULL);
                d->tsm_read = o ? now : 0;
                if (changed)
                        bus_changed(m, device_path(d->bdf, path), BUS_DEVICE, "TEE", "TSM", "DSM", "Bound", NULL);
        }
}

static void round_clear(struct inventory *i) {
        json_putp(&i->tsms);
        json_putp(&i->functions);
        i->tsms = i->functions = NULL;
        free(TAKE_PTR(i->tsm_after));
}

/* An answer of a round; true when there is more to read. */
static bool round_take(struct inventory *i, struct json_object *values) {
        struct json_object *tsms, *functions;
        const char *more;

        if (json_get_array(values, "tsms", &tsms) < 0 || json_get_array(values, "functions", &functions) < 0)
                return false;
        json_putp(&i->tsms);
        i->tsms = json_object_get(tsms);
        /* The last TSM went between two answers: nothing that was read before is so any more. */
        if (json_object_array_length(tsms) == 0 || !i->functions) {
                json_putp(&i->functions);
                i->functions = json_object_get(functions);
        } else
                for (size_t k = 0; k < json_object_array_length(functions); k++)
                        json_push_take(i->functions, json_object_get(json_object_array_get_idx(functions, k)));
        if (json_get_str(values, "more", &more) < 0)
                return false;
        if (free_and_strdup(&i->tsm_after, more) < 0)
                log_oom();
        return true;
}

static int on_poll(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        tsm_next(userdata);
        return 0;
}

static void tsm_read(struct inventory *i);

static void on_tsm(Worker *w, int r, const char *text, struct json_object *values, _unused_ struct ipc_fds *fds, void *userdata) {
        struct inventory *i = userdata;

        i->reader_deadline = sd_event_source_disable_unref(i->reader_deadline);
        if (r >= 0 && round_take(i, values)) {
                tsm_read(i);
                return;
        }
        if (r < 0) {
                log_warning("could not read TSM state: %s", text);
                if (r == -ECONNRESET)
                        i->tsm = worker_free(w);
        } else if (i->tsms)
                take_tsm(i->manager, i->tsms, i->functions);
        round_clear(i);
        i->tsm_done = i->tsm_started;
        if (r >= 0) {
                connections_look(i->manager, i->tsm_had_gone || i->tsm_went);
                i->tsm_had_gone = false;
                tdi_look_at_bindings(i->manager);
                ide_refresh(i->manager);
        }
        i->first_tsm = false;
        if (i->tsm_dirty)
                tsm_next(i);
        else if (i->manager->n_tsms > 0 || r < 0) {
                (void) sd_event_source_set_time_relative(i->poll, TSM_POLL_USEC);
                (void) sd_event_source_set_enabled(i->poll, SD_EVENT_ONESHOT);
        }
        check_ready(i);
        manager_touch(i->manager);
}

/* The round is lost; the next one begins a little later. */
static void tsm_give_up(struct inventory *i) {
        i->tsm = worker_free(i->tsm);
        i->tsm_dirty = true;
        retry_later(i);
}

static int on_reader_deadline(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        struct inventory *i = userdata;

        i->reader_deadline = sd_event_source_disable_unref(i->reader_deadline);
        log_debug("reading tsm/ takes long: somebody's handshake is under way; trying again");
        worker_kill(i->tsm);
        tsm_give_up(i);
        return 0;
}

/* Asks for the next answer of a round. */
static void tsm_read(struct inventory *i) {
        _cleanup_json_ struct json_object *args = json_new();

        if (i->tsm_after)
                json_set_str(args, "after", i->tsm_after);
        if (worker_call(i->tsm, "read.tsm", "do", args, NULL, 0, on_tsm, i) < 0)
                tsm_give_up(i);
        else
                (void) sd_event_add_time_relative(i->manager->event, &i->reader_deadline, CLOCK_MONOTONIC, READER_USEC, 0,
                                                  on_reader_deadline, i);
}

static void tsm_next(struct inventory *i) {
        i->tsm_dirty = true;
        if (!reader_ready(i, &i->tsm))
                return;
        i->tsm_dirty = false;
        i->tsm_started++;
        i->tsm_had_gone |= i->tsm_went;
        i->tsm_went = false;
        (void) sd_event_source_set_enabled(i->poll, SD_EVENT_OFF);
        round_clear(i);
        tsm_read(i);
}

bool inventory_tsm_is_known(const Device *d) {
        return d->manager->inventory->tsm_done >= d->tsm_round;
}

uint64_t inventory_refresh_tsm(Manager *m) {
        uint64_t round;

        /* The first reading is still to come, and begins after now. */
        if (!m->inventory)
                return 1;
        round = m->inventory->tsm_started + 1;
        tsm_next(m->inventory);
        return round;
}

bool inventory_tsm_round_is_done(Manager *m, uint64_t round) {
        return m->inventory->tsm_done >= round;
}

static int on_uevent(_unused_ sd_event_source *s, int fd, _unused_ uint32_t revents, void *userdata) {
        struct inventory *i = userdata;
        struct tdi_uevent ev;
        bool tsm = false;
        int r;

        for (unsigned n = 0; n < 256; n++) {
                r = host_uevent_read(i->manager->host, fd, &ev);
                if (r == -EAGAIN)
                        break;
                if (r < 0) {
                        /* Lost events: everything is read again. */
                        i->all_dirty = tsm = true;
                        if (r != -ENOBUFS) {
                                log_error("no more events from the kernel: %s", strerror(-r));
                                i->uevents = sd_event_source_disable_unref(i->uevents);
                        }
                        break;
                }
                if (streq(ev.subsystem, "pci")) {
                        const char *name = strrchr(ev.devpath, '/');
                        struct tdi_bdf bdf;

                        if (name && tdi_bdf_parse(name + 1, &bdf) >= 0) {
                                Device *d = device_find(i->manager, bdf);

                                /* Another function may stand at this address now. */
                                if (d && streq(ev.action, "add"))
                                        d->fixed = false;
                                if (d && (streq(ev.action, "add") || streq(ev.action, "remove")))
                                        device_renew(d);
                                dirty(i, bdf);
                        }
                        if (streq(ev.action, "add") || streq(ev.action, "remove"))
                                tsm = true;
                } else if (streq(ev.subsystem, "tsm")) {
                        i->tsm_went |= streq(ev.action, "remove");
                        tsm = true;
                }
        }
        pci_next(i);
        if (tsm)
                tsm_next(i);
        return 0;
}

int inventory_start(Manager *m, void (*ready)(Manager *m)) {
        struct inventory *i = calloc(1, sizeof(*i));
        int r;

        if (!i)
                return -ENOMEM;
        m->inventory = i;
        i->manager = m;
        i->ready = ready;
        i->all_dirty = i->first_pci = i->first_names = i->first_tsm = true;
        /* Listen first, read then: nothing falls between. */
        i->uevent_fd = host_uevent_open(m->host);
        if (i->uevent_fd < 0)
                return i->uevent_fd;
        r = sd_event_add_io(m->event, &i->uevents, i->uevent_fd, EPOLLIN, on_uevent, i);
        if (r >= 0)
                r = sd_event_add_time_relative(m->event, &i->poll, CLOCK_MONOTONIC, TSM_POLL_USEC, 0, on_poll, i);
        if (r >= 0)
                r = sd_event_add_time_relative(m->event, &i->patience, CLOCK_MONOTONIC, READY_USEC, 0, on_patience, i);
        if (r < 0)
                return r;
        (void) sd_event_source_set_enabled(i->poll, SD_EVENT_OFF);
        pci_next(i);
        return 0;
}

void inventory_free(struct inventory *i) {
        if (!i)
                return;
        worker_free(i->pci);
        worker_free(i->tsm);
        sd_event_source_disable_unref(i->uevents);
        sd_event_source_disable_unref(i->poll);
        sd_event_source_disable_unref(i->retry);
        sd_event_source_disable_unref(i->patience);
        sd_event_source_disable_unref(i->reader_deadline);
        close_fd(i->uevent_fd);
        round_clear(i);
        free(i->after);
        free(i);
}
