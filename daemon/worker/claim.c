/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The claim step: a function leaves its host driver for vfio-pci, and comes back. What was there before is in the journal
 * ("driver", "override", "pm") before the first change.
 */
#include "worker/work.h"

#include <limits.h>
#include <stdio.h>
#include <unistd.h>

#define VFIO_PCI "vfio-pci"
#define GOING_PAUSE_USEC (50 * 1000)
#define GOING_TRIES 100
#define OVERRIDE_NONE "(null)" /* what driver_override shows when unset: drivers/pci/pci-sysfs.c */

static int read_driver(struct work *w, char *buf, size_t size) {
        char path[PATH_MAX];
        int r;

        r = host_read_link_name(w->host, work_path(w, path, sizeof(path), "driver"), buf, size);
        if (r == -ENOENT) {
                /* No driver, or no function? */
                r = host_read_text(w->host, work_path(w, path, sizeof(path), "vendor"), buf, size) < 0 ? -ENODEV : 0;
                buf[0] = '\0';
        }
        return r;
}

static int read_attribute(struct work *w, const char *attribute, char *buf, size_t size) {
        char path[PATH_MAX];
        ssize_t n;

        n = host_read_text(w->host, work_path(w, path, sizeof(path), attribute), buf, size);
        return n < 0 ? (int) n : 0;
}

/* The function was unplugged: nothing is left of it that could be given back. */
static bool is_gone(struct work *w) {
        char path[PATH_MAX], buf[32];

        return host_read_text(w->host, work_path(w, path, sizeof(path), "vendor"), buf, sizeof(buf)) < 0;
}

/*
 * True when the function is being unplugged, and that is why nothing could be given back: its files go one after another (device_del), the
 * last a moment after the first.
 */
static bool is_going(struct work *w, int r) {
        if (r != -ENOENT && r != -ENODEV)
                return false;
        for (unsigned i = 0; i < GOING_TRIES; i++) {
                if (is_gone(w))
                        return true;
                (void) usleep(GOING_PAUSE_USEC);
        }
        return false;
}

int claim_note_do(struct work *w) {
        char driver[128], override[128], pm[32], iommu[32], path[PATH_MAX];
        int r;

        r = read_driver(w, driver, sizeof(driver));
        if (r < 0)
                return work_fail(w, r, "is the function still plugged in?", "read the driver of %s", w->bdf);
        r = read_attribute(w, "driver_override", override, sizeof(override));
        if (r < 0)
                return work_fail(w, r, NULL, "read driver_override of %s", w->bdf);
        r = read_attribute(w, "power/control", pm, sizeof(pm));
        if (r == -ENOENT)
                pm[0] = '\0'; /* a kernel without runtime power management */
        else if (r < 0)
                return work_fail(w, r, NULL, "read power/control of %s", w->bdf);
        json_set_str(w->values, "driver", driver);
        json_set_str(w->values, "override", streq(override, OVERRIDE_NONE) ? "" : override);
        json_set_str(w->values, "pm", pm);
        /* The IOMMU that serves it; a kernel without one has no group either, which is refused before. */
        if (host_read_link_name(w->host, work_path(w, path, sizeof(path), "iommu"), iommu, sizeof(iommu)) < 0)
                iommu[0] = '\0';
        json_set_str(w->values, "iommu", iommu);
        return 0;
}

static int write_pm(struct work *w, const char *value) {
        char path[PATH_MAX], now[32];
        int r;

        r = read_attribute(w, "power/control", now, sizeof(now));
        if (r >= 0 && streq(now, value))
                return 0;
        if (r >= 0)
                r = host_write_text(w->host, work_path(w, path, sizeof(path), "power/control"), value);
        if (r < 0)
                return work_fail(w, r, NULL, "write \"%s\" to power/control of %s", value, w->bdf);
        return 0;
}

int claim_pm_do(struct work *w) {
        if (isempty(json_str_or(w->args, "pm", "")))
                return 0;
        return write_pm(w, "on");
}

int claim_pm_undo(struct work *w) {
        const char *before = json_str_or(w->args, "pm", "");
        int r;

        if (isempty(before) || is_gone(w))
                return 0;
        r = write_pm(w, before);
        return is_going(w, r) ? 0 : r;
}

int claim_pm_probe(struct work *w) {
        char now[32];
        int r;

        if (isempty(json_str_or(w->args, "pm", "")))
                return 1;
        r = read_attribute(w, "power/control", now, sizeof(now));
        return r < 0 ? r : streq(now, "on");
}

static int write_override(struct work *w, const char *value) {
        char path[PATH_MAX], now[128], line[136];
        int r;

        r = read_attribute(w, "driver_override", now, sizeof(now));
        if (r < 0)
                return work_fail(w, r, "is the function still plugged in?", "read driver_override of %s", w->bdf);
        if (streq(streq(now, OVERRIDE_NONE) ? "" : now, value))
                return 0;
        /* A line feed alone clears it. */
        snprintf(line, sizeof(line), "%s\n", value);
        r = host_write_text(w->host, work_path(w, path, sizeof(path), "driver_override"), line);
        if (r < 0)
                return work_fail(w, r, NULL, "write \"%s\" to driver_override of %s", value, w->bdf);
        return 0;
}

int claim_override_do(struct work *w) {
        return write_override(w, VFIO_PCI);
}

int claim_override_undo(struct work *w) {
        int r;

        if (is_gone(w))
                return 0;
        r = write_override(w, json_str_or(w->args, "override", ""));
        return is_going(w, r) ? 0 : r;
}

int claim_override_probe(struct work *w) {
        char now[128];
        int r;

        r = read_attribute(w, "driver_override", now, sizeof(now));
        return r < 0 ? r : streq(now, VFIO_PCI);
}

static int unbind(struct work *w, const char *driver) {
        char path[PATH_MAX], now[128];
        int r;

        snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/unbind", driver);
        r = host_write_text(w->host, path, w->bdf);
        /* ENODEV: it went away from that driver meanwhile, if it did (unbind_store). */
        if (r < 0 && (r != -ENODEV || (read_driver(w, now, sizeof(now)) >= 0 && streq(now, driver))))
                return work_fail(w, r, NULL, "unbind %s from its driver %s", w->bdf, driver);
        return 0;
}

int claim_rebind_do(struct work *w) {
        char driver[128];
        int r;

        r = read_driver(w, driver, sizeof(driver));
        if (r < 0)
                return work_fail(w, r, "is the function still plugged in?", "read the driver of %s", w->bdf);
        if (streq(driver, VFIO_PCI))
                return claim_pm_do(w);
        if (driver[0]) {
                r = unbind(w, driver);
                if (r < 0)
                        return r;
        }
        r = host_write_text(w->host, "/sys/bus/pci/drivers_probe", w->bdf);
        if (r < 0)
                return work_fail(w, r, "load vfio-pci; dmesg tells what it missed", "bind %s to vfio-pci", w->bdf);
        r = read_driver(w, driver, sizeof(driver));
        if (r < 0 || !streq(driver, VFIO_PCI))
                return work_fail(w, r < 0 ? r : -ENODEV, "load vfio-pci (modprobe vfio-pci); dmesg tells what it missed",
                                 "bind %s to vfio-pci: it is on %s", w->bdf, driver[0] ? driver : "no driver");
        /* vfio-pci allows runtime PM when it takes a function (vfio_pci_core_register_device): hold it on once more. */
        return claim_pm_do(w);
}

/* What was there before is lost: off vfio-pci, and to whatever driver the kernel picks. */
static int rebind_default(struct work *w, const char *driver) {
        int r;

        if (!streq(driver, VFIO_PCI))
                return 0;
        r = unbind(w, driver);
        if (r < 0)
                return r;
        r = host_write_text(w->host, "/sys/bus/pci/drivers_probe", w->bdf);
        return r < 0 && r != -EINVAL ? work_fail(w, r, NULL, "probe drivers for %s", w->bdf) : 0;
}

/*
 * Somebody else takes it from vfio-pci: the link to its driver goes at once (driver_sysfs_remove), while the driver's remove may sleep until nobody has
 * the node open. The function is not given back before that has ended; this write waits for the same lock (device_driver_detach).
 */
static int wait_unbound(struct work *w) {
        char path[PATH_MAX];
        int r;

        snprintf(path, sizeof(path), "/sys/bus/pci/drivers/" VFIO_PCI "/unbind");
        r = host_write_text(w->host, path, w->bdf);
        return r == -ENODEV || r == -ENOENT ? 0 : r < 0 ? work_fail(w, r, NULL, "wait until %s is off vfio-pci", w->bdf) : 0;
}

/*
 * Command and status have bits that are never ones (PCI 3.0, 6.2.2), as pci_dev_wait() looks at them. Not the ids: those of a VF are all ones by
 * definition (PCIe 6, 9.3.4.1.1).
 */
static int answers(struct work *w) {
        uint8_t command[4];
        char path[PATH_MAX];
        ssize_t n;
        int fd;

        fd = host_open(w->host, work_path(w, path, sizeof(path), "config"), O_RDONLY);
        if (fd < 0)
                return fd;
        n = host_pread(w->host, fd, command, sizeof(command), 4);
        (void) host_close(w->host, fd);
        if (n < 0)
                return (int) n;
        return n == (ssize_t) sizeof(command) && memcmp(command, "\xff\xff\xff\xff", sizeof(command)) != 0 ? 0 : -EIO;
}

/*
 * What was quarantined is given to nobody who does not know what state it is in: it is reset once more, where it has a reset (the one of the last close tells
 * nobody how it went), and has to answer. With a driver of the host's on it, it is not for us to reset.
 */
static int make_sure(struct work *w) {
        static const char hint[] = "it stays quarantined; look at it, then: tdictl device restore, with --force to give it back as it is";
        char path[PATH_MAX];
        int r;

        if (!json_bool_or(w->args, "doubted", false) || json_bool_or(w->args, "forced", false))
                return 0;
        r = host_write_text(w->host, work_path(w, path, sizeof(path), "reset"), "1");
        if (r < 0 && r != -ENOENT)
                return work_fail(w, r, hint, "reset %s", w->bdf);
        r = answers(w);
        if (r < 0)
                return work_fail(w, r, hint, "read the command register of %s: it does not answer", w->bdf);
        return 0;
}

/*
 * Undo runs before that of claim.override, but the old driver cannot match while the override still says vfio-pci. So the
 * override goes back here, and claim.override's own undo then finds its work done.
 *
 * The unbind sleeps for as long as anybody else has the VFIO node open (vfio_unregister_group_dev).
 */
int claim_rebind_undo(struct work *w) {
        const char *before = json_str_or(w->args, "driver", "");
        char driver[128], path[PATH_MAX];
        int r;

        r = read_driver(w, driver, sizeof(driver));
        if (r == -ENODEV)
                return 0;
        if (r < 0)
                return work_fail(w, r, NULL, "read the driver of %s", w->bdf);
        if (!driver[0]) {
                r = wait_unbound(w);
                if (r < 0)
                        return r;
        }
        if (!driver[0] || streq(driver, VFIO_PCI)) {
                r = make_sure(w);
                if (r < 0)
                        return is_going(w, r) || is_gone(w) ? 0 : r;
        }
        r = write_override(w, json_str_or(w->args, "override", ""));
        if (r < 0)
                return is_going(w, r) ? 0 : r;
        if (json_bool_or(w->args, "unknown", false))
                return rebind_default(w, driver);
        if (streq(driver, before))
                return 0;
        if (driver[0] && !streq(driver, VFIO_PCI))
                return work_fail(w, -EBUSY, "somebody gave it another driver meanwhile: take it off that, then: tdictl device restore",
                                 "give %s back to its driver %s: it is on %s", w->bdf, *before ? before : "(none)", driver);
        if (driver[0]) {
                r = unbind(w, driver);
                if (r < 0)
                        return r;
        }
        if (isempty(before))
                return 0;
        snprintf(path, sizeof(path), "/sys/bus/pci/drivers/%s/bind", before);
        r = host_write_text(w->host, path, w->bdf);
        /* The driver's own probe may have won the race, which is as good. */
        if (read_driver(w, driver, sizeof(driver)) >= 0 && streq(driver, before))
                return 0;
        r = work_fail(w, r < 0 ? r : -ENODEV, "load the driver or look into dmesg, then: tdictl device restore", "give %s back to its driver %s",
                      w->bdf, before);
        return is_going(w, r) ? 0 : r;
}

int claim_rebind_probe(struct work *w) {
        char driver[128];
        int r;

        r = read_driver(w, driver, sizeof(driver));
        return r < 0 ? r : streq(driver, VFIO_PCI);
}
