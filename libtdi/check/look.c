/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What several checks want to know, read once: the kernel, the platform, every function. */
#include <limits.h>
#include <stdio.h>

#include "check/facts.h"
#include "check/internal.h"
#include "model/recognise.h"

#define PCI "/sys/bus/pci/devices/"
#define CONFIG_MAX (4UL * 1024 * 1024) /* of a kernel's configuration: some 300 KiB */
#define CPUINFO_MAX (8UL * 1024 * 1024)
#define CONFIG_SIZE 4096
#define CAP_EXP 0x10
#define EXP_DEVCAP 0x04
#define DEVCAP_TEE_IO 0x40000000u /* Device Capabilities bit 30, PCIe 6.0, 7.5.3.3 */
#define EXT_CAP_DOE 0x2e

static void *must(void *p) {
        if (!p) {
                fputs("out of memory\n", stderr);
                abort();
        }
        return p;
}

/* ---- the kernel ---- */

static void read_release(struct check_facts *f) {
        const char *release = json_str_or(f->host, "release", "");

        if (sscanf(release, "%u.%u", &f->major, &f->minor) != 2)
                f->major = f->minor = 0;
}

bool check_kernel_before(const struct check_facts *f, unsigned major, unsigned minor) {
        return f->major > 0 && (f->major < major || (f->major == major && f->minor < minor));
}

/* Where distributions leave it; the first is of the kernel itself, when it was told to keep it. */
static void read_kernel_config(struct check_facts *f, TdiHost *host) {
        const char *release = json_str_or(f->host, "release", "");
        _cleanup_free_ char *packed = NULL;
        char path[PATH_MAX];
        size_t size;

        if (host_read_file(host, "/proc/config.gz", CONFIG_MAX, &packed, &size) >= 0 && check_inflate(packed, size, CONFIG_MAX, &f->config) >= 0) {
                f->config_path = must(strdup("/proc/config.gz"));
                return;
        }
        for (int i = 0; i < 2 && *release && !strchr(release, '/'); i++) {
                snprintf(path, sizeof(path), i == 0 ? "/boot/config-%s" : "/lib/modules/%s/config", release);
                if (host_read_file(host, path, CONFIG_MAX, &f->config, NULL) >= 0) {
                        f->config_path = must(strdup(path));
                        return;
                }
        }
}

enum check_option check_option(const struct check_facts *f, const char *name) {
        size_t n = strlen(name);

        if (!f->config)
                return OPTION_UNKNOWN;
        for (const char *line = f->config; line; line = strchr(line, '\n')) {
                line += *line == '\n';
                if (startswith(line, "CONFIG_") && strncmp(line + 7, name, n) == 0 && line[7 + n] == '=')
                        return line[8 + n] == 'y' || line[8 + n] == 'm' ? OPTION_ON : OPTION_OFF;
        }
        return OPTION_OFF;
}

bool check_has_word(const char *text, const char *word) {
        static const char separators[] = " \t\n,[]";
        size_t n = strlen(word);

        for (const char *s = text; (s = strstr(s, word)); s += n)
                if ((s == text || strchr(separators, s[-1])) && (!s[n] || strchr(separators, s[n])))
                        return true;
        return false;
}

/* ---- the platform ---- */

static void link_name(TdiHost *host, const char *tsm, const char *link, char *buf, size_t size) {
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "/sys/class/tsm/%s/%s", tsm, link);
        if (host_read_link_name(host, path, buf, size) < 0)
                *buf = '\0';
}

/* Links only: the files of a TSM and below tsm/ of functions wait for whoever connects one. */
static void read_platform(struct check_facts *f, TdiHost *host) {
        _cleanup_(host_names_freep) char **names = NULL;
        struct recognise_tsm tsms[32];
        char texts[ARRAY_SIZE(tsms)][2][256], all[512] = "";
        size_t at = 0;

        if (host_list(host, "/sys/class/tsm", &names) >= 0)
                for (char **n = names; *n && f->n_tsms < ARRAY_SIZE(tsms); n++) {
                        char (*t)[256] = texts[f->n_tsms];

                        link_name(host, *n, "device", t[0], sizeof(t[0]));
                        link_name(host, *n, "device/driver", t[1], sizeof(t[1]));
                        tsms[f->n_tsms++] = (struct recognise_tsm){ *n, t[0], t[1] };
                        f->n_strange_tsms += !platform_of_tsm(t[0], t[1]);
                        at += (size_t) snprintf(all + at, at < sizeof(all) ? sizeof(all) - at : 0, "%s%s of %s", at > 0 ? ", " : "", *n, *t[0] ? t[0] : "an unknown device");
                        at = at < sizeof(all) ? at : sizeof(all) - 1;
                }
        f->tsms = must(strdup(all));
        f->by = json_new_array();
        f->doubts = json_new_array();
        f->platform = recognise_host(tsms, f->n_tsms, f->host, f->by, f->doubts);
}

/* ---- functions ---- */

int check_config_open(TdiHost *host, const char *bdf, struct check_config *ret) {
        char path[PATH_MAX];
        int fd;

        snprintf(path, sizeof(path), PCI "%s/config", bdf);
        fd = host_open(host, path, O_RDONLY);
        if (fd < 0)
                return fd;
        *ret = (struct check_config){ host, fd };
        return 0;
}

int check_config_word(void *userdata, unsigned at, uint32_t *ret) {
        struct check_config *c = userdata;
        uint8_t b[4];
        ssize_t n = host_pread(c->host, c->fd, b, sizeof(b), at);

        if (n < 0)
                return (int) n;
        if (n != sizeof(b))
                return -ENODATA;
        *ret = b[0] | (uint32_t) b[1] << 8 | (uint32_t) b[2] << 16 | (uint32_t) b[3] << 24;
        return 0;
}

/* Chains come from the device: their length is bounded. */
static void decode_capabilities(struct check_function *fn, struct check_config *c) {
        uint32_t word, at;

        if (check_config_word(c, 0x04, &word) < 0 || !(word >> 16 & 0x10) || check_config_word(c, 0x34, &at) < 0)
                return;
        at &= 0xfc;
        for (unsigned left = 48; at >= 0x40 && left > 0 && check_config_word(c, at, &word) >= 0; left--, at = word >> 8 & 0xfc)
                if ((word & 0xff) == CAP_EXP) {
                        uint32_t capabilities;

                        fn->tee_io = check_config_word(c, at + EXP_DEVCAP, &capabilities) >= 0 && capabilities & DEVCAP_TEE_IO;
                        return;
                }
}

static void decode_extended(struct check_function *fn, struct check_config *c) {
        uint32_t word, at = 0x100;

        /* Conventional PCI has none. */
        if (check_config_word(c, at, &word) < 0) {
                fn->ide = -ENOENT;
                return;
        }
        fn->ide = ide_find(check_config_word, c, &fn->ide_cap);
        for (unsigned left = (CONFIG_SIZE - 0x100) / 8; at >= 0x100 && left > 0 && check_config_word(c, at, &word) >= 0; left--, at = word >> 20 & ~3u) {
                if (word == 0 || word == UINT32_MAX)
                        return;
                if ((word & 0xffff) == EXT_CAP_DOE) {
                        fn->doe = true;
                        return;
                }
        }
}

static void read_config(TdiHost *host, struct check_function *fn) {
        struct check_config c;
        uint32_t word;

        /* pci_read_config(): 64 bytes are everybody's. */
        fn->config_cut = true;
        if (check_config_open(host, fn->bdf, &c) < 0)
                return;
        if (check_config_word(&c, 0x40, &word) >= 0) {
                fn->config_cut = false;
                decode_capabilities(fn, &c);
                decode_extended(fn, &c);
        }
        (void) host_close(host, c.fd);
}

/* Reading config space wakes a function, unless it was asked for. */
static bool is_asleep(TdiHost *host, const char *bdf) {
        char path[PATH_MAX], text[32];

        snprintf(path, sizeof(path), PCI "%s/power/runtime_status", bdf);
        return host_read_text(host, path, text, sizeof(text)) >= 0 && streq(text, "suspended");
}

static void read_function(struct check_facts *f, const struct check_input *in, const char *bdf) {
        struct check_function fn = { .group = -1, .ide = -ENODATA };
        char path[PATH_MAX], name[64];
        uint64_t class = 0;

        snprintf(fn.bdf, sizeof(fn.bdf), "%s", bdf);
        snprintf(path, sizeof(path), PCI "%s/class", bdf);
        if (host_read_u64(in->host, path, &class) < 0)
                return;
        fn.class = (uint32_t) class;
        fn.bridge = fn.class >> 16 == 0x06;
        snprintf(path, sizeof(path), PCI "%s/iommu_group", bdf);
        if (host_read_link_name(in->host, path, name, sizeof(name)) >= 0)
                fn.group = strtol(name, NULL, 10);
        fn.asleep = in->n_devices == 0 && is_asleep(in->host, bdf);
        if (!fn.asleep)
                read_config(in->host, &fn);
        f->functions[f->n_functions++] = fn;
}

static void read_functions(struct check_facts *f, const struct check_input *in) {
        _cleanup_(host_names_freep) char **names = NULL;
        size_t n = in->n_devices;
        char bdf[TDI_BDF_MAX];

        if (n == 0) {
                f->functions_error = host_list(in->host, "/sys/bus/pci/devices", &names);
                for (char **p = names; p && *p; p++)
                        n++;
        }
        f->functions = must(calloc(n + 1, sizeof(*f->functions)));
        for (char **p = names; p && *p; p++) {
                struct tdi_bdf parsed;

                /* Domains above 16 bits are not for assignment (VMD). */
                if (tdi_bdf_parse(*p, &parsed) >= 0)
                        read_function(f, in, *p);
        }
        for (size_t i = 0; i < in->n_devices; i++)
                read_function(f, in, tdi_bdf_format(in->devices[i], bdf));
}

/* ---- all of it ---- */

struct check_facts *check_facts_new(const struct check_input *in) {
        _cleanup_json_ struct json_object *arguments = recognise_arguments();
        struct check_facts *f = must(calloc(1, sizeof(*f)));

        f->host = json_new();
        facts_read(in->host, arguments, f->host);
        read_release(f);
        read_kernel_config(f, in->host);
        (void) host_read_file(in->host, "/proc/cpuinfo", CPUINFO_MAX, &f->cpuinfo, NULL);
        read_platform(f, in->host);
        read_functions(f, in);
        return f;
}

struct check_facts *check_facts_free(struct check_facts *f) {
        if (!f)
                return NULL;
        json_putp(&f->host);
        json_putp(&f->by);
        json_putp(&f->doubts);
        free(f->tsms);
        free(f->cpuinfo);
        free(f->config);
        free(f->config_path);
        free(f->functions);
        free(f);
        return NULL;
}
