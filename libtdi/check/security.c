/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What keeps the host's other programs from a function's memory: lockdown, /dev/mem, the guard's BPF; and what such things take from tdid. */
#include <stdio.h>

#include "check/internal.h"
#include "model/recognise.h"

/* "[none] integrity confidentiality"; "" when it cannot be read. */
static int read_lockdown(TdiHost *host, char buf[static 32]) {
        char text[128], *open, *close;
        ssize_t n = host_read_text(host, "/sys/kernel/security/lockdown", text, sizeof(text));

        *buf = '\0';
        if (n < 0)
                return (int) n;
        open = strchr(text, '[');
        close = open ? strchr(open, ']') : NULL;
        if (!close)
                return -EBADMSG;
        snprintf(buf, 32, "%.*s", (int) (close - open - 1), open + 1);
        return 0;
}

static const char *const lockdown_remedies[] = {
        "Boot without lockdown= (secure boot may turn it on, too), where evidence is wanted of functions that no TSM connects.",
        "Boot with lockdown=integrity, or without: the guard cannot do its work like this.",
        NULL,
};

/* Writes to config space are LOCKDOWN_PCI_ACCESS (integrity); what BPF may read of the kernel is LOCKDOWN_BPF_READ_KERNEL (confidentiality). */
static void check_lockdown(struct check *c) {
        char mode[32], lsm[512];
        int r = read_lockdown(c->host, mode);

        if (is_denied(r))
                check_skip_denied(c, "reading /sys/kernel/security/lockdown");
        else if (r < 0 && host_read_text(c->host, "/sys/kernel/security/lsm", lsm, sizeof(lsm)) >= 0)
                check_say(c, CHECK_PASS, NULL, "this kernel has none");
        else if (r < 0)
                check_say(c, CHECK_SKIP, NULL, "securityfs does not show it (%s)", check_error(r));
        else if (streq(mode, "none"))
                check_say(c, CHECK_PASS, NULL, "off");
        else if (streq(mode, "integrity"))
                check_say(c, CHECK_WARN, lockdown_remedies[0], "integrity: nobody writes to config space, so no evidence comes from a function's mailbox");
        else
                check_say(c, CHECK_WARN, lockdown_remedies[1], "%s: nor may the guard's programs read the kernel", mode);
}

static const char *const devmem_remedies[] = {
        "Take iomem=relaxed from the kernel's command line.",
        "Have tdid's guard keep them out (see Guard), or use a kernel with CONFIG_IO_STRICT_DEVMEM.",
        NULL,
};

static void check_devmem(struct check *c) {
        char value[32], mode[32];

        if (kernel_parameter(json_str_or(c->facts->host, "cmdline", ""), "iomem", value, sizeof(value)) && streq(value, "relaxed"))
                check_say(c, CHECK_WARN, devmem_remedies[0], "iomem=relaxed: root maps the BARs of assigned functions through /dev/mem");
        else if (read_lockdown(c->host, mode) >= 0 && !streq(mode, "none"))
                check_say(c, CHECK_PASS, NULL, "lockdown keeps everybody from /dev/mem and from BARs in sysfs");
        else if (check_option(c->facts, "DEVMEM") == OPTION_UNKNOWN)
                check_say(c, CHECK_SKIP, NULL, "no configuration to read CONFIG_IO_STRICT_DEVMEM from");
        else if (check_option(c->facts, "IO_STRICT_DEVMEM") == OPTION_ON)
                check_say(c, CHECK_PASS, NULL, "CONFIG_IO_STRICT_DEVMEM: BARs that a driver has are not to be mapped");
        else
                check_say(c, CHECK_WARN, devmem_remedies[1], "no CONFIG_IO_STRICT_DEVMEM: root maps the BARs of assigned functions in sysfs%s",
                          check_option(c->facts, "DEVMEM") == OPTION_ON ? " or through /dev/mem" : "");
}

static const char *const bpf_remedies[] = {
        "Add bpf to the list of lsm= on the kernel's command line; the kernel needs CONFIG_BPF_LSM.",
        "Use a kernel with CONFIG_DEBUG_INFO_BTF.",
        "Mount securityfs ('mount -t securityfs none /sys/kernel/security').",
        NULL,
};

static void check_bpf(struct check *c) {
        char text[512];
        ssize_t n = host_read_text(c->host, "/sys/kernel/security/lsm", text, sizeof(text));
        int fd;

        if (is_denied((int) n)) {
                check_skip_denied(c, "reading /sys/kernel/security/lsm");
                return;
        }
        if (n < 0) {
                check_say(c, CHECK_WARN, bpf_remedies[2], "whether the kernel has BPF in its list of LSMs cannot be seen (%s)", check_error((int) n));
                return;
        }
        if (!check_has_word(text, "bpf")) {
                check_say(c, CHECK_WARN, bpf_remedies[0], "the guard cannot be loaded: the LSMs are %s", text);
                return;
        }
        fd = host_open(c->host, "/sys/kernel/btf/vmlinux", O_RDONLY);
        if (fd < 0)
                check_say(c, CHECK_WARN, bpf_remedies[1], "the guard cannot be loaded: opening /sys/kernel/btf/vmlinux: %s", check_error(fd));
        else {
                (void) host_close(c->host, fd);
                check_say(c, CHECK_PASS, NULL, "the guard can be loaded");
        }
}

const struct check_spec security_checks[] = {
        { "security.lockdown", "Security", "Lockdown", "Whether the kernel is locked down, which takes from tdid, too.", check_lockdown, lockdown_remedies },
        { "security.devmem", "Security", "/dev/mem", "Whether other programs of root can map a BAR that VFIO has.", check_devmem, devmem_remedies },
        { "security.bpf", "Security", "Guard", "Whether tdid's guard, a BPF program on the hooks of the LSM, can be loaded.", check_bpf, bpf_remedies },
        {},
};
