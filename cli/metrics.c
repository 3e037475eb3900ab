/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `tdictl metrics`: what tdid and its holders count, as OpenMetrics text (1.0) or, with --json, the same families as JSON. It counts nothing
 * itself: each sample is of one answer of tdid's. Of VMs that the caller may not describe there is what everybody may know.
 */
#include "fleet.h"

#include <locale.h>
#include <stdarg.h>
#include <stdio.h>

struct metrics {
        json_object *families;
        json_object *samples; /* of the last family; borrowed */
        const char *name;
        bool failed; /* no memory */
};

/* unit: "" or the end of the name */
static void family(struct metrics *m, const char *name, const char *type, const char *unit, const char *help) {
        json_object *f = json_object_new_object(), *samples = json_object_new_array();

        m->name = name;
        m->failed |= !f || !samples;
        m->failed = m->failed || json_put_string(f, "name", name) < 0 || json_put_string(f, "type", type) < 0 || json_put_string(f, "unit", unit) < 0 ||
                    json_put_string(f, "help", help) < 0 || json_put(f, "samples", json_object_get(samples)) < 0 ||
                    json_object_array_add(m->families, json_object_get(f)) < 0;
        m->samples = samples;
        json_object_put(samples);
        json_object_put(f);
}

/* What follows are names and values of labels, ended by NULL. value is taken. */
static void sample(struct metrics *m, const char *suffix, json_object *value, ...) __attribute__((__sentinel__));
static void sample(struct metrics *m, const char *suffix, json_object *value, ...) {
        _cleanup_(json_object_putp) json_object *s = json_object_new_object(), *labels = json_object_new_object(), *v = value;
        _cleanup_free_ char *name = NULL;
        const char *key;
        va_list ap;

        va_start(ap, value);
        m->failed |= !s || !labels || !v || asprintf(&name, "%s%s", m->name, suffix) < 0;
        while (!m->failed && (key = va_arg(ap, const char *)))
                m->failed = json_put_string(labels, key, va_arg(ap, const char *)) < 0;
        va_end(ap);
        m->failed = m->failed || json_put_string(s, "name", name) < 0 || json_put(s, "labels", TAKE_PTR(labels)) < 0 || json_put(s, "value", TAKE_PTR(v)) < 0 ||
                    json_object_array_add(m->samples, json_object_get(s)) < 0;
}

static json_object *count(uint64_t n) {
        return json_object_new_uint64(n);
}

static json_object *seconds(uint64_t ns) {
        return json_object_new_double((double) ns / 1e9);
}

/* 1.0, 0.005, 1e-05: always read as the same number, and by every reader as a float. */
static const char *bound_text(uint64_t ns, char buf[static 32]) {
        snprintf(buf, 32, "%.12g", (double) ns / 1e9);
        if (!strpbrk(buf, ".e"))
                strcat(buf, ".0");
        return buf;
}

/* {"bounds_ns", "counts", "sum_ns"} as tdid has it: counts between bounds, which OpenMetrics wants cumulated. */
static void histogram(struct metrics *m, json_object *took, const char *key, const char *value, const char *key2, const char *value2) {
        json_object *bounds = json_member(took, "bounds_ns"), *counts = json_member(took, "counts");
        uint64_t sum = 0;
        char buf[32];

        if (fleet_length(counts) != fleet_length(bounds) + 1)
                return;
        for (size_t i = 0; i < fleet_length(counts); i++) {
                const char *le = i < fleet_length(bounds) ? bound_text(json_object_get_uint64(json_object_array_get_idx(bounds, i)), buf) : "+Inf";

                sum += json_object_get_uint64(json_object_array_get_idx(counts, i));
                sample(m, "_bucket", count(sum), key, value, key2 ? key2 : "le", key2 ? value2 : le, key2 ? "le" : NULL, le, NULL);
        }
        sample(m, "_count", count(sum), key, value, key2, value2, NULL);
        sample(m, "_sum", seconds(fleet_number(took, "sum_ns")), key, value, key2, value2, NULL);
}

/* How many elements of the list (or of the lists in the elements of one) have this value. */
static uint64_t having(json_object *list, const char *nested, const char *key, const char *value) {
        uint64_t n = 0;

        for (size_t i = 0; i < fleet_length(list); i++) {
                json_object *o = json_object_array_get_idx(list, i);

                n += nested ? having(json_member(o, nested), NULL, key, value) : streq(fleet_text(o, key), value);
        }
        return n;
}

#define BY_STATE(m, list, nested, key, first, last, to_string)                                              \
        for (int i_ = (first); i_ < (last); i_++)                                                           \
                sample(m, "", count(having(list, nested, key, to_string(i_))), key, to_string(i_), NULL)

static uint64_t filled(json_object *list, const char *key) {
        uint64_t n = 0;

        for (size_t i = 0; i < fleet_length(list); i++) {
                json_object *value = json_member(json_object_array_get_idx(list, i), key);

                n += json_object_is_type(value, json_type_array) ? json_object_array_length(value) > 0 : value && !streq(json_object_get_string(value), "");
        }
        return n;
}

static void of_host(struct metrics *m, json_object *model) {
        json_object *devices = json_member(model, "devices"), *tdid = json_member(model, "tdid"), *host = json_member(model, "host"), *tsms = json_member(model, "tsms");
        json_object *ide = json_member(host, "ide"), *bridges = json_member(ide, "bridges");
        static const char *const secure[] = { "yes", "no", "unknown" };

        family(m, "tdid", "info", "", "What runs here.");
        sample(m, "_info", count(1), "version", fleet_text(tdid, "version"), "platform", fleet_text(json_member(host, "platform"), "name"), "provider",
               fleet_text(json_member(host, "provider"), "name"), NULL);
        family(m, "tdid_guard_on", "gauge", "", "Whether the mmap guard is on.");
        sample(m, "", count(streq(fleet_text(tdid, "guard"), "on")), NULL);
        family(m, "tdid_policy_loaded", "gauge", "", "Whether a policy is in force; without one nothing can be attached.");
        sample(m, "", count(json_object_get_boolean(json_member(json_member(host, "policy"), "loaded"))), NULL);
        family(m, "tdid_devices", "gauge", "", "PCI functions by the furthest custody step that they are in.");
        BY_STATE(m, devices, NULL, "custody", 0, TDI_CUSTODY_MAX, tdi_custody_to_string);
        family(m, "tdid_tee_devices", "gauge", "", "PCI functions that can be TDIs as far as the kernel says.");
        sample(m, "", count(filled(devices, "tee")), NULL);
        family(m, "tdid_quarantined_devices", "gauge", "", "PCI functions that could not be given back.");
        sample(m, "", count(filled(devices, "quarantine")), NULL);
        family(m, "tdid_tsm_devices", "gauge", "", "PCI functions connected to each TSM.");
        for (size_t i = 0; i < fleet_length(tsms); i++) {
                json_object *tsm = json_object_array_get_idx(tsms, i);

                sample(m, "", count(fleet_length(json_member(tsm, "devices"))), "tsm", fleet_text(tsm, "name"), NULL);
        }
        family(m, "tdid_ide_streams", "gauge", "", "IDE streams by whether both ends are secure.");
        for (size_t i = 0; i < ARRAY_SIZE(secure); i++)
                sample(m, "", count(having(json_member(ide, "streams"), NULL, "secure", secure[i])), "secure", secure[i], NULL);
        family(m, "tdid_ide_bridge_streams", "gauge", "", "IDE streams of each host bridge: in use, and left where the kernel says.");
        for (size_t i = 0; i < fleet_length(bridges); i++) {
                json_object *bridge = json_object_array_get_idx(bridges, i);

                sample(m, "", count(fleet_number(bridge, "in_use")), "bridge", fleet_text(bridge, "name"), "state", "in_use", NULL);
                if (json_member(bridge, "left"))
                        sample(m, "", count(fleet_number(bridge, "left")), "bridge", fleet_text(bridge, "name"), "state", "left", NULL);
        }
}

static void of_states(struct metrics *m, json_object *model) {
        json_object *vms = json_member(model, "vms"), *jobs = json_member(model, "jobs");

        family(m, "tdid_vms", "gauge", "", "VMs by phase.");
        BY_STATE(m, vms, NULL, "phase", 0, TDI_VM_GONE, tdi_vm_phase_to_string);
        family(m, "tdid_tdis", "gauge", "", "Attached functions by state.");
        BY_STATE(m, vms, "tdis", "state", 0, TDI_STATE_GONE, tdi_state_to_string);
        family(m, "tdid_tdisp", "gauge", "", "Attached functions by TDISP state.");
        BY_STATE(m, vms, "tdis", "tdisp", 0, TDI_TDISP_MAX, tdi_tdisp_to_string);
        family(m, "tdid_jobs", "gauge", "", "Jobs that have not ended; a stuck one waits for the kernel past its deadline.");
        BY_STATE(m, jobs, NULL, "state", 0, TDI_JOB_DONE, tdi_job_state_to_string);
}

/* Each member, a number, is a sample with its name as a label. */
static void by_name(struct metrics *m, const char *key, json_object *numbers) {
        if (!json_object_is_type(numbers, json_type_object))
                return;
        json_object_object_foreach(numbers, name, n) {
                sample(m, "_total", count(json_object_get_uint64(n)), key, name, NULL);
        }
}

static void of_jobs(struct metrics *m, json_object *jobs, bool durations) {
        static const char *const ends[] = { "done", "failed", "cancelled" };

        if (!json_object_is_type(jobs, json_type_object))
                return;
        json_object_object_foreach(jobs, kind, job) {
                if (durations)
                        histogram(m, json_member(job, "took"), "kind", kind, NULL, NULL);
                for (size_t i = 0; !durations && i < ARRAY_SIZE(ends); i++)
                        sample(m, "_total", count(fleet_number(job, ends[i])), "kind", kind, "result", ends[i], NULL);
        }
}

static void of_counters(struct metrics *m, json_object *counters) {
        /* An earlier tdid has none. */
        if (!counters)
                return;
        family(m, "tdid_start_time_seconds", "gauge", "seconds", "When tdid began to count.");
        sample(m, "", json_object_new_double((double) fleet_number(counters, "since") / 1e6), NULL);
        family(m, "tdid_events", "counter", "", "Entries of the journal by TDID_EVENT since then.");
        by_name(m, "event", json_member(counters, "events"));
        family(m, "tdid_refusals", "counter", "", "Calls that were refused, by error.");
        by_name(m, "error", json_member(counters, "refused"));
        family(m, "tdid_ended_jobs", "counter", "", "Jobs that have ended, by kind and result.");
        of_jobs(m, json_member(counters, "jobs"), false);
        family(m, "tdid_job_duration_seconds", "histogram", "seconds", "How long jobs took, by kind.");
        of_jobs(m, json_member(counters, "jobs"), true);
}

/* One family's samples of all served functions of VMs that could be described. */
enum served {
        SERVED_CONNECTED,
        SERVED_MAPPED,
        SERVED_TOOK,
        SERVED_REFUSED,
        SERVED_TIMEOUTS,
        SERVED_GUEST_REQUESTS,
};

static void of_function(struct metrics *m, enum served what, const char *vm, const char *bdf, json_object *vpci) {
        json_object *requests = json_member(vpci, "guest_requests");
        static const char *const results[] = { "passed", "refused", "failed" };

        switch (what) {
        case SERVED_CONNECTED:
                sample(m, "", count(json_object_get_boolean(json_member(vpci, "connected"))), "vm", vm, "device", bdf, NULL);
                return;
        case SERVED_MAPPED:
                sample(m, "", count(fleet_number(json_member(vpci, "dma"), "bytes")), "vm", vm, "device", bdf, NULL);
                return;
        case SERVED_TOOK:
                histogram(m, json_member(vpci, "took"), "vm", vm, "device", bdf);
                return;
        case SERVED_REFUSED:
                sample(m, "_total", count(fleet_number(vpci, "refused")), "vm", vm, "device", bdf, NULL);
                return;
        case SERVED_TIMEOUTS:
                sample(m, "_total", count(fleet_number(vpci, "timeouts")), "vm", vm, "device", bdf, NULL);
                return;
        case SERVED_GUEST_REQUESTS:
                for (size_t i = 0; requests && i < ARRAY_SIZE(results); i++)
                        sample(m, "_total", count(fleet_number(requests, results[i])), "vm", vm, "device", bdf, "result", results[i], NULL);
                return;
        }
}

static void of_functions(struct metrics *m, json_object *vms, enum served what) {
        for (size_t i = 0; i < fleet_length(vms); i++) {
                json_object *vm = json_object_array_get_idx(vms, i), *tdis = json_member(vm, "tdis");

                for (size_t k = 0; k < fleet_length(tdis); k++) {
                        json_object *tdi = json_object_array_get_idx(tdis, k), *vpci = json_member(tdi, "vpci");

                        if (json_object_is_type(vpci, json_type_object))
                                of_function(m, what, fleet_text(vm, "name"), fleet_text(tdi, "bdf"), vpci);
                }
        }
}

static void of_vpci(struct metrics *m, json_object *vms) {
        family(m, "tdid_vpci_connected", "gauge", "", "Whether a VMM is connected to the function's socket.");
        of_functions(m, vms, SERVED_CONNECTED);
        family(m, "tdid_vpci_mapped_bytes", "gauge", "bytes", "Guest memory that the function can reach.");
        of_functions(m, vms, SERVED_MAPPED);
        family(m, "tdid_vpci_request_duration_seconds", "histogram", "seconds", "How long the holder took for the VMM's requests.");
        of_functions(m, vms, SERVED_TOOK);
        family(m, "tdid_vpci_refusals", "counter", "", "Requests of the VMM that were refused.");
        of_functions(m, vms, SERVED_REFUSED);
        family(m, "tdid_vpci_timeouts", "counter", "", "Requests of the VMM that were answered before their end, for it would have given up.");
        of_functions(m, vms, SERVED_TIMEOUTS);
        family(m, "tdid_guest_requests", "counter", "", "Requests of the guest to its TSM, by what came of them.");
        of_functions(m, vms, SERVED_GUEST_REQUESTS);
}

/* Only functions in custody are guarded. */
static int of_guard(struct tdictl *t, struct metrics *m, json_object *devices) {
        family(m, "tdid_guard_refusals", "counter", "", "What the mmap guard has refused of a function since it is in custody, by kind.");
        for (size_t i = 0; i < fleet_length(devices); i++) {
                json_object *device = json_object_array_get_idx(devices, i), *refused;
                _cleanup_(json_object_putp) json_object *o = NULL;
                _cleanup_free_ char *text = NULL;
                struct tdi_bdf bdf;

                if (streq(fleet_text(device, "custody"), "none") || tdi_bdf_parse(fleet_text(device, "bdf"), &bdf) < 0 ||
                    tdi_client_describe_device(t->client, bdf, &text) < 0)
                        continue;
                o = json_tokener_parse(text);
                refused = json_member(json_member(o, "device"), "refused");
                if (!json_object_is_type(refused, json_type_object))
                        continue;
                json_object_object_foreach(refused, kind, n) {
                        sample(m, "_total", count(json_object_get_uint64(n)), "device", fleet_text(device, "bdf"), "kind", kind, NULL);
                }
        }
        return m->failed ? fail_oom(t) : 0;
}

/* ---- as text ---- */

/* Of a label's value, or of a help. */
static void put_escaped(FILE *f, const char *text, bool quoted) {
        for (; *text; text++)
                if (*text == '\\' || *text == '\n' || (quoted && *text == '"'))
                        fprintf(f, "\\%c", *text == '\n' ? 'n' : *text);
                else
                        fputc(*text, f);
}

static void put_sample(FILE *f, json_object *s) {
        json_object *labels = json_member(s, "labels"), *value = json_member(s, "value");
        const char *before = "{";

        fputs(fleet_text(s, "name"), f);
        json_object_object_foreach(labels, key, text) {
                fprintf(f, "%s%s=\"", before, key);
                put_escaped(f, json_object_get_string(text), true);
                fputc('"', f);
                before = ",";
        }
        if (json_object_is_type(value, json_type_double))
                fprintf(f, "%s %.9f\n", *before == ',' ? "}" : "", json_object_get_double(value));
        else
                fprintf(f, "%s %llu\n", *before == ',' ? "}" : "", (unsigned long long) json_object_get_uint64(value));
}

static void put_families(FILE *f, json_object *families) {
        for (size_t i = 0; i < fleet_length(families); i++) {
                json_object *o = json_object_array_get_idx(families, i), *samples = json_member(o, "samples");
                const char *name = fleet_text(o, "name");

                if (fleet_length(samples) == 0)
                        continue;
                fprintf(f, "# TYPE %s %s\n", name, fleet_text(o, "type"));
                if (*fleet_text(o, "unit"))
                        fprintf(f, "# UNIT %s %s\n", name, fleet_text(o, "unit"));
                fprintf(f, "# HELP %s ", name);
                put_escaped(f, fleet_text(o, "help"), true);
                fputc('\n', f);
                for (size_t k = 0; k < fleet_length(samples); k++)
                        put_sample(f, json_object_array_get_idx(samples, k));
        }
        fputs("# EOF\n", f);
}

static int tell(struct tdictl *t, json_object *families) {
        _cleanup_(json_object_putp) json_object *model = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        FILE *f;
        int r;

        r = model_new(t, &model);
        if (r < 0)
                return r;
        f = open_memstream(&text, &size);
        if (!f)
                return fail_oom(t);
        if (!t->json)
                put_families(f, families);
        else if (json_put(model, "metrics", json_object_get(families)) >= 0)
                fprintf(f, "%s\n", json_text(model));
        if (fclose(f) != 0 || size == 0)
                return fail_oom(t);
        return fleet_write(t, text, size);
}

int verb_metrics(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL, *families = json_object_new_array();
        struct metrics m = { .families = families, .failed = !families };
        int r;

        /* Numbers are no text for people: their point is a point. */
        (void) setlocale(LC_NUMERIC, "C");
        r = fleet_model(t, &model);
        if (r < 0)
                return r;
        of_host(&m, model);
        of_states(&m, model);
        of_counters(&m, json_member(json_member(model, "host"), "counters"));
        of_vpci(&m, json_member(model, "described"));
        r = of_guard(t, &m, json_member(model, "devices"));
        return r < 0 ? r : tell(t, families);
}
