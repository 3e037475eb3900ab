/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Functions: TEE-IO, IDE and DOE, decoded from config space. What a mailbox speaks is what the kernel has found (doe_features): to ask it here
 * would be to use it.
 */
#include <limits.h>
#include <stdio.h>

#include "check/internal.h"

/* All that is no bridge, and how much of it cannot be looked into. */
static size_t count_functions(const struct check_facts *f, size_t *ret_cut, size_t *ret_asleep) {
        size_t n = 0;

        *ret_cut = *ret_asleep = 0;
        for (size_t i = 0; i < f->n_functions; i++) {
                n += !f->functions[i].bridge;
                *ret_cut += !f->functions[i].bridge && f->functions[i].config_cut && !f->functions[i].asleep;
                *ret_asleep += !f->functions[i].bridge && f->functions[i].asleep;
        }
        return n;
}

/* Said and true when nothing can be judged. */
static bool nothing_to_see(struct check *c, size_t found) {
        size_t cut, asleep, n = count_functions(c->facts, &cut, &asleep);

        if (found > 0)
                return false;
        if (cut > 0)
                check_skip_denied(c, "reading more than 64 bytes of config space");
        else if (n == 0)
                check_say(c, CHECK_SKIP, NULL, "there are no functions to look at");
        else if (asleep > 0)
                check_say(c, CHECK_SKIP, NULL, "none of %zu functions has it; %zu of them are asleep and were left so (--device=BDF wakes one)", n, asleep);
        else
                check_say(c, CHECK_SKIP, NULL, "none of %zu function%s has it: %s assigned without", n, n == 1 ? "" : "s", n == 1 ? "it is" : "they are");
        return true;
}

static const char *asleep_too(const struct check *c, char *buf, size_t size) {
        size_t cut, asleep;

        (void) count_functions(c->facts, &cut, &asleep);
        *buf = '\0';
        if (asleep > 0)
                snprintf(buf, size, "; %zu others are asleep and were left so", asleep);
        return buf;
}

static const char *const tee_io_remedies[] = {
        "Ask the vendor for firmware with the IDE capability, or assign these functions without TEE-IO.",
        NULL,
};

static void check_tee_io(struct check *c) {
        const struct check_facts *f = c->facts;
        size_t n = 0, without = 0;
        char asleep[96];

        for (size_t i = 0; i < f->n_functions; i++) {
                const struct check_function *fn = f->functions + i;

                if (!fn->tee_io)
                        continue;
                n++;
                without += fn->ide != 0 && !fn->bridge;
                check_say_of(c, fn->bdf, fn->ide == 0 || fn->bridge ? CHECK_PASS : CHECK_WARN, "TEE-IO%s%s%s", fn->ide == 0 ? ", IDE" : ", no IDE", fn->doe ? ", DOE" : "",
                             fn->bridge ? " (a port, as the DSM of what is behind it)" : "");
        }
        if (nothing_to_see(c, n))
                return;
        asleep_too(c, asleep, sizeof(asleep));
        if (without > 0)
                check_say(c, CHECK_WARN, tee_io_remedies[0], "%zu of %zu functions with TEE-IO have no IDE: their link stays open%s", without, n, asleep);
        else
                check_say(c, CHECK_PASS, NULL, "%zu function%s can be connected to a TSM, and speak for TDIs%s", n, n == 1 ? "" : "s", asleep);
}

/* The root port above, or "" for what is on a root bus itself. "../../../devices/pci0000:00/0000:00:01.0/0000:01:00.0" */
static void root_port(struct check *c, const char *bdf, char port[static TDI_BDF_MAX]) {
        char path[PATH_MAX], target[PATH_MAX], *save = NULL;
        bool below = false;
        struct tdi_bdf b;

        *port = '\0';
        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s", bdf);
        if (host_readlink(c->host, path, target, sizeof(target)) < 0)
                return;
        for (char *s = strtok_r(target, "/", &save); s; s = strtok_r(NULL, "/", &save)) {
                if (below && !streq(s, bdf) && tdi_bdf_parse(s, &b) >= 0)
                        tdi_bdf_format(b, port);
                if (below)
                        return;
                below = startswith(s, "pci") && strchr(s, ':');
        }
}

/* 1 it has selective streams, 0 not, negative: it cannot be read. */
static int has_selective(struct check *c, const char *bdf) {
        struct ide_capability cap;
        struct check_config config;
        int r;

        r = check_config_open(c->host, bdf, &config);
        if (r < 0)
                return r;
        r = ide_find(check_config_word, &config, &cap);
        (void) host_close(c->host, config.fd);
        return r == -ENOENT ? 0 : r < 0 ? r : cap.n_selective > 0;
}

static const char *const ide_remedies[] = {
        "Put the card below a root port that has selective IDE streams, or turn IDE on in the firmware's setup.",
        NULL,
};

static void say_ide(struct check *c, const struct check_function *fn, size_t *failed) {
        const struct ide_capability *cap = &fn->ide_cap;
        char port[TDI_BDF_MAX], text[256];
        int above = 1;

        root_port(c, fn->bdf, port);
        if (*port)
                above = has_selective(c, port);
        snprintf(text, sizeof(text), "%u selective stream%s, %u of the link, %s%s%s", cap->n_selective, cap->n_selective == 1 ? "" : "s", cap->n_link, ide_algorithm(cap),
                 cap->selective_config ? ", config requests too" : "", cap->tee_limited ? ", TEE-limited" : "");
        if (cap->n_selective > 0 && above == 1)
                check_say_of(c, fn->bdf, CHECK_PASS, "%s", text);
        else {
                (*failed)++;
                check_say_of(c, fn->bdf, CHECK_WARN, "%s; %s%s", text, cap->n_selective == 0 ? "no selective stream" : above == 0 ? "no IDE at root port " : "cannot read root port ",
                             cap->n_selective == 0 ? "" : port);
        }
}

static void check_ide(struct check *c) {
        const struct check_facts *f = c->facts;
        size_t n = 0, failed = 0;
        char asleep[96];

        for (size_t i = 0; i < f->n_functions; i++)
                if (!f->functions[i].bridge && f->functions[i].ide == 0) {
                        n++;
                        say_ide(c, f->functions + i, &failed);
                }
        if (nothing_to_see(c, n))
                return;
        asleep_too(c, asleep, sizeof(asleep));
        if (failed > 0)
                check_say(c, CHECK_WARN, ide_remedies[0], "%zu of %zu functions with IDE cannot have a stream to their root port%s", failed, n, asleep);
        else
                check_say(c, CHECK_PASS, NULL, "%zu function%s, and the root port%s above, have selective streams%s", n, n == 1 ? "" : "s", n == 1 ? "" : "s", asleep);
}

static const char *const doe_remedies[] = {
        "Use a kernel with CONFIG_PCI_DOE; where it has that, ask the vendor for firmware whose mailbox speaks CMA-SPDM.",
        NULL,
};

static const char *protocol_name(const char *file) {
        static const struct {
                const char *file, *name;
        } names[] = { { "doe_discovery", NULL }, { "0001:00", NULL }, { "0001:01", "CMA-SPDM" }, { "0001:02", "secured CMA-SPDM" } };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (streq(names[i].file, file))
                        return names[i].name;
        return file;
}

static void say_doe(struct check *c, const char *bdf, size_t *silent, size_t *unknown) {
        _cleanup_(host_names_freep) char **files = NULL;
        char path[PATH_MAX], text[256] = "";
        bool spdm = false;
        size_t at = 0;
        int r;

        snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/doe_features", bdf);
        r = host_list(c->host, path, &files);
        for (char **n = files; n && *n; n++) {
                const char *name = protocol_name(*n);

                spdm = spdm || streq(*n, "0001:01");
                if (name && at < sizeof(text))
                        at += (size_t) snprintf(text + at, sizeof(text) - at, "%s%s", at > 0 ? ", " : "", name);
        }
        if (r < 0) {
                (*unknown)++;
                check_say_of(c, bdf, CHECK_SKIP, "a mailbox; the kernel does not say what it speaks");
        } else if (spdm)
                check_say_of(c, bdf, CHECK_PASS, "%s", text);
        else {
                (*silent)++;
                check_say_of(c, bdf, CHECK_WARN, "a mailbox without CMA-SPDM%s%s", *text ? ": " : "", text);
        }
}

static void check_doe(struct check *c) {
        const struct check_facts *f = c->facts;
        size_t n = 0, silent = 0, unknown = 0;

        for (size_t i = 0; i < f->n_functions; i++)
                if (f->functions[i].doe && (!f->functions[i].bridge || f->functions[i].tee_io)) {
                        n++;
                        say_doe(c, f->functions[i].bdf, &silent, &unknown);
                }
        if (nothing_to_see(c, n))
                return;
        if (silent > 0)
                check_say(c, CHECK_WARN, doe_remedies[0], "%zu of %zu mailboxes speak no CMA-SPDM: no evidence of these functions", silent, n);
        else if (unknown == n)
                check_say(c, CHECK_SKIP, NULL, "%zu function%s a mailbox, and the kernel does not say what it speaks (doe_features)", n, n == 1 ? " has" : "s have");
        else
                check_say(c, CHECK_PASS, NULL, "%zu function%s a mailbox that speaks CMA-SPDM", n - unknown, n - unknown == 1 ? " has" : "s have");
}

const struct check_spec device_checks[] = {
        { "device.tee_io", "Functions", "TEE-IO", "Which functions have bit 30 of Device Capabilities, and IDE with it.", check_tee_io, tee_io_remedies },
        { "device.ide", "Functions", "IDE", "Which streams functions with the IDE capability can have, and whether the root port above can have them too.", check_ide, ide_remedies },
        { "device.doe", "Functions", "DOE", "What the mailboxes of functions speak, as far as the kernel says it (doe_features); no mailbox is used.", check_doe, doe_remedies },
        {},
};
