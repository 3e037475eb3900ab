/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Other programs that want the same functions: users of VFIO, driver_override, driverctl, libvirt. What names processes and paths is a detail. */
#include <ctype.h>
#include <limits.h>
#include <stdio.h>

#include "check/internal.h"

#define JOURNAL "/run/tdid/journal"
#define XML_MAX (1UL * 1024 * 1024)

/* Has tdid this function? 1, 0, or -EACCES when this user may not see. */
static int is_own(struct check *c, const char *bdf) {
        char path[PATH_MAX], label[TDI_BDF_MAX];
        struct tdi_bdf b;
        int fd;

        if (c->in->own) {
                for (size_t i = 0; i < json_object_array_length(c->in->own); i++)
                        if (streq(json_object_get_string(json_object_array_get_idx(c->in->own, i)), bdf))
                                return 1;
                return 0;
        }
        if (tdi_bdf_parse(bdf, &b) < 0)
                return 0;
        snprintf(path, sizeof(path), JOURNAL "/%s.json", tdi_bdf_to_label(b, label));
        fd = host_open(c->host, path, O_RDONLY);
        if (fd >= 0)
                (void) host_close(c->host, fd);
        return fd >= 0 ? 1 : is_denied(fd) ? -EACCES : 0;
}

static bool is_selected(struct check *c, const char *bdf) {
        for (size_t i = 0; i < c->facts->n_functions; i++)
                if (streq(c->facts->functions[i].bdf, bdf))
                        return true;
        return false;
}

/* ---- who has VFIO open ---- */

static const char *const user_remedies[] = {
        "End what has these functions before giving them to tdid; 'tdictl attach' refuses them as long.",
        NULL,
};

/* tdid's own processes have the functions that it was given. */
static bool is_tdid(TdiHost *host, const char *pid, const char *comm) {
        static const char *const names[] = { "tdid", "tdid-vm", "tdid-worker" };
        char path[PATH_MAX], exe[256];

        snprintf(path, sizeof(path), "/proc/%s/exe", pid);
        /* A process may call itself what it likes. */
        if (host_read_link_name(host, path, exe, sizeof(exe)) < 0)
                return false;
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (streq(comm, names[i]) && strncmp(exe, names[i], strlen(names[i])) == 0 && (!exe[strlen(names[i])] || exe[strlen(names[i])] == ' '))
                        return true;
        return false;
}

/* The node of a function or a group that a descriptor is of: "vfio0" or "12"; the beginning of the path may be missing, see worker/use.c. */
static const char *vfio_node(const char *target) {
        const char *s = strstr(target, "/vfio/devices/");

        if (s)
                return s + strlen("/vfio/devices/");
        s = strstr(target, "/vfio/");
        return s && isdigit((unsigned char) s[6]) ? s + 6 : NULL;
}

/* The functions behind a node: those of a group, or the one of a character device. */
static void functions_of(struct check *c, const char *node, char *buf, size_t size, bool *ret_selected) {
        _cleanup_(host_names_freep) char **names = NULL;
        char path[PATH_MAX], name[64];
        size_t at = 0;

        *buf = '\0';
        *ret_selected = c->in->n_devices == 0;
        if (isdigit((unsigned char) *node)) {
                snprintf(path, sizeof(path), "/sys/kernel/iommu_groups/%.16s/devices", node);
                if (host_list(c->host, path, &names) < 0)
                        return;
                for (char **n = names; *n && at < size; n++) {
                        at += (size_t) snprintf(buf + at, size - at, "%s%s", at > 0 ? ", " : "", *n);
                        *ret_selected = *ret_selected || is_selected(c, *n);
                }
                return;
        }
        snprintf(path, sizeof(path), "/sys/class/vfio-dev/%.32s/device", node);
        if (host_read_link_name(c->host, path, name, sizeof(name)) < 0)
                return;
        snprintf(buf, size, "%s", name);
        *ret_selected = *ret_selected || is_selected(c, name);
}

struct users {
        size_t n;       /* descriptors of VFIO of others */
        size_t denied;  /* processes that could not be looked into */
};

static void look_at_process(struct check *c, const char *pid, struct users *u) {
        _cleanup_(host_names_freep) char **fds = NULL;
        char path[PATH_MAX], target[PATH_MAX], comm[64], seen[256] = "";
        int r;

        snprintf(path, sizeof(path), "/proc/%s/fd", pid);
        r = host_list(c->host, path, &fds);
        if (is_denied(r))
                u->denied++;
        if (r < 0)
                return;
        for (char **fd = fds; *fd; fd++) {
                char functions[256];
                const char *node;
                bool selected;

                snprintf(path, sizeof(path), "/proc/%s/fd/%s", pid, *fd);
                if (host_readlink(c->host, path, target, sizeof(target)) < 0 || !(node = vfio_node(target)) || check_has_word(seen, node))
                        continue;
                snprintf(path, sizeof(path), "/proc/%s/comm", pid);
                if (host_read_text(c->host, path, comm, sizeof(comm)) < 0)
                        snprintf(comm, sizeof(comm), "?");
                if (is_tdid(c->host, pid, comm))
                        return;
                snprintf(seen + strlen(seen), sizeof(seen) - strlen(seen), "%s ", node);
                functions_of(c, node, functions, sizeof(functions), &selected);
                if (!selected)
                        continue;
                u->n++;
                check_detail(c, "process %s (%s) has /dev/vfio/%s%s%s%s", pid, comm, isdigit((unsigned char) *node) ? "" : "devices/", node, *functions ? ": " : "", functions);
        }
}

/* Nobody can have what there is not. */
static bool has_nodes(TdiHost *host) {
        _cleanup_(host_names_freep) char **groups = NULL, **devices = NULL;
        bool found = host_list(host, "/dev/vfio/devices", &devices) >= 0 && devices[0];

        if (!found && host_list(host, "/dev/vfio", &groups) >= 0)
                for (char **g = groups; *g; g++)
                        found = found || isdigit((unsigned char) **g);
        return found;
}

static void check_users(struct check *c) {
        _cleanup_(host_names_freep) char **pids = NULL;
        struct users u = {};
        int r;

        if (!has_nodes(c->host)) {
                check_say(c, CHECK_PASS, NULL, "no function is on a VFIO driver");
                return;
        }
        r = host_list(c->host, "/proc", &pids);
        if (r < 0) {
                check_say(c, CHECK_SKIP, NULL, "listing /proc: %s", check_error(r));
                return;
        }
        for (char **p = pids; *p; p++)
                if (isdigit((unsigned char) **p))
                        look_at_process(c, *p, &u);
        if (u.n > 0)
                check_say(c, CHECK_WARN, user_remedies[0], "%zu function%s or group%s held open by a program that is not tdid", u.n, u.n == 1 ? "" : "s", u.n == 1 ? " is" : "s are");
        else if (u.denied > 0)
                check_skip_denied(c, "looking at other users' processes");
        else
                check_say(c, CHECK_PASS, NULL, "nobody but tdid has a function open through VFIO");
}

/* ---- driver_override ---- */

static const char *const override_remedies[] = {
        "Find out who set it (driverctl, libvirt, a script), and undo it there; by hand: 'echo > /sys/bus/pci/devices/BDF/driver_override'. tdid gives it back as it was.",
        NULL,
};

static void check_override(struct check *c) {
        const struct check_facts *f = c->facts;
        size_t n = 0, unknown = 0;

        for (size_t i = 0; i < f->n_functions; i++) {
                const char *bdf = f->functions[i].bdf;
                char path[PATH_MAX], text[128];
                int own;

                snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/driver_override", bdf);
                if (host_read_text(c->host, path, text, sizeof(text)) < 0 || !*text || streq(text, "(null)"))
                        continue;
                own = is_own(c, bdf);
                unknown += own < 0;
                if (own != 0)
                        continue;
                n++;
                check_say_of(c, bdf, CHECK_WARN, "driver_override is %s", text);
        }
        if (n > 0)
                check_say(c, CHECK_WARN, override_remedies[0], "%zu function%s a driver_override that tdid did not set", n, n == 1 ? " has" : "s have");
        else if (unknown > 0)
                check_skip_denied(c, "telling tdid's overrides from others'");
        else
                check_say(c, CHECK_PASS, NULL, "no function has one that tdid did not set");
}

/* ---- driverctl ---- */

static const char *const driverctl_remedies[] = {
        "Take away what tdid shall have: 'driverctl unset-override BDF'.",
        NULL,
};

static void check_driverctl(struct check *c) {
        _cleanup_(host_names_freep) char **names = NULL;
        int r = host_list(c->host, "/etc/driverctl.d", &names);
        size_t n = 0;

        if (is_denied(r)) {
                check_skip_denied(c, "listing /etc/driverctl.d");
                return;
        }
        for (char **p = names; r >= 0 && *p; p++) {
                char path[PATH_MAX], driver[64], bdf[TDI_BDF_MAX];
                struct tdi_bdf b;

                /* Of other buses there are some too. */
                if (tdi_bdf_parse(startswith(*p, "pci-") ? *p + 4 : *p, &b) < 0)
                        continue;
                tdi_bdf_format(b, bdf);
                if (c->in->n_devices > 0 && !is_selected(c, bdf))
                        continue;
                snprintf(path, sizeof(path), "/etc/driverctl.d/%s", *p);
                /* What does not fit leaves no text. */
                if (host_read_text(c->host, path, driver, sizeof(driver)) < 0)
                        snprintf(driver, sizeof(driver), "?");
                n++;
                check_say_of(c, bdf, CHECK_WARN, "driverctl gives it to %s at each boot", driver);
        }
        if (n > 0)
                check_say(c, CHECK_WARN, driverctl_remedies[0], "%zu function%s a driver of driverctl's", n, n == 1 ? " has" : "s have");
        else
                check_say(c, CHECK_PASS, NULL, "%s", r < 0 ? "not there" : "has no PCI function");
}

/* ---- libvirt ---- */

static const char *const libvirt_remedies[] = {
        "A function goes to libvirt's domain or to tdid: take its <hostdev> from the domain ('virsh edit') when tdid shall have it.",
        NULL,
};

/* The number in attribute='0x1f' within an element, whose end is @end. */
static bool attribute(const char *element, const char *end, const char *name, unsigned long *ret) {
        size_t n = strlen(name);

        for (const char *s = element; (s = strstr(s, name)) && s < end; s += n)
                if (isspace((unsigned char) s[-1]) && s[n] == '=' && (s[n + 1] == '\'' || s[n + 1] == '"')) {
                        *ret = strtoul(s + n + 2, NULL, 0);
                        return true;
                }
        return false;
}

/*
 * <hostdev … type='pci' …><source><address domain='0x0000' bus='0x01' slot='0x00' function='0x0'/></source>, and <interface type='hostdev'> with the
 * same source, as libvirt itself writes its files: one element a line and nothing left out. The guest's address stands behind </source>.
 */
static size_t look_at_domain(struct check *c, const char *path, const char *domain, const char *what) {
        _cleanup_free_ char *text = NULL;
        size_t n = 0;

        if (host_read_file(c->host, path, XML_MAX, &text, NULL) < 0)
                return 0;
        for (const char *source = text; (source = strstr(source, "<source")); source++) {
                const char *end = strstr(source, "</source>"), *next = strstr(source + 1, "<source"), *address = strstr(source, "<address "), *stop;
                unsigned long segment = 0, bus, slot, function;
                char bdf[TDI_BDF_MAX];

                stop = address ? strchr(address, '>') : NULL;
                if (!end || !stop || stop > end || (next && end > next) || !attribute(address, stop, "bus", &bus) || !attribute(address, stop, "slot", &slot) ||
                    !attribute(address, stop, "function", &function) || bus > 255 || slot > 31 || function > 7)
                        continue;
                (void) attribute(address, stop, "domain", &segment);
                tdi_bdf_format((struct tdi_bdf){ (uint16_t) segment, (uint8_t) bus, (uint8_t) (slot << 3 | function) }, bdf);
                if (c->in->n_devices > 0 && !is_selected(c, bdf))
                        continue;
                n++;
                check_say_of(c, bdf, CHECK_WARN, "is a <hostdev> of a domain %s", what);
                check_detail(c, "%s: domain %s %s (%s)", bdf, domain, what, path);
        }
        return n;
}

static void check_libvirt(struct check *c) {
        static const struct {
                const char *dir, *what;
        } dirs[] = { { "/run/libvirt/qemu", "that runs" }, { "/etc/libvirt/qemu", "that is defined" } };
        size_t n = 0, seen = 0;

        for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
                _cleanup_(host_names_freep) char **names = NULL;
                int r = host_list(c->host, dirs[i].dir, &names);

                if (is_denied(r)) {
                        check_skip_denied(c, "listing libvirt's domains");
                        return;
                }
                for (char **p = names; r >= 0 && *p; p++) {
                        size_t len = strlen(*p);
                        char path[PATH_MAX], domain[128];

                        if (len < 5 || !streq(*p + len - 4, ".xml"))
                                continue;
                        seen++;
                        snprintf(path, sizeof(path), "%s/%s", dirs[i].dir, *p);
                        snprintf(domain, sizeof(domain), "%.*s", (int) (len - 4), *p);
                        n += look_at_domain(c, path, domain, dirs[i].what);
                }
        }
        if (n > 0)
                check_say(c, CHECK_WARN, libvirt_remedies[0], "%zu <hostdev>%s in libvirt's domains", n, n == 1 ? "" : "s");
        else
                check_say(c, CHECK_PASS, NULL, "%s", seen == 0 ? "has no domains here" : "its domains have no PCI function");
}

const struct check_spec other_checks[] = {
        { "others.users", "Other tools", "VFIO users", "Who else has functions open through VFIO, by the descriptors of all processes.", check_users, user_remedies },
        { "others.override", "Other tools", "driver_override", "Which functions have a driver_override that tdid did not set.", check_override, override_remedies },
        { "others.driverctl", "Other tools", "driverctl", "Which functions driverctl gives to a driver (/etc/driverctl.d).", check_driverctl, driverctl_remedies },
        { "others.libvirt", "Other tools", "libvirt", "Which functions stand as <hostdev> in libvirt's domains.", check_libvirt, libvirt_remedies },
        {},
};
