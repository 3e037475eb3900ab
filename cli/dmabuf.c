/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* `tdictl dmabuf …`. A dma-buf is a descriptor and nothing else: it goes to a command, which this program becomes. */
#include <inttypes.h>
#include <stdio.h>

#include "model.h"
#include "print.h"

/* A number, decimal or 0x…, with K, M, G or T behind it where wanted. */
static int parse_size(const char *text, uint64_t *ret) {
        static const char units[] = "KMGT";
        unsigned long long n;
        unsigned shift = 0;
        const char *unit;
        char *end;

        if (*text < '0' || *text > '9')
                return -EINVAL;
        errno = 0;
        n = strtoull(text, &end, 0);
        if (errno != 0)
                return -EINVAL;
        unit = *end ? strchr(units, *end) : NULL;
        if (unit) {
                shift = 10 * (unsigned) (unit - units + 1);
                end++;
        }
        if (*end || (n << shift) >> shift != n)
                return -EINVAL;
        *ret = (uint64_t) n << shift;
        return 0;
}

static int size_argument(struct tdictl *t, const char *what, const char *text, uint64_t *ret) {
        if (parse_size(text, ret) < 0)
                return fail_usage(t, "%s is a number of bytes, as 4096, 0x1000 or 4K, and not '%s'.", what, text);
        return 0;
}

/* "pinned,dynamic" as a set. */
static int read_accept(struct tdictl *t, unsigned *ret) {
        const char *text = arguments_text(&t->arguments, "accept");
        unsigned set = 0;

        while (!isempty(text)) {
                size_t n = strcspn(text, ",");
                enum tdi_dmabuf_class class = TDI_DMABUF_CLASS_INVALID;

                for (int i = 0; i < TDI_DMABUF_CLASS_MAX; i++)
                        if (strlen(tdi_dmabuf_class_to_string(i)) == n && startswith(text, tdi_dmabuf_class_to_string(i)))
                                class = i;
                if (class < 0)
                        return fail_usage(t, "--accept takes pinned, revocable and dynamic, with commas between, and not '%.*s'.", (int) n, text);
                set |= TDI_DMABUF_SET(class);
                text += n + (text[n] == ',');
        }
        *ret = set;
        return 0;
}

/* A word with every @name@ replaced; the caller's. */
static char *replace(const char *word, const char *name, const char *value) {
        char *out = strdup(""), *more;
        const char *at;

        while (out && (at = strstr(word, name))) {
                if (asprintf(&more, "%s%.*s%s", out, (int) (at - word), word, value) < 0)
                        more = NULL;
                free(out);
                out = more;
                word = at + strlen(name);
        }
        if (out && asprintf(&more, "%s%s", out, word) < 0)
                more = NULL;
        else if (!out)
                more = NULL;
        free(out);
        return more;
}

static char **substitute(char *const *command, const char *dmabuf, const char *event) {
        size_t n = 0;
        char **words;

        while (command[n])
                n++;
        words = calloc(n + 1, sizeof(*words));
        for (size_t i = 0; words && i < n; i++) {
                _cleanup_free_ char *word = replace(command[i], "@dmabuf@", dmabuf);

                words[i] = word ? replace(word, "@event@", event) : NULL;
                if (!words[i]) {
                        while (i > 0)
                                free(words[--i]);
                        free(words);
                        return NULL;
                }
        }
        return words;
}

/* Comes back only when it fails. */
static int become(struct tdictl *t, struct tdi_export *x) {
        char dmabuf[16], event[16], id[24];
        char **words;
        int error;

        snprintf(dmabuf, sizeof(dmabuf), "%d", x->dmabuf);
        snprintf(event, sizeof(event), "%d", x->event);
        snprintf(id, sizeof(id), "%" PRIu64, x->id);
        words = substitute(t->arguments.command, dmabuf, event);
        if (!words)
                return fail_oom(t);
        if (setenv("TDID_DMABUF_FD", dmabuf, 1) < 0 || setenv("TDID_DMABUF_EVENT_FD", event, 1) < 0 || setenv("TDID_DMABUF_ID", id, 1) < 0 ||
            setenv("TDID_DMABUF_CLASS", tdi_dmabuf_class_to_string(x->dmabuf_class), 1) < 0 || fcntl(x->dmabuf, F_SETFD, 0) < 0 ||
            fcntl(x->event, F_SETFD, 0) < 0)
                error = errno;
        else if (!words[0])
                error = EINVAL;
        else {
                t->client = tdi_client_free(t->client);
                (void) execvp(words[0], words);
                error = errno;
        }
        for (char **w = words; *w; w++)
                free(*w);
        free(words);
        tdi_export_done(x);
        return fail(t, "Failed", error == ENOENT ? 127 : 126, "Could not run '%s': %s. The dma-buf is closed again.", t->arguments.command[0],
                    strerror(error));
}

int verb_dmabuf_export(struct tdictl *t) {
        const struct arguments *a = &t->arguments;
        struct tdi_export x = { .size = sizeof(x) };
        enum tdi_importer importer;
        uint64_t offset = 0, size = 0;
        struct tdi_bdf bdf;
        unsigned accept = 0;
        uint32_t bar;
        int r;

        if (!a->command || !a->command[0])
                return fail_usage(t, "A dma-buf is a descriptor, which a command gets: tdictl dmabuf export BDF BAR OFFSET SIZE --importer=… -- COMMAND.");
        if (!arguments_has(a, "importer"))
                return fail_usage(t, "--importer says who will import it: kvm, iommufd, rdma, gpu or any.");
        importer = tdi_importer_from_string(arguments_text(a, "importer"));
        r = read_accept(t, &accept);
        if (r < 0)
                return r;
        if (importer == TDI_IMPORTER_ANY && accept == 0)
                return fail_usage(t, "--importer=any needs --accept: the classes that it takes.");
        if (parse_number(a->words[1], 5, &bar) < 0)
                return fail_usage(t, "BAR is a number from 0 to 5, and not '%s'.", a->words[1]);
        r = size_argument(t, "OFFSET", a->words[2], &offset);
        if (r >= 0)
                r = size_argument(t, "SIZE", a->words[3], &size);
        if (r >= 0)
                r = tdictl_bdf(t, a->words[0], &bdf);
        if (r >= 0)
                r = model_connect(t);
        if (r < 0)
                return r;
        r = tdi_client_export_dmabuf(t->client, bdf, bar, offset, size, importer, accept, &x);
        return r < 0 ? fail_client(t, r) : become(t, &x);
}

int verb_dmabuf_list(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL;
        _cleanup_free_ char *text = NULL;
        int r;

        r = model_connect(t);
        if (r < 0)
                return r;
        r = tdi_client_list_dmabufs(t->client, &text);
        if (r < 0)
                return fail_client(t, r);
        model = json_tokener_parse(text);
        if (!json_object_is_type(model, json_type_object))
                return fail(t, "Failed", EXIT_OTHER, "Could not understand libtdi's list.");
        return print_model(t, model, dmabufs_view);
}
