/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Journal files: what is written is what the next tdid loads, and what it does with files that it cannot trust. */
#include <limits.h>
#include <sys/stat.h>

#include "journal.h"
#include "test.h"

#define BOOT "0f9d1b6a-24f0-4c39-8b39-7c2f1f3c5d11"

static Manager *new_manager(const char *dir, const char *boot) {
        char path[96];
        Manager *m;

        require(manager_new(&m) == 0);
        require(free_and_strdup(&m->state_dir, dir) == 0);
        snprintf(m->boot_id, sizeof(m->boot_id), "%s", boot);
        snprintf(path, sizeof(path), "%s/journal", dir);
        (void) mkdir(path, 0700);
        return m;
}

static struct tdi_bdf bdf(const char *text) {
        struct tdi_bdf b;

        require(tdi_bdf_parse(text, &b) == 0);
        return b;
}

static bool exists(const char *dir, const char *name) {
        char path[160];

        snprintf(path, sizeof(path), "%s/journal/%s", dir, name);
        return access(path, F_OK) == 0;
}

static void write_name(const char *dir, const char *name, const char *text) {
        char path[160];

        snprintf(path, sizeof(path), "%s/journal/%s", dir, name);
        test_write_file(path, text, strlen(text));
}

static void check_equal(const Custody *a, const Custody *b) {
        check_str(a->name, b->name);
        check_str(a->vm_id, b->vm_id);
        check(a->sequence == b->sequence);
        check_int(a->group, b->group);
        check_int(a->done, b->done);
        check_int(a->begun, b->begun);
        check_str(a->quarantine, b->quarantine);
        check(json_object_equal(a->values, b->values));
        check_int(b->journalled, true);
        check_int(b->frozen, false);
        check_int(b->device, -EBADF);
        check(!b->busy && !b->vm && b->goal == GOAL_KEEP);
}

static void test_round_trip(void) {
        Manager *m, *n;
        Custody *c[3];
        char dir[64], path[160];
        struct stat st;

        test_make_dir(dir);
        m = new_manager(dir, BOOT);
        c[0] = custody_new(m, bdf("0000:00:00.0"), -1);
        c[1] = custody_new(m, bdf("ffff:ff:1f.7"), INT32_MAX);
        c[1]->done = (1u << ACTION_MAX) - 1;
        c[1]->sequence = UINT64_C(1) << 62;
        c[2] = custody_new(m, bdf("0000:0a:00.0"), 0);
        c[2]->done = 1u << ACTION_CLAIM_CHECK;
        c[2]->begun = 1u << ACTION_CLAIM_NOTE | 1u << ACTION_CLAIM_PM;
        c[2]->sequence = 7;
        require(free_and_strdup(&c[2]->vm_id, "1763000000123") == 0);
        require(free_and_strdup(&c[2]->quarantine, "could not \"give\" it back: \\ \xe2\x80\xa6\n") == 0);
        json_set_str(c[2]->values, "driver", "");
        json_set_str(c[2]->values, "override", "a/b");
        json_set_u64(c[2]->values, "ioas", UINT64_MAX);
        json_set_bool(c[2]->values, "force", true);
        for (size_t i = 0; i < 3; i++) {
                test_about("write %s", c[i]->name);
                check_int(journal_write(c[i]), 0);
                check_int(journal_write(c[i]), 0);
                check(c[i]->journalled);
        }
        check(exists(dir, "0000_0a_00_0.json") && !exists(dir, "0000_0a_00_0.new"));
        snprintf(path, sizeof(path), "%s/journal/0000_0a_00_0.json", dir);
        check(stat(path, &st) == 0 && (st.st_mode & 07777) == 0600);

        n = new_manager(dir, BOOT);
        test_about("%s", "load");
        check_int(journal_load(n), 0);
        check_int(n->n_custodies, 3);
        check(n->next_sequence == (UINT64_C(1) << 62) + 1);
        for (size_t i = 0; i < 3; i++) {
                Custody *back = custody_find(n, c[i]->bdf);

                test_about("load %s", c[i]->name);
                if (check(back))
                        check_equal(c[i], back);
                if (back)
                        check_int(journal_remove(back), 0);
                check(back && !back->journalled);
        }
        test_about("%s", "removed");
        check(!exists(dir, "0000_0a_00_0.json"));
        /* What is gone already is no error, and what was never written is not looked for. */
        check_int(journal_remove(c[0]), 0);
        check_int(journal_remove(c[0]), 0);
        manager_free(m);
        manager_free(n);
        test_remove_dir(dir);
}

static Custody *load_one(const char *dir, const char *boot, Manager **ret) {
        *ret = new_manager(dir, boot);
        check_int(journal_load(*ret), 0);
        check((*ret)->n_custodies <= 1);
        return (*ret)->n_custodies == 1 ? (*ret)->custodies[0] : NULL;
}

static void test_distrust(void) {
        static const char good[] = "{\"version\":1,\"boot\":\"" BOOT "\",\"bdf\":\"0000:01:00.0\",\"vm\":\"1\",\"sequence\":1,\"group\":1,"
                                   "\"done\":[],\"values\":{}}";
        static char large[JOURNAL_SIZE_MAX + 2];
        const char *const damaged[] = { "", "{", "{}", "nonsense", "{\"version\":0}", large };
        char dir[64], path[160];
        Manager *m;
        Custody *c;

        memset(large, ' ', sizeof(large) - 1);
        memcpy(large, good, sizeof(good) - 1);
        test_make_dir(dir);
        m = new_manager(dir, BOOT);
        manager_free(m);

        for (size_t i = 0; i < ARRAY_SIZE(damaged); i++) {
                test_about("damaged: %.20s", damaged[i]);
                write_name(dir, "0000_01_00_0.json", damaged[i]);
                c = load_one(dir, BOOT, &m);
                if (check(c)) {
                        /* Withheld; an undo that somebody asks for goes by the kernel's defaults. */
                        check(c->quarantine && strstr(c->quarantine, "damaged"));
                        check(!c->frozen && c->journalled);
                        check_int(c->done, 1 << ACTION_CLAIM_REBIND | 1 << ACTION_CLAIM_OVERRIDE);
                        check(json_bool_or(c->values, "unknown", false));
                }
                check(exists(dir, "0000_01_00_0.json"));
                manager_free(m);
        }

        test_about("%s", "of a newer version");
        write_name(dir, "0000_01_00_0.json", "{\"version\":5}");
        c = load_one(dir, BOOT, &m);
        check(c && c->frozen && c->done == 0 && c->quarantine && strstr(c->quarantine, "newer"));
        check(exists(dir, "0000_01_00_0.json"));
        manager_free(m);

        test_about("%s", "of another function");
        write_name(dir, "0000_01_00_0.json", "{\"version\":1,\"boot\":\"" BOOT "\",\"bdf\":\"0000:02:00.0\",\"vm\":\"1\",\"sequence\":1,"
                                             "\"group\":1,\"done\":[],\"values\":{}}");
        c = load_one(dir, BOOT, &m);
        check(c && c->quarantine && strstr(c->quarantine, "damaged") && streq(c->name, "0000:01:00.0"));
        manager_free(m);

        test_about("%s", "of another boot");
        write_name(dir, "0000_01_00_0.json", good);
        c = load_one(dir, "00000000-0000-4000-8000-000000000000", &m);
        check(!c && !exists(dir, "0000_01_00_0.json"));
        manager_free(m);

        test_about("%s", "a folder in its place");
        snprintf(path, sizeof(path), "%s/journal/0000_01_00_0.json", dir);
        require(mkdir(path, 0700) == 0);
        c = load_one(dir, BOOT, &m);
        check(c && c->quarantine);
        manager_free(m);
        require(rmdir(path) == 0);

        test_about("%s", "good");
        write_name(dir, "0000_01_00_0.json", good);
        c = load_one(dir, BOOT, &m);
        check(c && !c->quarantine && c->group == 1);
        manager_free(m);
        test_remove_dir(dir);
}

static void test_strangers(void) {
        static const char *const names[] = {
                "x.json", "x.new", "0000_01_00_0.lock", "0000:01:00.0.json", "0000_01_00_8.json", "0000_01_20_0.json", ".json",
                "json", "0000_01_00_0.json.bak", "pci_0000_01_00_0.json", "00000_01_00_0.json", "0000_01_00_0x.json", "0000_01_00_0",
                /* A name that tdid never writes: it would look for the other spelling of it. */
                "0000_0A_00_0.json",
        };
        char dir[64];
        Manager *m;

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                test_make_dir(dir);
                m = new_manager(dir, BOOT);
                test_about("%s", names[i]);
                write_name(dir, names[i], "{}");
                check_int(journal_load(m), 0);
                check_int(m->n_custodies, 0);
                check(exists(dir, names[i]));
                manager_free(m);
                test_remove_dir(dir);
        }
}

/* A tdid was killed while it wrote its journal. */
static void test_unfinished(void) {
        char dir[64];
        Manager *m;

        test_make_dir(dir);
        m = new_manager(dir, BOOT);
        write_name(dir, "0000_01_00_0.new", "{\"versi");
        check_int(journal_load(m), 0);
        check_int(m->n_custodies, 0);
        check(!exists(dir, "0000_01_00_0.new"));
        manager_free(m);
        test_remove_dir(dir);
}

static void test_no_folder(void) {
        char dir[64], path[160];
        Manager *m;
        Custody *c;

        test_about("%s", "no folder");
        test_make_dir(dir);
        m = new_manager(dir, BOOT);
        snprintf(path, sizeof(path), "%s/journal", dir);
        require(rmdir(path) == 0);
        c = custody_new(m, bdf("01:00.0"), 1);
        check_int(journal_write(c), -ENOENT);
        check(!c->journalled);
        check_int(journal_load(m), -ENOENT);
        check_int(journal_lock(m, c->bdf), -ENOENT);

        test_about("%s", "a folder in the file's place");
        snprintf(path, sizeof(path), "%s/journal/0000_01_00_0.json", dir);
        manager_free(m);
        m = new_manager(dir, BOOT);
        c = custody_new(m, bdf("01:00.0"), 1);
        require(mkdir(path, 0700) == 0);
        check_int(journal_write(c), -EISDIR);
        check(!c->journalled && !exists(dir, "0000_01_00_0.new"));
        manager_free(m);
        test_remove_dir(dir);
}

static void test_lock(void) {
        char dir[64];
        int a, b, other;
        Manager *m;

        test_about("%s", "lock");
        test_make_dir(dir);
        m = new_manager(dir, BOOT);
        a = journal_lock(m, bdf("01:00.0"));
        check(a >= 0 && (fcntl(a, F_GETFD) & FD_CLOEXEC));
        check_int(journal_lock(m, bdf("01:00.0")), -EWOULDBLOCK);
        other = journal_lock(m, bdf("01:00.1"));
        check(other >= 0);
        close_fd(other);
        /* A worker's copy keeps it when ours is closed. */
        b = fd_dup(a);
        close_fd(a);
        check_int(journal_lock(m, bdf("01:00.0")), -EWOULDBLOCK);
        close_fd(b);
        a = journal_lock(m, bdf("01:00.0"));
        check(a >= 0);
        close_fd(a);
        manager_free(m);
        test_remove_dir(dir);
}

int main(void) {
        test_round_trip();
        test_distrust();
        test_strangers();
        test_unfinished();
        test_no_folder();
        test_lock();
        return test_end();
}
