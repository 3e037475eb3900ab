/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reads tdid.conf. */
#include "config.h"

#include <stdio.h>

#include "host/host.h"
#include "model/json.h"

#define CONFIG_SIZE_MAX (64UL * 1024)

#define MIB_MAX (1U << 30)
#define VMS_PER_USER 64

#define FIELD(section, name, min, max) { section, #name, offsetof(struct config, name), min, max, false }
#define SWITCH(section, name) { section, #name, offsetof(struct config, name), 0, 1, true }
#define SWITCH_AS(section, key, name) { section, key, offsetof(struct config, name), 0, 1, true }

static const struct {
        const char *section, *name;
        size_t offset;
        unsigned min, max;
        bool is_switch; /* true or false */
} fields[] = {
        FIELD("limits", vms, 1, 4096),        FIELD("limits", vms_per_user, 1, 4096), FIELD("limits", functions, 1, 256),
        FIELD("limits", keepers, 1, 128),    FIELD("limits", jobs, 16, 4096),        FIELD("limits", workers, 4, 1024),
        FIELD("limits", pinned_mib, 1, MIB_MAX), FIELD("limits", pinned_mib_per_user, 1, MIB_MAX), FIELD("limits", maps, 1, 1U << 30),
        FIELD("limits", exports, 1, 32),      FIELD("limits", export_mib, 1, 1U << 31), FIELD("limits", buffer_mib, 1, 1U << 31),
        FIELD("limits", exports_per_user, 1, 4096), FIELD("limits", export_mib_per_user, 1, 1U << 31),
        FIELD("limits", buffer_mib_per_user, 1, 1U << 31), FIELD("limits", guest_requests_per_second, 1, 1000000),
        FIELD("deadlines", claim, 1, 3600),   FIELD("deadlines", open, 1, 3600),      FIELD("deadlines", connect, 1, 3600),
        FIELD("deadlines", prepare, 1, 3600), FIELD("deadlines", bind, 1, 3600),      FIELD("deadlines", close, 1, 3600),
        FIELD("deadlines", associate, 1, 3600), FIELD("deadlines", evidence, 1, 3600),
        SWITCH_AS("evidence", "doe", evidence_doe), FIELD("evidence", archive_mib, 1, 1U << 20), FIELD("evidence", archive_records, 1, 65536),
        SWITCH("policy", associate_kvm),      SWITCH("policy", handoff),            SWITCH("policy", peer_to_peer),
        SWITCH("policy", guest_requests),     SWITCH("policy", guest_state_changes),
        SWITCH("policy", unbind_on_mismatch),
        FIELD("ide", reserved_streams, 0, 256), SWITCH("ide", require_secure),
};

/* More than there is cannot be pinned: what a VMM really may have is its memory cgroup's to say. */
static unsigned memory_mib(unsigned most) {
        long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
        uint64_t mib = pages > 0 && size > 0 ? (uint64_t) pages * (uint64_t) size >> 20 : 0;

        return mib == 0 ? 1 : mib > most ? most : (unsigned) mib;
}

void config_default(struct config *c) {
        *c = (struct config){
                .vms = 256,
                .vms_per_user = VMS_PER_USER,
                .functions = 64,
                .keepers = 64,
                .jobs = 512,
                .workers = 128,
                .pinned_mib = memory_mib(MIB_MAX),
                .pinned_mib_per_user = memory_mib(MIB_MAX / VMS_PER_USER) * VMS_PER_USER,
                .maps = 4U << 20,
                /* BARs cost nothing but addresses; shared memory is memory. */
                .exports = 32,
                .export_mib = 16U << 20,
                .buffer_mib = 1024,
                .exports_per_user = 256,
                .export_mib_per_user = 64U << 20,
                .buffer_mib_per_user = 4096,
                /* Each may be a message to the device, over a link that takes milliseconds. */
                .guest_requests_per_second = 2000,
                .guest_requests = 1,
                .guest_state_changes = 1,
                /* A function-level reset polls for up to 60 s (pci_dev_wait); a handshake takes seconds. */
                .claim = 30,
                .open = 75,
                .connect = 60,
                .prepare = 30,
                .bind = 30,
                .close = 75,
                /* A TDI behind a link that is not encrypted is none that a guest asked for. */
                .require_secure = 1,
                .associate = 10,
                .evidence = 60,
                .archive_mib = 256,
                .archive_records = 4096,
        };
}

static int complain(char **ret_text, const char *path, const char *section, const char *name, const char *why) {
        if (asprintf(ret_text, "%s: \"%s\"%s%s%s: %s", path, section, name ? ": \"" : "", strempty(name), name ? "\"" : "", why) < 0)
                *ret_text = NULL;
        return -EBADMSG;
}

static int take_field(struct config *c, const char *path, const char *section, const char *name, struct json_object *v,
                      char **ret_text) {
        for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
                int64_t n;

                if (!streq(fields[i].section, section) || !streq(fields[i].name, name))
                        continue;
                /* json-c gives a boolean as 0 or 1 */
                n = json_object_get_int64(v);
                if (!json_object_is_type(v, fields[i].is_switch ? json_type_boolean : json_type_int) || n < fields[i].min || n > fields[i].max)
                        return complain(ret_text, path, section, name, fields[i].is_switch ? "neither true nor false" : "not a number in its range");
                *(unsigned *) (void *) ((char *) c + fields[i].offset) = (unsigned) n;
                return 0;
        }
        return complain(ret_text, path, section, name, "unknown key");
}

int config_parse(const char *text, size_t size, const char *path, struct config *c, char **ret_text) {
        _cleanup_json_ struct json_object *o = NULL;
        struct config t = *c;
        const char *why;
        unsigned line;
        int r;

        r = json_parse_strict(text, size, &o, &line, &why);
        if (r < 0) {
                if (asprintf(ret_text, "%s:%u: %s", path, line, why) < 0)
                        *ret_text = NULL;
                return r;
        }
        if (!json_object_is_type(o, json_type_object))
                return complain(ret_text, path, "", NULL, "the file must hold one object");
        json_object_object_foreach(o, section, body) {
                if (!streq(section, "limits") && !streq(section, "deadlines") && !streq(section, "policy") && !streq(section, "ide") && !streq(section, "evidence"))
                        return complain(ret_text, path, section, NULL, "unknown key");
                if (!json_object_is_type(body, json_type_object))
                        return complain(ret_text, path, section, NULL, "not an object");
                json_object_object_foreach(body, name, v) {
                        r = take_field(&t, path, section, name, v, ret_text);
                        if (r < 0)
                                return r;
                }
        }
        *c = t;
        return 0;
}

int config_load(const char *path, struct config *c, char **ret_text) {
        _cleanup_(tdi_host_freep) TdiHost *files = NULL;
        _cleanup_free_ char *text = NULL;
        size_t size;
        int r;

        /* A file of this machine, whatever host the devices are on. */
        r = tdi_host_linux_new(&files);
        if (r >= 0)
                r = host_read_file(files, path, CONFIG_SIZE_MAX, &text, &size);
        if (r == -ENOENT)
                return r;
        if (r < 0) {
                if (asprintf(ret_text, "%s: %s", path, strerror(-r)) < 0)
                        *ret_text = NULL;
                return r;
        }
        return config_parse(text, size, path, c, ret_text);
}
