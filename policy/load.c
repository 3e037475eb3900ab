/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The folders: which files count, and reading them. */
#include "private.h"

#include <dirent.h>
#include <stdio.h>

#include "util/file.h"

static int whole_fails(struct reader *r, int error, const char *path, const char *what) {
        struct policy_error e = {};

        snprintf(e.file, sizeof(e.file), "%s", path);
        snprintf(e.text, sizeof(e.text), "%s", what);
        r->tell(&e, r->userdata);
        return error;
}

int policy_read_file(const char *path, struct reader *r, size_t *total) {
        _cleanup_free_ char *text = NULL;
        bool null = false;
        int e;

        e = file_read_trusted(path, POLICY_FILE_MAX, &text, &r->size, &null);
        if (null) {
                e = policy_add_file(r->policy, path, true);
                return e < 0 ? e : 0;
        }
        if (e == -EINVAL)
                return whole_fails(r, -EBADMSG, path, "it is not a file");
        if (e == -EBADMSG)
                return whole_fails(r, -EBADMSG, path, "everybody may write to it: whose policy would it be?");
        if (e == -EFBIG)
                return whole_fails(r, -E2BIG, path, "it is longer than 1 MiB");
        if (e == -ENOMEM)
                return e;
        if (e < 0)
                return whole_fails(r, e, path, strerror(-e));
        *total += r->size;
        if (*total > POLICY_TOTAL_MAX)
                return whole_fails(r, -E2BIG, path, "with it the files of the policy are longer than 32 MiB");
        r->path = path;
        r->text = text;
        e = policy_parse(r);
        r->text = NULL;
        return e;
}

struct name {
        char *name;
        const char *dir;
        size_t precedence;
};

struct names {
        struct name *all;
        size_t n, room;
};

static void names_done(struct names *names) {
        for (size_t i = 0; i < names->n; i++)
                free(names->all[i].name);
        free(names->all);
}

static int compare_names(const void *a, const void *b) {
        const struct name *x = a, *y = b;
        int c = strcmp(x->name, y->name);

        /* The one that counts first. */
        return c ? c : x->precedence > y->precedence ? -1 : x->precedence < y->precedence;
}

static int add_name(struct names *names, const char *name, const char *dir, size_t precedence) {
        size_t n = strlen(name);

        if (*name == '.' || n < 6 || !streq(name + n - 5, ".json"))
                return 0;
        if (names->n == POLICY_FILES_MAX)
                return -E2BIG;
        if (names->n == names->room) {
                size_t room = names->room ? names->room * 2 : 16;
                struct name *t = reallocarray(names->all, room, sizeof(*t));

                if (!t)
                        return -ENOMEM;
                names->all = t;
                names->room = room;
        }
        names->all[names->n] = (struct name){ strdup(name), dir, precedence };
        return names->all[names->n].name ? (int) ++names->n : -ENOMEM;
}

static int list_dir(struct reader *r, const char *path, size_t precedence, struct names *names) {
        DIR *d = opendir(path);
        int e = 0;

        if (!d && errno == ENOENT)
                return 0;
        if (!d) {
                e = -errno;
                return whole_fails(r, e, path, strerror(-e));
        }
        while (e >= 0) {
                const struct dirent *entry;

                errno = 0;
                entry = readdir(d);
                if (!entry) {
                        e = errno ? whole_fails(r, -errno, path, strerror(errno)) : 0;
                        break;
                }
                e = add_name(names, entry->d_name, path, precedence);
                if (e == -E2BIG)
                        e = whole_fails(r, e, path, "there are more than 1024 files of policies");
        }
        (void) closedir(d);
        return e < 0 ? e : 0;
}

int policy_read_dirs(const char *const dirs[], size_t n_dirs, struct reader *r) {
        _cleanup_(names_done) struct names names = {};
        const char *before = NULL;
        size_t total = 0;
        int e = 0, failed = 0;

        for (size_t i = 0; i < n_dirs && e >= 0; i++)
                e = list_dir(r, dirs[i], i, &names);
        if (e < 0)
                return e;
        if (names.n > 0)
                qsort(names.all, names.n, sizeof(*names.all), compare_names);
        for (size_t i = 0; i < names.n; i++) {
                _cleanup_free_ char *path = NULL;

                if (before && streq(before, names.all[i].name))
                        continue;
                before = names.all[i].name;
                if (asprintf(&path, "%s/%s", names.all[i].dir, before) < 0) {
                        path = NULL;
                        return -ENOMEM;
                }
                e = policy_read_file(path, r, &total);
                if (e < 0 && (!r->more || e == -ENOMEM))
                        return e;
                if (e < 0)
                        failed = e;
        }
        return failed;
}

static void keep_error(const struct policy_error *e, void *userdata) {
        *(struct policy_error *) userdata = *e;
}

static int finish(struct policy **p, int e, struct policy **ret, struct policy_error *why) {
        if (e >= 0)
                e = policy_sort(*p);
        if (e == -ENOMEM)
                *why = (struct policy_error){ .text = "out of memory" };
        if (e < 0)
                return e;
        *ret = TAKE_PTR(*p);
        return 0;
}

int policy_load(const char *const dirs[], size_t n_dirs, struct policy **ret, struct policy_error *why) {
        _cleanup_policy_ struct policy *p = policy_new();
        _cleanup_(reader_done) struct reader r = { .policy = p, .tell = keep_error, .userdata = why };

        return finish(&p, p ? policy_read_dirs(dirs, n_dirs, &r) : -ENOMEM, ret, why);
}

int policy_load_texts(const struct policy_text *texts, size_t n_texts, struct policy **ret, struct policy_error *why) {
        _cleanup_policy_ struct policy *p = policy_new();
        _cleanup_(reader_done) struct reader r = { .policy = p, .tell = keep_error, .userdata = why };
        int e = p ? 0 : -ENOMEM;

        for (size_t i = 0; i < n_texts && e >= 0; i++) {
                r.path = texts[i].path;
                r.text = texts[i].text;
                r.size = texts[i].size;
                e = policy_parse(&r);
        }
        return finish(&p, e, ret, why);
}
