/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tdid itself: its policy, as whoever asks has read it, and what of it is installed. */
#include <limits.h>
#include <stdio.h>

#include "check/internal.h"

static const char *const policy_remedies[] = {
        "Correct the file; 'tdictl policy check /etc/tdid/policy.d' tells all that is wrong with it.",
        NULL,
};

static void check_policy(struct check *c) {
        struct json_object *p = c->in->policy, *files;
        const char *error = json_str_or(p, "error", NULL);
        uint64_t rules = json_u64_or(p, "rules", 0);
        size_t n = p && json_get_array(p, "files", &files) >= 0 ? json_object_array_length(files) : 0;

        if (!p)
                check_say(c, CHECK_SKIP, NULL, "was not looked at");
        else if (json_bool_or(p, "denied", false))
                check_skip_denied(c, "reading the policy");
        else if (error)
                check_say(c, CHECK_FAIL, policy_remedies[0], "%s: %s", json_bool_or(p, "loaded", false) ? "the files are not taken, an older policy is in force" : "nothing is allowed", error);
        else if (rules == 0)
                check_say(c, CHECK_PASS, NULL, "no rules: functions go to VMs that root owns, and to no others");
        else
                check_say(c, CHECK_PASS, NULL, "%llu rule%s of %zu file%s", (unsigned long long) rules, rules == 1 ? "" : "s", n, n == 1 ? "" : "s");
}

static const char *const unit_remedies[] = {
        "Install tdid (package tdid, or 'meson install'), and run 'systemctl daemon-reload'.",
        NULL,
};

static bool exists(TdiHost *host, const char *path) {
        int fd = host_open(host, path, O_RDONLY);

        if (fd >= 0)
                (void) host_close(host, fd);
        return fd >= 0 || is_denied(fd);
}

static bool has_unit(TdiHost *host) {
        static const char *const dirs[] = { "/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system" };
        char path[PATH_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
                snprintf(path, sizeof(path), "%s/tdid.service", dirs[i]);
                if (exists(host, path))
                        return true;
        }
        return false;
}

static void check_units(struct check *c) {
        _cleanup_(host_names_freep) char **names = NULL;
        const char *missing = NULL;

        /* sd_booted() */
        if (host_list(c->host, "/run/systemd/system", &names) < 0) {
                check_say(c, CHECK_SKIP, NULL, "this host does not run systemd: tdid is started by other means");
                return;
        }
        if (!has_unit(c->host))
                missing = "tdid.service";
        else if (!exists(c->host, "/usr/share/dbus-1/system.d/org.tdid1.conf") && !exists(c->host, "/etc/dbus-1/system.d/org.tdid1.conf"))
                missing = "org.tdid1.conf of D-Bus, without which tdid may not have its name";
        else if (!exists(c->host, "/usr/share/polkit-1/actions/org.tdid1.policy"))
                missing = "org.tdid1.policy of polkit, without which only root may do anything";
        if (missing)
                check_say(c, CHECK_WARN, unit_remedies[0], "there is no %s", missing);
        else
                check_say(c, CHECK_PASS, NULL, "unit, D-Bus policy and polkit actions are installed");
}

const struct check_spec tdid_checks[] = {
        { "tdid.policy", "tdid", "Policy", "Whether the policy is one that tdid takes, and how many rules it has.", check_policy, policy_remedies },
        { "tdid.units", "tdid", "Installation", "Whether tdid's unit, its D-Bus policy and its polkit actions are where they belong, on a host that runs systemd.", check_units, unit_remedies },
        {},
};
