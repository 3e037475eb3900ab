/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the lists show, as data. */
#include "model.h"
#include "print.h"

/* The class alone where the ids are nobody's whom the host has heard of. */
static const char *device_name(json_object *d) {
        return json_string(d, "name") ?: json_string(d, "class_name");
}

/* What an operator looks for: is it free, who has it, is something wrong? */
static const char *device_state(json_object *d) {
        const char *custody = json_string(d, "custody");
        json_object *present = json_member(d, "present");

        if (json_member(d, "quarantine"))
                return "quarantined";
        if (present && !json_object_get_boolean(present))
                return "gone";
        return custody && !streq(custody, "none") ? custody : NULL;
}

static const char *vpci_state(json_object *tdi) {
        json_object *vpci = json_member(tdi, "vpci");

        if (json_object_get_boolean(json_member(vpci, "stale")))
                return "no answer";
        return json_object_get_boolean(json_member(vpci, "failed")) ? "failed" : json_object_get_boolean(json_member(vpci, "connected")) ? "connected" : NULL;
}

static const struct column device_columns[] = {
        { .title = "BDF", .key = "bdf" },
        { .title = "NAME", .key = "name", .trunc = true, .text = device_name },
        { .title = "DRIVER", .key = "driver" },
        { .title = "GROUP", .key = "iommu_group", .right = true },
        { .title = "TEE", .key = "tee@" },
        { .title = "TSM", .key = "tsm" },
        { .title = "VM", .key = "vm" },
        { .title = "STATE", .key = "quarantine", .text = device_state },
        {},
};

static const struct column vm_columns[] = {
        { .title = "NAME", .key = "name" },
        { .title = "PHASE", .key = "phase" },
        { .title = "PLATFORM", .key = "platform" },
        { .title = "OWNER", .key = "owner_uid", .right = true },
        { .title = "TDIS", .key = "tdis#", .right = true },
        { .title = "UUID", .key = "uuid", .trunc = true },
        {},
};

/* TDIs stand inside their VM in a snapshot, and by themselves in what attach prints. */
static const struct column nested_tdi_columns[] = {
        { .title = "BDF", .key = "bdf" },
        { .title = "VM", .key = "^name" },
        { .title = "STATE", .key = "state" },
        { .title = "CUSTODY", .key = "custody" },
        { .title = "GUEST-RID", .key = "guest_rid", .format = COLUMN_HEX },
        { .title = "TDISP", .key = "tdisp" },
        {},
};

static const struct column tdi_columns[] = {
        { .title = "BDF", .key = "bdf" },
        { .title = "VM", .key = "vm" },
        { .title = "STATE", .key = "state" },
        { .title = "CUSTODY", .key = "custody" },
        { .title = "GUEST-RID", .key = "guest_rid", .format = COLUMN_HEX },
        { .title = "TDISP", .key = "tdisp" },
        {},
};

/* What a VMM has made of the function's vPCI socket. */
static const struct column vpci_columns[] = {
        { .title = "BDF", .key = "bdf" },
        { .title = "VMM", .key = "vpci.connected", .text = vpci_state },
        { .title = "MAPS", .key = "vpci.dma.maps", .right = true },
        { .title = "MAPPED", .key = "vpci.dma.bytes", .right = true, .format = COLUMN_BYTES },
        { .title = "FAILED", .key = "vpci.dma.failed_ranges", .right = true },
        { .title = "UNBACKED", .key = "vpci.dma.unbacked.bytes", .right = true, .format = COLUMN_BYTES },
        { .title = "REQUESTS", .key = "vpci.requests", .right = true },
        { .title = "EVENTS", .key = "vpci.events#", .right = true },
        {},
};

/* By itself: a path is as wide as a terminal, and whole for whoever copies it. */
static const struct column socket_columns[] = {
        { .title = "SOCKET", .key = "vpci.socket" },
        {},
};

static const struct column tsm_columns[] = {
        { .title = "TSM", .key = "name" },
        { .title = "PLATFORM", .key = "platform" },
        { .title = "PARENT", .key = "parent", .trunc = true },
        { .title = "CONNECTED", .key = "devices", .wrap = true },
        {},
};

static const struct column dmabuf_columns[] = {
        { .title = "VM", .key = "vm" },
        { .title = "ID", .key = "id", .right = true },
        { .title = "KIND", .key = "kind" },
        { .title = "BDF", .key = "bdf" },
        { .title = "BAR", .key = "region", .right = true },
        { .title = "OFFSET", .key = "offset", .right = true },
        { .title = "SIZE", .key = "size", .right = true },
        { .title = "CLASS", .key = "class" },
        { .title = "IMPORTER", .key = "importer" },
        { .title = "STATE", .key = "state" },
        {},
};

static const struct column job_columns[] = {
        { .title = "JOB", .key = "id", .right = true },
        { .title = "KIND", .key = "kind" },
        { .title = "STATE", .key = "state" },
        { .title = "STEP", .key = "step" },
        { .title = "STARTED", .key = "started", .format = COLUMN_CLOCK },
        { .title = "DEADLINE", .key = "deadline", .format = COLUMN_CLOCK },
        { .title = "OBJECTS", .key = "objects", .wrap = true },
        {},
};

static const struct column finding_columns[] = {
        { .title = "SEVERITY", .key = "severity" },
        { .title = "KIND", .key = "kind" },
        { .title = "FILE", .key = "file" },
        { .title = "LINE", .key = "line", .right = true },
        { .title = "COLUMN", .key = "column", .right = true },
        { .title = "TEXT", .key = "text", .wrap = true },
        {},
};

static const struct column policy_file_columns[] = {
        { .title = "FILE", .key = "file" },
        { .title = "MASKED", .key = "masked" },
        {},
};

static const struct column rule_columns[] = {
        { .title = "RULE", .key = "name" },
        { .title = "DECISION", .key = "decision" },
        { .title = "FILE", .key = "file", .trunc = true },
        { .title = "LINE", .key = "line", .right = true },
        { .title = "MATCH", .key = "source.match", .wrap = true },
        {},
};

/* The first of them; JSON has all. */
static const char *tdi_trouble(json_object *tdi) {
        static const char *const keys[] = { "quarantine", "bind_error", "drift" };

        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                if (!isempty(json_string(tdi, keys[i])))
                        return json_string(tdi, keys[i]);
        return NULL;
}

static bool has_trouble(json_object *tdi) {
        return tdi_trouble(tdi);
}

static bool has_vpci(json_object *tdi) {
        return json_object_is_type(json_member(tdi, "vpci"), json_type_object);
}

/* What tdid has that no VM shows, or a TSM is connected to. */
static bool device_matters(json_object *d) {
        return !json_string(d, "vm") && (device_state(d) || json_member(d, "tsm"));
}

static bool is_quarantined(json_object *d) {
        return json_string(d, "quarantine");
}

static const struct column quarantine_columns[] = {
        { .title = "BDF", .key = "bdf" },
        { .title = "WHY", .key = "quarantine", .wrap = true },
        {},
};

#define QUARANTINE_SECTION \
        { .list = "devices", .heading = "Quarantined: 'tdictl device restore BDF' tries again to give them back", .columns = quarantine_columns, .shown = is_quarantined, .remark = true }

const struct section devices_view[] = {
        { .list = "devices", .none = "No such PCI functions.", .columns = device_columns },
        QUARANTINE_SECTION,
        {},
};

/* Its driver, and who is connected to it, are read again only after a function has been given back. */
static const struct column given_back_columns[] = {
        { .title = "BDF", .key = "bdf" },
        { .title = "NAME", .key = "name", .trunc = true, .text = device_name },
        { .title = "GROUP", .key = "iommu_group", .right = true },
        { .title = "VM", .key = "vm" },
        { .title = "STATE", .key = "quarantine", .text = device_state },
        {},
};

const struct section given_back_view[] = {
        { .list = "devices", .none = "It has gone from the host.", .columns = given_back_columns },
        QUARANTINE_SECTION,
        {},
};

const struct section device_view[] = {
        { .list = "devices" },
        {},
};

const struct section vms_view[] = {
        { .list = "vms", .none = "No VMs.", .columns = vm_columns },
        {},
};

static const struct column vm_tdi_columns[] = {
        { .title = "BDF", .key = "bdf" },
        { .title = "STATE", .key = "state" },
        { .title = "CUSTODY", .key = "custody" },
        { .title = "GUEST-RID", .key = "guest_rid", .format = COLUMN_HEX },
        { .title = "TDISP", .key = "tdisp" },
        { .title = "BIND", .key = "bind" },
        { .title = "IDE", .key = "ide" },
        { .title = "ADMITTED-BY", .key = "admitted_by", .trunc = true },
        {},
};

/* What the table of functions has no room for. */
static const struct column trouble_columns[] = {
        { .title = "BDF", .key = "bdf" },
        { .title = "WHAT", .key = "bdf", .wrap = true, .text = tdi_trouble },
        {},
};

const struct section vm_view[] = {
        { .list = "vms", .hidden = "tdis" },
        { .list = "vms", .nested = "tdis", .heading = "Functions", .columns = vm_tdi_columns },
        { .list = "vms", .nested = "tdis", .heading = "What is wrong", .columns = trouble_columns, .shown = has_trouble },
        { .list = "vms", .nested = "tdis", .heading = "vPCI: what the VMM has made of each function", .columns = vpci_columns, .shown = has_vpci },
        { .list = "vms", .nested = "tdis", .heading = "vPCI sockets, for the VMM", .columns = socket_columns, .shown = has_vpci },
        {},
};

const struct section tdis_view[] = {
        { .list = "tdis", .none = "No attached functions.", .columns = tdi_columns },
        {},
};

const struct section tsms_view[] = {
        { .list = "tsms", .none = "No TSMs: this kernel or platform has no security manager for devices.", .columns = tsm_columns },
        {},
};

const struct section tsm_view[] = {
        { .list = "host", .nested = "platform", .heading = "Platform" },
        { .list = "host", .nested = "kernel", .heading = "Kernel" },
        { .list = "host", .nested = "provider", .heading = "Bind provider" },
        { .list = "host", .nested = "suspend", .heading = "Suspend" },
        { .list = "host", .nested = "lacks", .heading = "Lacking" },
        { .list = "host", .nested = "ide", .heading = "IDE" },
        { .list = "tsms", .heading = "TSM" },
        {},
};

const struct section dmabufs_view[] = {
        { .list = "dmabufs", .none = "No dma-bufs.", .columns = dmabuf_columns },
        {},
};

const struct section findings_view[] = {
        { .list = "findings", .none = "Nothing is wrong.", .columns = finding_columns },
        {},
};

const struct section policy_view[] = {
        { .list = "files", .heading = "Files", .none = "No files: what is not root's is denied.", .columns = policy_file_columns },
        { .list = "rules", .heading = "Rules, the most specific first", .columns = rule_columns },
        {},
};

const struct section explanation_view[] = {
        { .list = "explanation" },
        {},
};

const struct section status_view[] = {
        { .list = "tdid" },
        { .list = "vms", .heading = "VMs", .none = "No VMs.", .columns = vm_columns },
        { .list = "vms", .nested = "tdis", .heading = "Attached functions", .columns = nested_tdi_columns },
        { .list = "tsms", .heading = "TSMs", .columns = tsm_columns },
        { .list = "jobs", .heading = "Jobs", .columns = job_columns },
        { .list = "devices", .heading = "Other functions that are not as the host had them", .columns = device_columns, .shown = device_matters },
        QUARANTINE_SECTION,
        {},
};

static const struct column evidence_columns[] = {
        { .title = "BDF", .key = "bdf" },
        { .title = "SOURCE", .key = "source" },
        { .title = "NONCE", .key = "nonce" },
        { .title = "ARCHIVED", .key = "archived" },
        {},
};

static const struct column tried_columns[] = {
        { .title = "TRIED", .key = "source" },
        { .title = "RESULT", .key = "reason" },
        { .title = "TEXT", .key = "text", .wrap = true },
        {},
};

static const struct column object_columns[] = {
        { .title = "OBJECT", .key = "type" },
        { .title = "FORM", .key = "form" },
        { .title = "SIZE", .key = "size", .right = true },
        { .title = "SOURCE", .key = "source" },
        { .title = "SHA256", .key = "sha256" },
        {},
};

static const struct column verified_columns[] = {
        { .title = "ANCHOR", .key = "anchor_file" },
        { .title = "REFERENCES", .key = "references_file" },
        { .title = "OK", .key = "ok" },
        { .title = "REASON", .key = "reason" },
        { .title = "TEXT", .key = "text", .wrap = true },
        {},
};

const struct section evidence_view[] = {
        { .list = "evidence", .columns = evidence_columns },
        { .list = "evidence", .nested = "tried", .heading = "Sources", .columns = tried_columns },
        { .list = "evidence", .nested = "objects", .heading = "Objects", .columns = object_columns },
        { .list = "evidence", .nested = "verified", .heading = "Verification", .columns = verified_columns },
        {},
};

/* Of steps that are not needed only what a person may have expected otherwise, which has a reason. JSON has all. */
static bool is_worth_telling(json_object *step) {
        const char *text = strempty(json_string(step, "text"));

        return json_object_get_boolean(json_member(step, "needed")) || startswith(text, "nothing: ");
}

static const struct column step_columns[] = {
        { .title = "action", .key = "action" },
        { .title = "by", .key = "by" },
        { .title = "seconds", .key = "deadline", .right = true, .format = COLUMN_NUMBER },
        { .title = "text", .key = "text", .wrap = true },
        {},
};

const struct section plan_view[] = {
        { .list = "plan", .heading = "Nothing was done. tdid would do this:", .hidden = "functions" },
        { .list = "plan", .nested = "functions", .heading = "For each function, in this order" },
        {},
};

static const struct column stream_columns[] = {
        { .title = "name", .key = "name" },
        { .title = "id", .key = "id", .right = true },
        { .title = "function", .key = "function" },
        { .title = "function_state", .key = "function_state" },
        { .title = "port", .key = "port" },
        { .title = "port_state", .key = "port_state" },
        { .title = "secure", .key = "secure" },
        {},
};

const struct section inner_tables[] = {
        { .list = "ide", .columns = stream_columns },
        { .list = "streams", .columns = stream_columns },
        { .list = "steps", .columns = step_columns, .shown = is_worth_telling },
        {},
};
