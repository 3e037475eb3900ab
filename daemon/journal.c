/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Journal files. */
#include "journal.h"

#include <limits.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>

#include "audit.h"
#include "fault.h"
#include "ipc.h"

static void path_of(Manager *m, struct tdi_bdf bdf, const char *suffix, char buf[static PATH_MAX]) {
        char label[TDI_BDF_MAX];

        snprintf(buf, PATH_MAX, "%s/journal/%s%s", m->state_dir, tdi_bdf_to_label(bdf, label), suffix);
}

void journal_entry_clear(struct journal_entry *e) {
        free(e->vm_id);
        free(e->quarantine);
        if (e->values)
                json_object_put(e->values);
        *e = (struct journal_entry){};
}

static int parse_actions(struct json_object *list, uint32_t *ret) {
        uint32_t actions = 0;

        for (size_t i = 0; i < json_object_array_length(list); i++) {
                struct json_object *v = json_object_array_get_idx(list, i);
                enum custody_action a;

                if (!json_object_is_type(v, json_type_string))
                        return -EBADMSG;
                a = custody_action_from_name(json_object_get_string(v));
                if (a == ACTION_NONE)
                        return -EBADMSG;
                actions |= 1u << a;
        }
        *ret = actions;
        return 0;
}

static bool keys_are_known(struct json_object *o) {
        static const char *const known[] = { "version", "boot", "bdf", "vm", "sequence", "group", "done", "begun", "values", "quarantine" };

        json_object_object_foreach(o, key, v) {
                bool found = false;

                (void) v;
                for (size_t i = 0; i < ARRAY_SIZE(known); i++)
                        found |= streq(known[i], key);
                if (!found)
                        return false;
        }
        return true;
}

int journal_parse(const char *text, size_t size, const char *boot_id, const char *bdf, struct journal_entry *ret) {
        _cleanup_json_ struct json_object *o = NULL;
        struct journal_entry e = {};
        struct json_object *list, *values;
        const char *s, *vm;
        uint64_t version;
        int64_t group;
        int r;

        if (json_parse_strict(text, size, &o, NULL, NULL) < 0)
                return -EBADMSG;
        r = version_check(o, JOURNAL_VERSION, fault_newer("journal"));
        if (r < 0)
                return r;
        version = json_u64_or(o, "version", 0);
        if ((version <= JOURNAL_VERSION && !keys_are_known(o)) || json_get_str(o, "boot", &s) < 0)
                return -EBADMSG;
        if (!streq(s, boot_id))
                return -ESTALE;
        if (json_get_str(o, "bdf", &s) < 0 || !streq(s, bdf) || json_get_str(o, "vm", &vm) < 0 ||
            json_get_u64(o, "sequence", &e.sequence) < 0 || json_get_i64(o, "group", &group) < 0 || group < -1 || group > INT32_MAX ||
            json_get_array(o, "done", &list) < 0 || json_get_object(o, "values", &values) < 0)
                return -EBADMSG;
        r = parse_actions(list, &e.done);
        if (r >= 0)
                r = json_get_array(o, "begun", &list);
        if (r >= 0)
                r = parse_actions(list, &e.begun);
        /* Done by a later tdid, and nothing that this one could undo. */
        if (r == -EBADMSG && version > JOURNAL_VERSION)
                return -EPROTONOSUPPORT;
        if (r < 0 && r != -ENOENT)
                return r;
        r = json_get_str(o, "quarantine", &s);
        if (r < 0 && r != -ENOENT)
                return r;
        if (r >= 0) {
                e.quarantine = strdup(s);
                if (!e.quarantine)
                        return -ENOMEM;
        }
        /* A tdid that had no such rows has attached it, or was at it: there was nothing to do in them. */
        if (version < 3 && (e.done | e.begun) & 1u << ACTION_PREPARE_ATTACH)
                e.done |= 1u << ACTION_PREPARE_VIOMMU | 1u << ACTION_PREPARE_VDEVICE;
        if (version < 3 && e.done & 1u << ACTION_PREPARE_ATTACH)
                e.done |= 1u << ACTION_PREPARE_WITHDRAW;
        if (version < 4 && (e.done | e.begun) & 1u << ACTION_BIND_LOCK)
                e.done |= 1u << ACTION_BIND_CONNECT;
        if (version < 4 && (e.done | e.begun) & 1u << ACTION_OPEN_BIND)
                e.done |= 1u << ACTION_OPEN_ASSOCIATE;
        e.group = (int32_t) group;
        e.vm_id = strdup(vm);
        if (!e.vm_id) {
                free(e.quarantine);
                return -ENOMEM;
        }
        e.values = json_object_get(values);
        *ret = e;
        return 0;
}

static int write_all(int fd, const char *text, size_t size) {
        while (size > 0) {
                ssize_t n = write(fd, text, size);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return n < 0 ? -errno : -EIO;
                text += n;
                size -= (size_t) n;
        }
        return 0;
}

static int sync_dir(Manager *m) {
        char dir[PATH_MAX];
        _cleanup_close_ int fd = -EBADF;

        snprintf(dir, sizeof(dir), "%s/journal", m->state_dir);
        fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0 || fsync(fd) < 0)
                return -errno;
        return 0;
}

static struct json_object *names_of(uint32_t actions) {
        struct json_object *list = json_new_array();

        for (int a = 0; a < ACTION_MAX; a++)
                if (actions & 1u << a)
                        json_push_str(list, custody_table[a].name);
        return list;
}

int journal_write(Custody *c) {
        _cleanup_json_ struct json_object *o = json_new();
        _cleanup_close_ int fd = -EBADF;
        char path[PATH_MAX], temp[PATH_MAX];
        const char *text;
        size_t size;
        int r;

        version_set(o, JOURNAL_VERSION, fault_newer("journal"));
        json_set_str(o, "boot", c->manager->boot_id);
        json_set_str(o, "bdf", c->name);
        json_set_str(o, "vm", c->vm_id);
        json_set_u64(o, "sequence", c->sequence);
        json_set_i64(o, "group", c->group);
        json_set_take(o, "done", names_of(c->done));
        if (c->begun)
                json_set_take(o, "begun", names_of(c->begun));
        json_set_take(o, "values", json_object_get(c->values));
        if (c->quarantine)
                json_set_str(o, "quarantine", c->quarantine);

        path_of(c->manager, c->bdf, ".json", path);
        path_of(c->manager, c->bdf, ".new", temp);
        fd = open(temp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        if (fd < 0)
                return -errno;
        text = json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
        if (!text)
                return -ENOMEM;
        r = write_all(fd, text, size);
        if (r >= 0 && fsync(fd) < 0)
                r = -errno;
        if (r >= 0 && rename(temp, path) < 0)
                r = -errno;
        if (r < 0) {
                (void) unlink(temp);
                return r;
        }
        c->journalled = true;
        return sync_dir(c->manager);
}

int journal_remove(Custody *c) {
        char path[PATH_MAX];

        if (!c->journalled)
                return 0;
        path_of(c->manager, c->bdf, ".json", path);
        if (unlink(path) < 0 && errno != ENOENT)
                return -errno;
        c->journalled = false;
        return sync_dir(c->manager);
}

static void load_one(Manager *m, TdiHost *files, struct tdi_bdf bdf) {
        struct journal_entry e = {};
        _cleanup_free_ char *text = NULL;
        char path[PATH_MAX], reason[PATH_MAX + 128];
        size_t size = 0;
        Custody *c;
        int r;

        path_of(m, bdf, ".json", path);
        r = host_read_file(files, path, JOURNAL_SIZE_MAX, &text, &size);
        c = custody_new(m, bdf, -1);
        c->journalled = c->recovered = true;
        if (r >= 0)
                r = journal_parse(text, size, m->boot_id, c->name, &e);
        if (r >= 0) {
                free(c->vm_id);
                c->vm_id = TAKE_PTR(e.vm_id);
                json_object_put(c->values);
                c->values = TAKE_PTR(e.values);
                c->sequence = e.sequence;
                c->group = e.group;
                c->done = e.done;
                c->begun = e.begun;
                c->announced = custody_step(c);
                c->quarantine = TAKE_PTR(e.quarantine);
                if (c->sequence >= m->next_sequence)
                        m->next_sequence = c->sequence + 1;
                journal_entry_clear(&e);
                return;
        }
        if (r == -ESTALE) {
                log_warning("%s: the journal is of another boot: nothing of it is left to undo", c->name);
                (void) journal_remove(c);
                manager_remove((void **) m->custodies, &m->n_custodies, c);
                custody_free(c);
                return;
        }
        if (r == -EPROTONOSUPPORT) {
                c->frozen = true;
                snprintf(reason, sizeof(reason),
                         "its journal %s was written by a newer tdid: start that version, this one leaves the function alone", path);
        } else {
                /* What was there before is lost: Restore goes by the kernel's defaults, and only when somebody asks. */
                c->done = (1u << ACTION_CLAIM_REBIND) | (1u << ACTION_CLAIM_OVERRIDE);
                json_set_bool(c->values, "unknown", true);
                json_set_bool(c->values, "doubted", true);
                c->damaged = true;
                snprintf(reason, sizeof(reason),
                         "its journal %s is damaged (%s): what the function had before is not known; look at it, then: tdictl device restore",
                         path, strerror(-r));
        }
        c->quarantine = strdup(reason);
        if (!c->quarantine)
                log_oom();
        audit_quarantine(c);
}

int journal_load(Manager *m) {
        _cleanup_(tdi_host_freep) TdiHost *files = NULL;
        _cleanup_(host_names_freep) char **names = NULL;
        char dir[PATH_MAX];
        int r;

        snprintf(dir, sizeof(dir), "%s/journal", m->state_dir);
        r = tdi_host_linux_new(&files);
        if (r >= 0)
                r = host_list(files, dir, &names);
        if (r < 0)
                return r;
        for (char **n = names; *n; n++) {
                char form[64], label[TDI_BDF_MAX], *dot = strrchr(*n, '.');
                struct tdi_bdf bdf;

                if (!dot || (!streq(dot, ".json") && !streq(dot, ".new")))
                        continue;
                snprintf(form, sizeof(form), "pci_%.*s", (int) (dot - *n), *n);
                if (tdi_bdf_parse(form, &bdf) < 0 || !streq(tdi_bdf_to_label(bdf, label), form + 4)) {
                        log_warning("%s/%s is no journal of ours: left alone", dir, *n);
                        continue;
                }
                /* A tdid was killed while it wrote: what it was about to do was not begun. */
                if (streq(dot, ".new")) {
                        char path[PATH_MAX];

                        path_of(m, bdf, ".new", path);
                        (void) unlink(path);
                        continue;
                }
                load_one(m, files, bdf);
        }
        return 0;
}

int journal_lock(Manager *m, struct tdi_bdf bdf) {
        _cleanup_close_ int fd = -EBADF;
        char path[PATH_MAX];

        path_of(m, bdf, ".lock", path);
        fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
        if (fd < 0)
                return -errno;
        if (flock(fd, LOCK_EX | LOCK_NB) < 0)
                return -errno;
        return TAKE_FD(fd);
}
