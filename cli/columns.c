/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the lists show, as data. */
#include "model.h"
#include "print.h"

static const struct column device_columns[] = {
        { .title = "BDF", .key = "bdf" },
        { .title = "CLASS", .key = "class_name" },
        { .title = "NAME", .key = "name", .wrap = true },
        { .title = "DRIVER", .key = "driver" },
        { .title = "GROUP", .key = "iommu_group", .right = true },
        { .title = "TEE", .key = "tee" },
        { .title = "TSM", .key = "tsm" },
        { .title = "CUSTODY", .key = "custody" },
        { .title = "VM", .key = "vm" },
        { .title = "QUARANTINE", .key = "quarantine", .wrap = true },
        {},
};

static const struct column vm_columns[] = {
        { .title = "ID", .key = "id", .right = true },
        { .title = "NAME", .key = "name" },
        { .title = "PHASE", .key = "phase" },
        { .title = "PLATFORM", .key = "platform" },
        { .title = "OWNER", .key = "owner_uid", .right = true },
        { .title = "TDIS", .key = "tdis" },
        { .title = "UUID", .key = "uuid" },
        {},
};

/* TDIs stand inside their VM in a snapshot, and by themselves in what attach prints. */
static const struct column nested_tdi_columns[] = {
        { .title = "BDF", .key = "bdf" },
        { .title = "VM", .key = "^name" },
        { .title = "STATE", .key = "state" },
        { .title = "CUSTODY", .key = "custody" },
        { .title = "GUEST-RID", .key = "guest_rid", .right = true },
        { .title = "TDISP", .key = "tdisp" },
        {},
};

static const struct column tdi_columns[] = {
        { .title = "BDF", .key = "bdf" },
        { .title = "VM", .key = "vm" },
        { .title = "STATE", .key = "state" },
        { .title = "CUSTODY", .key = "custody" },
        { .title = "GUEST-RID", .key = "guest_rid", .right = true },
        { .title = "TDISP", .key = "tdisp" },
        {},
};

/* What a VMM has made of the function's vPCI socket. */
static const struct column vpci_columns[] = {
        { .title = "BDF", .key = "bdf" },
        { .title = "CONNECTED", .key = "vpci.connected" },
        { .title = "FAILED", .key = "vpci.failed" },
        { .title = "INTERRUPTS", .key = "vpci.interrupts" },
        { .title = "MAPS", .key = "vpci.dma.maps", .right = true },
        { .title = "BYTES", .key = "vpci.dma.bytes", .right = true },
        { .title = "FAILED-MAPS", .key = "vpci.dma.failed_ranges", .right = true },
        { .title = "UNBACKED", .key = "vpci.dma.unbacked.bytes", .right = true },
        { .title = "REQUESTS", .key = "vpci.requests", .right = true },
        { .title = "SLOWEST-NS", .key = "vpci.slowest_ns", .right = true },
        { .title = "EVENTS", .key = "vpci.events#", .right = true },
        { .title = "STALE", .key = "vpci.stale" },
        { .title = "SOCKET", .key = "vpci.socket" },
        {},
};

static const struct column tsm_columns[] = {
        { .title = "TSM", .key = "name" },
        { .title = "PLATFORM", .key = "platform" },
        { .title = "PARENT", .key = "parent" },
        { .title = "DEVICES", .key = "devices", .wrap = true },
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
        { .title = "OBJECTS", .key = "objects", .wrap = true },
        { .title = "STEP", .key = "step" },
        { .title = "STATE", .key = "state" },
        { .title = "STARTED", .key = "started" },
        { .title = "DEADLINE", .key = "deadline" },
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
        { .title = "MATCH", .key = "source.match", .wrap = true },
        { .title = "FILE", .key = "file" },
        { .title = "LINE", .key = "line", .right = true },
        {},
};

static bool has_vpci(json_object *tdi) {
        return json_object_is_type(json_member(tdi, "vpci"), json_type_object);
}

/* status leaves out the functions that tdid has nothing to do with. */
static bool device_matters(json_object *d) {
        const char *custody = json_string(d, "custody");

        return (custody && !streq(custody, "none")) || json_member(d, "quarantine") || json_member(d, "tsm");
}

const struct section devices_view[] = {
        { .list = "devices", .none = "No PCI functions.", .columns = device_columns },
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

const struct section vm_view[] = {
        { .list = "vms" },
        { .list = "vms", .nested = "tdis", .heading = "vPCI", .columns = vpci_columns, .shown = has_vpci },
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
        { .list = "devices", .heading = "Functions in use by tdid", .columns = device_columns, .shown = device_matters },
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
