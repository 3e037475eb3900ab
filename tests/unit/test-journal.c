/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The journal's parser: good files, files cut or changed at every byte, and each member wrong by itself. */
#include "journal.h"
#include "test.h"

#define BOOT "0f9d1b6a-24f0-4c39-8b39-7c2f1f3c5d11"
#define BDF "0000:01:00.0"

static const struct {
        const char *key, *value;
} members[] = {
        { "version", "4" },
        { "boot", "\"" BOOT "\"" },
        { "bdf", "\"" BDF "\"" },
        { "vm", "\"1763000000123\"" },
        { "sequence", "12" },
        { "group", "7" },
        { "done", "[\"claim.check\",\"claim.note\",\"claim.pm\"]" },
        { "begun", "[\"claim.override\",\"claim.rebind\"]" },
        { "values", "{\"driver\":\"nvme\",\"pm\":\"auto\"}" },
        { "quarantine", "\"the kernel said no\"" },
};

/* The file, with one member's value replaced or (NULL) left out. Where each value lies, for who changes bytes. */
struct file {
        char text[1024];
        size_t size, begin[ARRAY_SIZE(members)], end[ARRAY_SIZE(members)];
};

static void make(struct file *f, const char *key, const char *value) {
        char *p = f->text, *end = f->text + sizeof(f->text);

        p += snprintf(p, (size_t) (end - p), "{");
        for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
                const char *v = key && streq(key, members[i].key) ? value : members[i].value;

                if (!v)
                        continue;
                p += snprintf(p, (size_t) (end - p), "%s\"%s\":", p[-1] == '{' ? "" : ",", members[i].key);
                f->begin[i] = (size_t) (p - f->text);
                p += snprintf(p, (size_t) (end - p), "%s", v);
                f->end[i] = (size_t) (p - f->text);
        }
        p += snprintf(p, (size_t) (end - p), "}");
        f->size = (size_t) (p - f->text);
        require(f->size + 1 < sizeof(f->text));
}

/* An entry that was not written must not have been touched. */
static int parse(const char *text, size_t size, struct journal_entry *ret) {
        char *copy = test_copy(text, size);
        struct journal_entry e;
        int r;

        memset(&e, 0x5a, sizeof(e));
        r = journal_parse(copy, size, BOOT, BDF, &e);
        free(copy);
        if (r < 0) {
                for (size_t i = 0; i < sizeof(e); i++)
                        if (!check(((const unsigned char *) &e)[i] == 0x5a))
                                break;
                return r;
        }
        if (ret)
                *ret = e;
        else
                journal_entry_clear(&e);
        return r;
}

static void check_parse(const char *key, const char *value, int expected) {
        struct file f = {};

        make(&f, key, value);
        test_about("%s: %s", key, value ? value : "(absent)");
        check_int(parse(f.text, f.size, NULL), expected);
}

static void test_good(void) {
        static const char older[] = "{\"version\":2,\"boot\":\"" BOOT "\",\"bdf\":\"" BDF "\",\"vm\":\"1\",\"sequence\":1,\"group\":1,"
                                    "\"done\":[\"prepare.attach\"],\"values\":{}}";
        static const char bound[] = "{\"version\":3,\"boot\":\"" BOOT "\",\"bdf\":\"" BDF "\",\"vm\":\"1\",\"sequence\":1,\"group\":1,"
                                    "\"done\":[\"open.bind\"],\"values\":{}}";
        struct journal_entry e;
        struct file f = {};

        test_about("%s", "good");
        make(&f, NULL, NULL);
        require(parse(f.text, f.size, &e) == 0);
        check_str(e.vm_id, "1763000000123");
        check_int(e.sequence, 12);
        check_int(e.group, 7);
        check_int(e.done, 1 << ACTION_CLAIM_CHECK | 1 << ACTION_CLAIM_NOTE | 1 << ACTION_CLAIM_PM);
        check_int(e.begun, 1 << ACTION_CLAIM_OVERRIDE | 1 << ACTION_CLAIM_REBIND);
        check_str(e.quarantine, "the kernel said no");
        check_str(json_str_or(e.values, "driver", ""), "nvme");
        check_int(json_object_object_length(e.values), 2);
        journal_entry_clear(&e);
        check(!e.vm_id && !e.values && !e.quarantine);
        journal_entry_clear(&e);

        make(&f, "begun", NULL);
        require(parse(f.text, f.size, &e) == 0);
        check_int(e.begun, 0);
        journal_entry_clear(&e);

        make(&f, "quarantine", NULL);
        require(parse(f.text, f.size, &e) == 0);
        check_str(e.quarantine, NULL);
        journal_entry_clear(&e);

        make(&f, "done", "[]");
        require(parse(f.text, f.size, &e) == 0);
        check_int(e.done, 0);
        journal_entry_clear(&e);

        /* Of a tdid whose table was shorter. */
        make(&f, "version", "2");
        require(parse(f.text, f.size, &e) == 0);
        check_int(e.done, 1 << ACTION_CLAIM_CHECK | 1 << ACTION_CLAIM_NOTE | 1 << ACTION_CLAIM_PM);
        journal_entry_clear(&e);
        require(parse(older, strlen(older), &e) == 0);
        check_int(e.done, 1 << ACTION_PREPARE_VIOMMU | 1 << ACTION_PREPARE_VDEVICE | 1 << ACTION_PREPARE_ATTACH | 1 << ACTION_PREPARE_WITHDRAW);
        journal_entry_clear(&e);

        make(&f, "version", "3");
        require(parse(f.text, f.size, &e) == 0);
        check_int(e.done, 1 << ACTION_CLAIM_CHECK | 1 << ACTION_CLAIM_NOTE | 1 << ACTION_CLAIM_PM);
        journal_entry_clear(&e);
        require(parse(bound, strlen(bound), &e) == 0);
        check_int(e.done, 1 << ACTION_OPEN_ASSOCIATE | 1 << ACTION_OPEN_BIND);
        journal_entry_clear(&e);

        for (int a = 0; a < ACTION_MAX; a++) {
                char list[80];

                snprintf(list, sizeof(list), "[\"%s\"]", custody_table[a].name);
                make(&f, "begun", list);
                require(parse(f.text, f.size, &e) == 0);
                check_int(e.begun, 1 << a);
                journal_entry_clear(&e);
                make(&f, "done", list);
                require(parse(f.text, f.size, &e) == 0);
                check_int(e.done, 1 << a);
                journal_entry_clear(&e);
        }
}

static void test_members(void) {
        static const char *const wrong[] = { "null", "true", "{}", "[]", "1", "-1", "\"\"", "\"1\"", "[1]", "[null]", "[[]]", "18446744073709551615" };

        for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
                const char *key = members[i].key;
                bool optional = streq(key, "begun") || streq(key, "quarantine");

                check_parse(key, NULL, optional ? 0 : -EBADMSG);
                for (size_t k = 0; k < ARRAY_SIZE(wrong); k++) {
                        const char *v = wrong[k];
                        int expected = -EBADMSG;

                        if ((streq(key, "vm") || streq(key, "quarantine")) && *v == '"')
                                expected = 0;
                        else if (streq(key, "boot") && *v == '"')
                                expected = -ESTALE;
                        else if ((streq(key, "sequence") && (streq(v, "1") || strlen(v) == 20)) ||
                                 (streq(key, "group") && (streq(v, "1") || streq(v, "-1"))) || (streq(key, "version") && streq(v, "1")) ||
                                 ((streq(key, "done") || streq(key, "begun")) && streq(v, "[]")) || (streq(key, "values") && streq(v, "{}")))
                                expected = 0;
                        else if (streq(key, "version") && strlen(v) == 20)
                                expected = -EPROTONOSUPPORT;
                        check_parse(key, v, expected);
                }
        }
}

static void test_other(void) {
        static const char *const texts[] = { "", " ", "{", "{}", "[]", "null", "1", "\"\"", "{\"version\":1}", "\0" };

        check_parse("version", "0", -EBADMSG);
        check_parse("version", "2", 0);
        check_parse("version", "3", 0);
        check_parse("version", "4", 0);
        check_parse("version", "5", -EPROTONOSUPPORT);
        check_parse("version", "1.0", -EBADMSG);
        check_parse("boot", "\"0f9d1b6a-24f0-4c39-8b39-7c2f1f3c5d12\"", -ESTALE);
        check_parse("boot", "\"" BOOT "x\"", -ESTALE);
        check_parse("bdf", "\"0000:01:00.1\"", -EBADMSG);
        check_parse("bdf", "\"01:00.0\"", -EBADMSG);
        check_parse("bdf", "\"0000_01_00_0\"", -EBADMSG);
        check_parse("done", "[\"claim.check\",\"claim.nothing\"]", -EBADMSG);
        check_parse("done", "[\"claim\"]", -EBADMSG);
        check_parse("done", "[\"\"]", -EBADMSG);
        check_parse("done", "[\"claim.check\",0]", -EBADMSG);
        check_parse("done", "\"claim.check\"", -EBADMSG);
        check_parse("done", "{\"claim.check\":true}", -EBADMSG);
        check_parse("begun", "[\"prepare.everything\"]", -EBADMSG);
        check_parse("begun", "[\"\"]", -EBADMSG);
        check_parse("begun", "\"claim.check\"", -EBADMSG);
        check_parse("begun", "{\"claim.check\":true}", -EBADMSG);
        check_parse("group", "2147483647", 0);
        check_parse("group", "2147483648", -EBADMSG);
        check_parse("group", "-2", -EBADMSG);
        check_parse("group", "4294967295", -EBADMSG);
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                test_about("\"%s\"", texts[i]);
                check_int(parse(texts[i], strlen(texts[i]), NULL), -EBADMSG);
        }
        test_about("%s", "a NUL alone");
        check_int(parse("\0", 1, NULL), -EBADMSG);
}

static void test_cut(void) {
        struct file f = {};

        make(&f, NULL, NULL);
        for (size_t i = 0; i < f.size; i++) {
                test_about("the first %zu bytes", i);
                check_int(parse(f.text, i, NULL), -EBADMSG);
        }
}

static const char *differs(const struct journal_entry *a, const struct journal_entry *b) {
        return !streq(a->vm_id, b->vm_id) ? "vm" :
               a->sequence != b->sequence ? "sequence" :
               a->group != b->group ? "group" :
               a->done != b->done ? "done" :
               a->begun != b->begun ? "begun" :
               !json_object_equal(a->values, b->values) ? "values" :
               !streq_ptr(a->quarantine, b->quarantine) ? "quarantine" : NULL;
}

/*
 * Without a checksum a number or a free text can change unnoticed into another one. But no changed byte may make a member
 * vanish, nor one member change another, nor a sub-action become another sub-action.
 */
static void test_changed(void) {
        struct journal_entry good, e;
        struct file f = {};

        make(&f, NULL, NULL);
        require(parse(f.text, f.size, &good) == 0);
        for (size_t i = 0; i < f.size; i++) {
                char old = f.text[i];

                for (unsigned c = 0; c < 256; c++) {
                        const char *what;
                        bool excused = false;

                        if ((char) c == old)
                                continue;
                        f.text[i] = (char) c;
                        test_about("byte %zu, '%c', as 0x%02x: …%.*s…", i, old, c, 24, f.text + (i < 12 ? 0 : i - 12));
                        if (parse(f.text, f.size, &e) < 0)
                                continue;
                        what = differs(&good, &e);
                        for (size_t m = 0; what && m < ARRAY_SIZE(members); m++)
                                excused |= streq(members[m].key, what) && i >= f.begin[m] && i < f.end[m] && !streq(what, "done") &&
                                           !streq(what, "begun");
                        journal_entry_clear(&e);
                        if (what && !excused) {
                                test_fail(__FILE__, __LINE__, "accepted, with another \"%s\"", what);
                                break;
                        }
                }
                f.text[i] = old;
        }
        journal_entry_clear(&good);
}

int main(void) {
        test_good();
        test_members();
        test_other();
        test_cut();
        test_changed();
        return test_end();
}
