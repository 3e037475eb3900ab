/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The parser of placeholders. What stands for them is run.c's. */
#include "substitute.h"

#include <stdarg.h>
#include <stdio.h>

#include "util/util.h"

#define NAME "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-"
#define ADDRESS NAME ":."

static const struct {
        const char *name;
        enum placeholder what;
        bool has_bdf; /* behind a colon */
} placeholders[] = {
        { "socket", PLACEHOLDER_SOCKET, true },
        { "vfio", PLACEHOLDER_VFIO, true },
        { "iommufd", PLACEHOLDER_IOMMUFD, false },
};

static int complain(char **ret_error, const char *word, const char *format, ...) _printf_(3, 4);
static int complain(char **ret_error, const char *word, const char *format, ...) {
        char text[200];
        va_list ap;

        va_start(ap, format);
        vsnprintf(text, sizeof(text), format, ap);
        va_end(ap);
        if (asprintf(ret_error, "In '%s': %s. There are @socket:BDF@, @vfio:BDF@ and @iommufd@; a literal @ is written @@.", word, text) < 0)
                *ret_error = NULL;
        return -EINVAL;
}

/* What stands behind an @: a name, and an address behind a colon. */
struct inside {
        const char *name;
        size_t n_name, n; /* of the name, and of all */
        bool closed;      /* by an @ */
};

static struct inside look(const char *s) {
        struct inside i = { .name = s, .n_name = strspn(s, NAME) };

        i.n = i.n_name + (s[i.n_name] == ':' ? 1 + strspn(s + i.n_name + 1, ADDRESS) : 0);
        i.closed = s[i.n] == '@';
        return i;
}

static bool is_named(const struct inside *i, const char *name) {
        return strlen(name) == i->n_name && memcmp(i->name, name, i->n_name) == 0;
}

/* 1: it is one; 0: it is only an @. */
static int parse(const char *word, const struct inside *i, enum placeholder *ret, struct tdi_bdf *ret_bdf, char **ret_error) {
        char address[64] = "", text[80];

        snprintf(text, sizeof(text), "%.*s", (int) (i->n < sizeof(text) ? i->n : sizeof(text) - 1), i->name);
        for (size_t k = 0; k < ARRAY_SIZE(placeholders); k++) {
                if (!is_named(i, placeholders[k].name))
                        continue;
                if (!i->closed)
                        return complain(ret_error, word, "@%s is not closed by another @", text);
                if (placeholders[k].has_bdf != (i->n > i->n_name))
                        break;
                *ret = placeholders[k].what;
                *ret_bdf = (struct tdi_bdf){};
                if (placeholders[k].has_bdf)
                        snprintf(address, sizeof(address), "%.*s", (int) (i->n - i->n_name - 1), i->name + i->n_name + 1);
                if (placeholders[k].has_bdf && tdi_bdf_parse(address, ret_bdf) < 0)
                        return complain(ret_error, word, "'%s' is no PCI function: write 0000:01:00.0, 01:00.0 or pci_0000_01_00_0", address);
                return 1;
        }
        if (i->closed && i->n_name > 0)
                return complain(ret_error, word, "@%s@ is no placeholder", text);
        return 0;
}

/* At an @; *at is then behind what it stands for. */
static int substitute_one(const char *word, const char **at, substitute_value value, void *userdata, FILE *out, char **ret_error) {
        struct inside inside = look(*at + 1);
        enum placeholder what = PLACEHOLDER_SOCKET;
        const char *text;
        struct tdi_bdf bdf = {};
        int r;

        r = parse(word, &inside, &what, &bdf, ret_error);
        if (r < 0)
                return r;
        if (r == 0) {
                (void) fputc('@', out);
                *at += (*at)[1] == '@' ? 2 : 1;
                return 0;
        }
        *at += inside.n + 2;
        r = value(what, bdf, userdata, &text, ret_error);
        if (r >= 0)
                (void) fputs(text, out);
        return r;
}

int substitute(const char *word, substitute_value value, void *userdata, char **ret, char **ret_error) {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        int r = 0;

        if (!out)
                return -ENOMEM;
        for (const char *s = word; *s && r >= 0;) {
                if (*s == '@')
                        r = substitute_one(word, &s, value, userdata, out, ret_error);
                else
                        (void) fputc(*s++, out);
        }
        if (fclose(out) != 0 && r >= 0)
                r = -ENOMEM;
        if (r < 0) {
                free(text);
                return r;
        }
        *ret = text;
        return 0;
}
