/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The table of verbs and the help made from it. The man page says the same, and a test compares them. */
#include <stdio.h>

#include "complete.h"
#include "model.h"
#include "select.h"
#include "text.h"

#define BIND_OPTION(what) \
        { .name = "bind", .type = OPTION_CHOICE, .value = "early|late", .choices = "early|late", .help = what }

/* Those of tdid's table, each with its further names. */
#define PLATFORMS "auto|tdx|tdx-connect|sev-snp|sev-tio|snp|cca|arm-cca|rme-da|pkvm|protected-kvm|plain"

#define VM_OPTIONS(bind_help) \
        { .name = "uuid", .type = OPTION_UUID, .value = "UUID", .help = "the VM's UUID, for who may choose it" }, \
        { .name = "owner", .type = OPTION_NUMBER, .value = "UID", .max = UINT32_MAX - 1, .help = "whose VM it is; to name another needs a permission" }, \
        { .name = "vmm-uid", .type = OPTION_NUMBER, .value = "UID", .max = UINT32_MAX - 1, .help = "the user that the VMM runs as" }, \
        { .name = "vmm-gid", .type = OPTION_NUMBER, .value = "GID", .max = UINT32_MAX - 1, .help = "the group that the VMM runs as" }, \
        { .name = "seclabel", .type = OPTION_TEXT, .value = "LABEL", .help = "the security label that the VMM must have" }, \
        { .name = "platform", .type = OPTION_CHOICE, .value = "PLATFORM", .choices = PLATFORMS, \
          .help = "auto (the default), tdx, sev-snp, cca, pkvm or plain, or another name of it" }, \
        { .name = "hotplug", .help = "functions may be attached after the seal" }, \
        { .name = "peer-to-peer", .help = "functions may reach each other's BARs, where tdid.conf and ACS allow it" }, \
        BIND_OPTION(bind_help), \
        { .name = "await-vmm", .type = OPTION_NUMBER, .value = "SECONDS", .max = 600, \
          .help = "how long the VM lives without a keeper until its VMM arrives, at most 600" }

#define DRY_RUN_OPTION { .name = "dry-run", .help = "do nothing, and print what tdid would do" }

static const struct option_spec dry_options[] = {
        DRY_RUN_OPTION,
        {},
};

static const struct option_spec create_options[] = {
        VM_OPTIONS("when functions are bound, where attach says nothing else"),
        { .name = "hold", .help = "run COMMAND with the VM's lease, and end as it ends" },
        { .name = "no-inherit", .help = "with --hold: tdictl keeps the lease, COMMAND does not get it" },
        DRY_RUN_OPTION,
        {},
};

static const struct option_spec list_options[] = {
        { .name = "vm", .type = OPTION_TEXT, .value = "VM", .help = "those of this VM" },
        { .name = "driver", .type = OPTION_TEXT, .value = "DRIVER", .help = "those that this driver of the host has" },
        { .name = "state", .type = OPTION_CHOICE, .value = "STATE", .choices = "free|used|quarantined|gone", .help = "free, used (tdid has it), quarantined or gone" },
        { .name = "tee-io", .help = "those that are capable of TEE-IO" },
        {},
};

static const struct option_spec destroy_options[] = {
        { .name = "abandon", .help = "do not wait for stuck functions; they stay quarantined" },
        DRY_RUN_OPTION,
        {},
};

static const struct option_spec restore_options[] = {
        { .name = "force", .help = "also what cannot be reset, or does not answer" },
        DRY_RUN_OPTION,
        {},
};

static const struct option_spec connect_options[] = {
        { .name = "tsm", .type = OPTION_TEXT, .value = "TSM", .help = "the TSM to connect to, where there are several" },
        DRY_RUN_OPTION,
        {},
};

#define FUNCTION_OPTIONS \
        { .name = "guest-rid", .type = OPTION_NUMBER, .value = "N", .max = 65535, .repeat = true, \
          .help = "the requester id in the guest; with several functions once for each, in their order" }, \
        { .name = "force", .help = "take functions although the host uses them" }, \
        { .name = "no-connect", .help = "leave TSM connections alone" }, \
        { .name = "vf-token", .type = OPTION_UUID, .value = "UUID", .repeat = true, \
          .help = "the token that a VF's PF wants; once for all, or once for each function in their order" }

static const struct option_spec attach_options[] = {
        FUNCTION_OPTIONS,
        BIND_OPTION("when the functions are bound to the VM"),
        DRY_RUN_OPTION,
        {},
};

static const struct option_spec run_options[] = {
        { .name = "device", .type = OPTION_TEXT, .value = "BDF", .repeat = true, .help = "a function to attach; once for each" },
        { .name = "name", .type = OPTION_TEXT, .value = "NAME", .help = "the VM's name; run- and a number, when not given" },
        VM_OPTIONS("when the functions are bound to the VM"),
        FUNCTION_OPTIONS,
        { .name = "no-inherit", .help = "tdictl keeps the lease, COMMAND does not get it" },
        DRY_RUN_OPTION,
        {},
};

static const struct option_spec export_options[] = {
        { .name = "importer", .type = OPTION_CHOICE, .value = "IMPORTER", .choices = "kvm|iommufd|rdma|gpu|any", .help = "kvm, iommufd, rdma, gpu or any: who will import it" },
        { .name = "accept", .type = OPTION_TEXT, .value = "CLASSES", .help = "pinned, revocable, dynamic, with commas between: what it takes" },
        {},
};

static const struct option_spec evidence_options[] = {
        { .name = "verify", .help = "verify it with the anchors and reference values of the policy" },
        { .name = "raw", .type = OPTION_TEXT, .value = "DIR", .help = "write the objects there as they are, and the certificates as PEM and DER" },
        { .name = "nonce", .type = OPTION_TEXT, .value = "HEX", .help = "32 bytes for the measurements' signature; a random one when not given" },
        { .name = "archived", .help = "the newest that the archive has, without asking the device" },
        {},
};

#define POLICY_OPTION \
        { .name = "policy", .type = OPTION_TEXT, .value = "DIR", .repeat = true, \
          .help = "a folder of policies instead of the host's; of several the last comes first" }

/* What tdid would say of a device, for where it does not run or does not say it. */
#define DEVICE_OPTIONS \
        { .name = "id", .type = OPTION_TEXT, .value = "VENDOR:DEVICE", .help = "the function's ids; with them tdid is not asked" }, \
        { .name = "class", .type = OPTION_TEXT, .value = "CLASS", .help = "its class, six hex digits" }, \
        { .name = "subsystem", .type = OPTION_TEXT, .value = "VENDOR:DEVICE", .help = "its subsystem" }, \
        { .name = "serial", .type = OPTION_TEXT, .value = "SERIAL", .help = "its Device Serial Number, as lspci writes it" }, \
        { .name = "path", .type = OPTION_TEXT, .value = "BDF", .repeat = true, .help = "a bridge above it; once for each" }, \
        { .name = "tee-io", .help = "it is capable of TEE-IO" }, \
        { .name = "sriov", .type = OPTION_CHOICE, .value = "ROLE", .choices = "none|pf|vf", .help = "none, pf or vf" }, \
        { .name = "evidence", .type = OPTION_TEXT, .value = "ANCHOR[,REFERENCES]", .repeat = true, \
          .help = "take it for proven by signed evidence of this moment" }

static const struct option_spec show_policy_options[] = {
        POLICY_OPTION,
        {},
};

static const struct option_spec explain_options[] = {
        { .name = "files", .help = "judge by the files of policies as they are now; tdid's policy is not asked" },
        POLICY_OPTION,
        { .name = "verify", .help = "ask the device for its evidence first, and judge by what that proves" },
        { .name = "device", .type = OPTION_TEXT, .value = "BDF", .help = "the function; without it the question is about the VM alone" },
        { .name = "vm", .type = OPTION_TEXT, .value = "NAME", .help = "the VM's name" },
        { .name = "owner", .type = OPTION_NUMBER, .value = "UID", .max = UINT32_MAX - 1, .help = "whose VM it is; the caller's, when not given" },
        { .name = "platform", .type = OPTION_CHOICE, .value = "PLATFORM", .choices = "tdx|sev-snp|cca|pkvm|plain",
          .help = "tdx, sev-snp, cca, pkvm or plain" },
        { .name = "mode", .type = OPTION_CHOICE, .value = "MODE", .choices = "early|late", .help = "early or late: before or after the seal" },
        { .name = "access", .type = OPTION_CHOICE, .value = "ACCESS", .choices = "vpci|handoff", .help = "vpci or handoff" },
        { .name = "ide", .type = OPTION_CHOICE, .value = "IDE", .choices = "secure|insecure", .help = "secure or insecure: the link; as it is, when not given" },
        { .name = "association", .help = "the VMM wants KVM associated with the function" },
        DEVICE_OPTIONS,
        {},
};

static const struct option_spec suggest_options[] = {
        { .name = "vm", .type = OPTION_TEXT, .value = "NAME", .help = "for VMs of this name or pattern only" },
        { .name = "owner", .type = OPTION_NUMBER, .value = "UID", .max = UINT32_MAX - 1, .help = "for VMs of this owner only" },
        { .name = "digest", .type = OPTION_TEXT, .value = "DIGEST", .help = "of the evidence, which the description is to name" },
        { .name = "no-evidence", .help = "do not ask the device for its evidence" },
        DEVICE_OPTIONS,
        {},
};

static const struct option_spec output_options[] = {
        { .name = "output", .type = OPTION_TEXT, .value = "FILE", .help = "write this file, as a whole, instead of standard output" },
        {},
};

static const struct option_spec check_options[] = {
        { .name = "device", .type = OPTION_TEXT, .value = "BDF", .repeat = true, .help = "look at this function only, asleep or not; once for each" },
        { .name = "local", .help = "do not ask tdid" },
        { .name = "host", .type = OPTION_TEXT, .value = "HOST", .help = "linux, or sim:SOCKET: the kernel that a tdi-sim simulates" },
        POLICY_OPTION,
        { .name = "list", .help = "list the checks, and what each may advise" },
        {},
};

#define BDF_HELP "A BDF is written 0000:01:00.0, 01:00.0 or pci_0000_01_00_0, or VENDOR:DEVICE where one function has these ids."
#define BDFS_HELP "A BDF is written 0000:01:00.0, 01:00.0 or pci_0000_01_00_0; VENDOR:DEVICE stands for all functions that have these ids."

/* The first is the default. */
const struct verb verbs[] = {
        { "status", "", "show VMs, attached functions, TSMs and jobs (the default)", NULL, 0, 0, false, NULL, verb_status },
        { "check", "", "tell what this host can do, and what is in the way",
          "Changes nothing. tdid is asked when it runs; without it, or with --device, --host or --policy, tdictl looks itself, and skips what this user may not\n"
          "see. Ends with 6 when something fails, without which no function can be assigned. " BDF_HELP, 0, 0, false, check_options, verb_check },
        { "tsm list", "", "list the platform's security managers", NULL, 0, 0, false, NULL, verb_tsm_list },
        { "tsm show", "[TSM…]", "explain the platform: what this host is, by what, what is lacking; and TSMs",
          "Without a TSM it shows all of them.", 0, ANY_NUMBER, false, NULL, verb_tsm_show },
        { "device list", "[BDF…]", "list PCI functions", BDFS_HELP, 0, ANY_NUMBER, false, list_options, verb_device_list, .many = true },
        { "device show", "BDF…", "show all about PCI functions", BDFS_HELP, 1, ANY_NUMBER, false, NULL, verb_device_show, .many = true },
        { "device connect", "BDF…", "connect functions to a TSM", BDF_HELP, 1, ANY_NUMBER, false, connect_options, verb_device_connect },
        { "device disconnect", "BDF…", "disconnect functions from their TSM", BDF_HELP, 1, ANY_NUMBER, false, dry_options, verb_device_disconnect },
        { "device restore", "BDF…", "try again to give back quarantined functions", BDF_HELP, 1, ANY_NUMBER, false, restore_options, verb_device_restore },
        { "device evidence", "BDF", "ask a device for what it says of itself, and what that proves",
          BDF_HELP "\nExits with 4 where --verify finds something wrong with all that the policy knows of.", 1, 1, false, evidence_options, verb_device_evidence },
        { "vm create", "NAME", "create a VM",
          "A VM lives while something keeps it: give --hold, --await-vmm, or both. COMMAND finds the VM's id, name and UUID in\n"
          "TDID_VM, TDID_VM_NAME and TDID_VM_UUID, and the number of its lease descriptor in TDID_LEASE_FD.",
          1, 1, true, create_options, verb_vm_create },
        { "vm list", "", "list VMs", NULL, 0, 0, false, NULL, verb_vm_list },
        { "vm show", "VM", "show all about a VM, to root and its owner", "A VM is named by name, UUID or id.", 1, 1, false, NULL, verb_vm_show },
        { "vm seal", "VM", "end early attachment: the guest may start", "A VM is named by name, UUID or id.", 1, 1, false, dry_options, verb_vm_seal },
        { "vm destroy", "VM", "close a VM and give its functions back", "A VM is named by name, UUID or id.", 1, 1, false, destroy_options,
          verb_vm_destroy },
        { "attach", "VM BDF…", "attach functions to a VM, all or none",
          BDF_HELP "\nAll functions of an IOMMU group have to be attached together. Ctrl-C cancels and undoes; a second one leaves it to tdid.",
          2, ANY_NUMBER, false, attach_options, verb_attach },
        { "detach", "BDF…", "take functions from their VM and give them back", BDF_HELP, 1, ANY_NUMBER, false, dry_options, verb_detach },
        { "run", "", "run a VMM with functions: a VM that lives as long as it",
          "Creates a VM, attaches the functions, seals the VM and runs COMMAND, in whose words this stands for what it needs:\n"
          "  @socket:BDF@  the path of the function's vPCI socket (vfio-user)\n"
          "  @vfio:BDF@    the number of an open descriptor, the function's VFIO device (handoff)\n"
          "  @iommufd@     the number of an open descriptor, the VM's iommufd, for those devices\n"
          "  @@            an @\n"
          "COMMAND's environment is that of 'vm create --hold'. " BDF_HELP,
          0, 0, true, run_options, verb_run, .needs_command = true },
        { "bind", "BDF…", "bind attached functions to their VM", BDF_HELP, 1, ANY_NUMBER, false, dry_options, verb_bind },
        { "unbind", "BDF…", "undo bind", BDF_HELP, 1, ANY_NUMBER, false, dry_options, verb_unbind },
        { "dmabuf export", "BDF BAR OFFSET SIZE", "run a command with a dma-buf of a range of a BAR",
          BDF_HELP "\nOFFSET and SIZE are bytes, whole pages; 4K, 16M and the like are understood. @dmabuf@ and @event@ in COMMAND's arguments\n"
          "become the numbers of its descriptors, which are in TDID_DMABUF_FD and TDID_DMABUF_EVENT_FD too.",
          4, 4, true, export_options, verb_dmabuf_export },
        { "dmabuf list", "", "list the dma-bufs that tdid gave out, of the VMs of the caller", NULL, 0, 0, false, NULL, verb_dmabuf_list },
        { "policy check", "PATH…", "look for what is wrong with policies: files, or folders of them",
          "Ends with 0 when nothing is wrong, with 1 when tdid would take them and something looks wrong, with 2 when it would not.", 1, ANY_NUMBER, false,
          NULL, verb_policy_check },
        { "policy show", "", "show the rules in effect, and where they come from", NULL, 0, 0, false, show_policy_options, verb_policy_show },
        { "policy explain", "", "tell what the policy says, which rule decides, what came close, what is missing",
          "tdid is asked: its policy in force, and the function as it is. With --files or --policy, with options that say what the function is, and where\n"
          "tdid does not run, files of policies are read as they are now. " BDF_HELP, 0, 0, false, explain_options, verb_policy_explain },
        { "policy suggest", "BDF", "print a policy with a rule that allows this function and no other",
          "It requires what the device's evidence proves, where it has some that the policy in force knows an anchor of. " BDF_HELP, 1, 1, false, suggest_options,
          verb_policy_suggest },
        { "monitor", "", "print what happens as it happens", NULL, 0, 0, false, NULL, verb_monitor },
        { "metrics", "", "print what tdid counts, as OpenMetrics", NULL, 0, 0, false, output_options, verb_metrics },
        { "nfd", "", "print what this host has, as features for Node Feature Discovery", NULL, 0, 0, false, output_options, verb_nfd },
        { "cdi", "", "print the vPCI sockets of VMs, as a spec of the Container Device Interface",
          "Without any there is no spec: it ends as NotFound or, with --output, removes FILE.", 0, 0, false, output_options, verb_cdi },
        { "completion", "SHELL", "print a completion script for bash or zsh",
          "Sourced by the shell, or put where it looks for such scripts, it completes verbs, options, and the names of functions, VMs and TSMs of a tdid that runs.\n"
          "With 'words -- WORD…' in the place of SHELL it prints what may stand for the last of the words.", 1, 1, true, NULL, verb_completion },
        {},
};

/* A line of help: what is on the left, and beside it what that is, within the width of a terminal. */
static void print_line(const char *left, size_t width, const char *text) {
        _cleanup_free_ char *wrapped = text_wrap(text, TEXT_WIDTH, width + 3, width + 3, false);
        size_t columns = text_columns(left);

        if (columns > width)
                printf("  %s\n  %*s %s\n", left, (int) width, "", wrapped ?: text);
        else
                printf("  %s%*s %s\n", left, (int) (width - columns), "", wrapped ?: text);
}

static void print_paragraphs(const char *text) {
        while (*text) {
                size_t n = strcspn(text, "\n");
                _cleanup_free_ char *line = strndup(text, n), *wrapped = NULL;

                /* What is indented is a list, whose second column begins there. */
                wrapped = line ? text_wrap(line, TEXT_WIDTH, 0, *line == ' ' ? 16 : 0, false) : NULL;
                printf("%s\n", wrapped ?: strempty(line));
                text += n + (text[n] == '\n');
        }
}

static void print_options(const char *heading, const struct option_spec *o) {
        if (!o)
                return;
        printf("\n%s:\n", heading);
        for (; o->name; o++) {
                char left[64];

                snprintf(left, sizeof(left), "--%s%s%s", o->name, o->value ? "=" : "", strempty(o->value));
                print_line(left, 22, o->help);
        }
}

static void print_usage(const struct verb *v) {
        printf("tdictl %s%s%s%s%s\n", v->name, v->options ? " [OPTION…]" : "", *v->usage ? " " : "", v->usage,
               v->needs_command ? " -- COMMAND [ARGUMENT…]" : v->command ? " [-- COMMAND [ARGUMENT…]]" : "");
}

static bool is_of_group(const struct verb *v, const char *group) {
        return !group || (startswith(v->name, group) && v->name[strlen(group)] == ' ');
}

void print_help(const char *group) {
        printf("tdictl [--json] [--bus=BUS] VERB …\n\nLook at and control confidential device assignment.\n\n%s verbs:\n", group ? group : "The");
        for (const struct verb *v = verbs; v->name; v++) {
                char left[64];

                if (!is_of_group(v, group))
                        continue;
                snprintf(left, sizeof(left), "%s%s%s%s", v->name, *v->usage ? " " : "", v->usage, v->needs_command ? " -- COMMAND…" : "");
                print_line(left, 26, v->summary);
        }
        print_options("Options", global_options);
        printf("\n'tdictl VERB --help' tells more. Exit codes are in tdictl(1).\n");
}

void print_verb_help(const struct verb *v) {
        print_usage(v);
        printf("\n%c%s.\n", v->summary[0] >= 'a' && v->summary[0] <= 'z' ? v->summary[0] - 'a' + 'A' : v->summary[0], v->summary + 1);
        if (v->details)
                print_paragraphs(v->details);
        print_options("Options", v->options);
        print_options("Options of every verb", global_options);
}

/* ---- the table as JSON ---- */

/* null: complete.c does not know the word, which a test finds. */
static int put_kind(json_object *o, enum completes kind) {
        const char *text = completes_to_string(kind);

        if (!text)
                return json_object_object_add(o, "completes", NULL) < 0 ? -ENOMEM : 0;
        return json_put_string(o, "completes", text);
}

static int put_options(json_object *o, const struct option_spec *table) {
        json_object *list = json_object_new_array();
        int r = json_put(o, "options", list);

        for (; r >= 0 && table && table->name; table++) {
                json_object *one = json_object_new_object();

                if (!one || json_object_array_add(list, one) < 0)
                        return -ENOMEM;
                if ((r = json_put_string(one, "name", table->name)) < 0 || (r = put_kind(one, completes_option(table))) < 0 ||
                    (table->value && (r = json_put_string(one, "value", table->value)) < 0))
                        break;
                r = json_put_string(one, "help", table->help);
        }
        return r;
}

static int put_verb(json_object *list, const struct verb *v) {
        json_object *o = json_object_new_object(), *arguments = json_object_new_array();
        const char *token;
        size_t length;
        int r;

        if (!o || json_object_array_add(list, o) < 0 || json_put_string(o, "name", v->name) < 0 || json_put_string(o, "usage", v->usage) < 0 ||
            json_put_string(o, "summary", v->summary) < 0 || json_put(o, "command", json_object_new_boolean(v->command)) < 0) {
                json_object_put(arguments);
                return -ENOMEM;
        }
        r = json_put(o, "arguments", arguments);
        for (size_t i = 0; r >= 0 && (token = usage_token(v, i, &length)); i++) {
                json_object *one = json_object_new_object();

                if (!one || json_object_array_add(arguments, one) < 0)
                        return -ENOMEM;
                r = json_put(one, "name", json_object_new_string_len(token, (int) length));
                if (r >= 0)
                        r = put_kind(one, completes_token(token, length));
                /* The last of those that repeat stands for all of them. */
                if (startswith(token + length, "…"))
                        break;
        }
        return r < 0 ? r : put_options(o, v->options);
}

int print_help_json(struct tdictl *t, const char *group, const struct verb *verb) {
        json_object *model = json_object_new_object(), *help = json_object_new_object(), *list = json_object_new_array();
        int r = -ENOMEM;

        if (model && help && list && json_put_string(model, "schema", TDICTL_SCHEMA) >= 0 && json_object_object_add(help, "verbs", list) >= 0 &&
            json_object_object_add(model, "help", help) >= 0)
                r = 0;
        for (const struct verb *v = verbs; r >= 0 && v->name; v++)
                if (verb ? v == verb : is_of_group(v, group))
                        r = put_verb(list, v);
        if (r >= 0)
                r = put_options(help, global_options);
        if (r >= 0)
                puts(json_text(model));
        json_object_put(model);
        return r < 0 ? fail_oom(t) : 0;
}
