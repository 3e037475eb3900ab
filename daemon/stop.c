/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* SIGTERM: asks PID 1 whether this is a stop, and then gives everything back. */
#include "stop.h"

#include <signal.h>
#include <stdio.h>
#include <systemd/sd-daemon.h>

#include "admission.h"
#include "audit.h"
#include "vm.h"

#define ASK_USEC (2 * 1000000ULL)
/* While giving back, the service manager is told every second that this is work, not a hang. */
#define EXTEND_USEC 1000000ULL
#define EXTEND_BY "EXTEND_TIMEOUT_USEC=30000000"

#define EXTENSIONS_MAX 300

static struct {
        bool asking, pending;
        unsigned extensions;
        sd_event_source *timer, *extend;
        sd_bus_slot *call;
} stop;

static void leave(Manager *m, const char *why) {
        audit_leaving(why, m->n_vms);
        (void) sd_event_exit(m->event, 0);
}

static int on_extend(sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        /* Not for ever: the host may be shutting down. What is left then is the journal's. */
        if (++stop.extensions >= EXTENSIONS_MAX) {
                manager_touch(userdata);
                return 0;
        }
        (void) sd_notify(0, EXTEND_BY);
        (void) sd_event_source_set_time_relative(s, EXTEND_USEC);
        (void) sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
        return 0;
}

static void give_back(Manager *m) {
        if (m->stopping)
                return;
        audit_stopping(m->n_vms);
        m->stopping = true;
        (void) sd_notify(0, "STOPPING=1\n" EXTEND_BY);
        (void) sd_event_add_time_relative(m->event, &stop.extend, CLOCK_MONOTONIC, EXTEND_USEC, 0, on_extend, m);
        for (size_t i = 0; i < m->n_vms; i++)
                if (!m->vms[i]->frozen)
                        vm_close(m->vms[i], "tdid is stopping");
        manager_touch(m);
}

void stop_settle(Manager *m) {
        size_t left = 0;

        if (!m->stopping)
                return;
        for (size_t i = 0; i < m->n_vms; i++)
                left += !m->vms[i]->frozen;
        for (size_t i = 0; i < m->n_custodies; i++) {
                Custody *c = m->custodies[i];

                /* Whoever is in the kernel comes back without us: its journal stays, the next start goes on. */
                if (!custody_is_stalled(c))
                        left++;
                else if (c->vm)
                        c->vm->abandon = true;
        }
        if (left > 0 && stop.extensions < EXTENSIONS_MAX)
                return;
        if (m->n_custodies > 0)
                log_error("stopping: %zu functions are not given back; their journals stay", m->n_custodies);
        (void) sd_event_exit(m->event, 0);
}

static void answered(void) {
        stop.asking = false;
        stop.timer = sd_event_source_disable_unref(stop.timer);
        stop.call = sd_bus_slot_unref(stop.call);
}

static int on_job_type(sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        Manager *m = userdata;
        const char *type = "";
        int r;

        r = sd_bus_message_is_method_error(reply, NULL) ? -EIO : sd_bus_message_enter_container(reply, 'v', "s");
        if (r >= 0)
                r = sd_bus_message_read_basic(reply, 's', &type);
        answered();
        if (r >= 0 && streq(type, "stop"))
                give_back(m);
        else
                leave(m, "restarting");
        return 0;
}

static int on_job(sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        Manager *m = userdata;
        const char *path = "";
        sd_bus_slot *slot = NULL;
        uint32_t id = 0;
        int r;

        r = sd_bus_message_is_method_error(reply, NULL) ? -EIO : sd_bus_message_enter_container(reply, 'v', "(uo)");
        if (r >= 0)
                r = sd_bus_message_read(reply, "(uo)", &id, &path);
        if (r >= 0 && id != 0)
                r = sd_bus_call_method_async(m->bus, &slot, "org.freedesktop.systemd1", path, "org.freedesktop.DBus.Properties", "Get",
                                             on_job_type, m, "ss", "org.freedesktop.systemd1.Job", "JobType");
        if (r < 0 || id == 0) {
                /* A bare signal from somebody's hand: nobody asked for the service to be stopped. */
                answered();
                leave(m, "SIGTERM without a stop job");
                return 0;
        }
        sd_bus_slot_unref(stop.call);
        stop.call = slot;
        return 0;
}

static int on_unit(sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        Manager *m = userdata;
        sd_bus_slot *slot = NULL;
        const char *path = "";
        int r;

        r = sd_bus_message_is_method_error(reply, NULL) ? -EIO : sd_bus_message_read(reply, "o", &path);
        if (r >= 0)
                r = sd_bus_call_method_async(m->bus, &slot, "org.freedesktop.systemd1", path, "org.freedesktop.DBus.Properties", "Get", on_job, m,
                                             "ss", "org.freedesktop.systemd1.Unit", "Job");
        if (r < 0) {
                answered();
                leave(m, "could not ask the service manager");
                return 0;
        }
        sd_bus_slot_unref(stop.call);
        stop.call = slot;
        return 0;
}

static int on_silence(_unused_ sd_event_source *s, _unused_ uint64_t usec, void *userdata) {
        answered();
        leave(userdata, "the service manager does not answer");
        return 0;
}

static void terminate(Manager *m) {
        int r;

        if (m->stopping || stop.asking)
                return;
        /* Half of the VMs are not in our hands yet. */
        if (m->recovering) {
                stop.pending = true;
                return;
        }
        /* Nobody restarts us here, so who ends us wants an end. */
        if (!m->booted_by_systemd) {
                give_back(m);
                return;
        }
        stop.asking = true;
        r = sd_event_add_time_relative(m->event, &stop.timer, CLOCK_MONOTONIC, ASK_USEC, 0, on_silence, m);
        if (r >= 0)
                r = sd_bus_call_method_async(m->bus, &stop.call, "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
                                             "org.freedesktop.systemd1.Manager", "GetUnitByPID", on_unit, m, "u", (uint32_t) getpid());
        if (r < 0) {
                answered();
                leave(m, "could not ask the service manager");
        }
}

static int on_signal(_unused_ sd_event_source *s, _unused_ const struct signalfd_siginfo *si, void *userdata) {
        terminate(userdata);
        return 0;
}

void stop_resume(Manager *m) {
        if (stop.pending)
                terminate(m);
}

/* SIGHUP is no end at all, but the third signal of a daemon: the policy is read again. */
static int on_reload(_unused_ sd_event_source *s, _unused_ const struct signalfd_siginfo *si, void *userdata) {
        _cleanup_free_ char *text = NULL;

        if (admission_load(userdata, &text) < 0)
                log_error("the policy stays as it was: %s", strempty(text));
        return 0;
}

int stop_install(Manager *m) {
        int r;

        r = sd_event_add_signal(m->event, NULL, SIGHUP, on_reload, m);
        if (r >= 0)
                r = sd_event_add_signal(m->event, NULL, SIGTERM, on_signal, m);
        return r < 0 ? r : sd_event_add_signal(m->event, NULL, SIGINT, on_signal, m);
}
