/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the files of fake-tdid share: what is in its world, and who tells of it. */
#ifndef FAKE_TDID_H
#define FAKE_TDID_H

#include <stddef.h>
#include <stdio.h>
#include <systemd/sd-bus.h>
#include <systemd/sd-event.h>

#include "util/util.h"

#define N_FUNCTIONS 12

struct vm {
        unsigned id;
        char path[64], name[64], uuid[40], platform[16], phase[16], options[512], seen[256];
        uint32_t owner;
        sd_event_source *lease;
        bool awaited;
        sd_bus_slot *slot;
};

struct function {
        unsigned number;
        char bdf[16], device_path[64], tdi_path[64], vm[64], custody[16], driver[16], quarantine[32], tsm[16], state[16];
        uint32_t guest_rid;
        bool wanted; /* by the attach job that runs */
        sd_bus_slot *tdi_slot;
};

struct job {
        unsigned id;
        char path[64], object[64], step[16], state[16], kind[16];
        struct function *function;
        struct vm *vm;
        void (*done)(struct job *j);
        int stage;
        sd_event_source *timer;
        sd_bus_slot *slot;
};

extern sd_event *event;
extern sd_bus *bus;
extern struct vm vms[64];
extern struct function functions[N_FUNCTIONS + 1];
extern unsigned n_vms;

/* What fails ends the program. */
void check(int r, const char *what);
#define set(to, from) snprintf(to, sizeof(to), "%s", from)
void changed(const char *path, const char *interface, const char *property);

#define TEXT(name, type, field) SD_BUS_PROPERTY(name, "s", get_text, offsetof(struct type, field), SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE)
int get_text(sd_bus *b, const char *path, const char *interface, const char *property, sd_bus_message *reply, void *userdata, sd_bus_error *e);
int get_zero(sd_bus *b, const char *path, const char *interface, const char *property, sd_bus_message *reply, void *userdata, sd_bus_error *e);

/* fake-job.c: answers the call with a job that goes as the function's number says; @done when it has gone well. */
int job_start(sd_bus_message *m, const char *kind, struct function *f, struct vm *vm, void (*done)(struct job *), const char *tdi, sd_bus_error *e);

/* fake-function.c */
extern const sd_bus_vtable tdi_vtable[], device_vtable[];
struct function *function_of(const char *bdf);
void function_free(struct function *f);
int find_device(sd_bus *b, const char *path, const char *interface, void *userdata, void **ret, sd_bus_error *e);
int list_devices(sd_bus *b, const char *prefix, void *userdata, char ***ret, sd_bus_error *e);

/* fake-vm.c */
extern const sd_bus_vtable vm_vtable[];
int on_lease(sd_event_source *s, int fd, uint32_t events, void *userdata);
/* What came, in words, so that a test sees each option with its type. */
void note_options(sd_bus_message *m, char *to, size_t n);

#endif
