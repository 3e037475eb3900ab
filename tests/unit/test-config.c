/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tdid.conf: every key and both ends of its range, what is refused and what is then said. */
#include "config.h"
#include "test.h"

static const struct {
        const char *section, *name;
        size_t offset;
        unsigned min, max;
        bool is_switch;
} keys[] = {
        { "limits", "vms", offsetof(struct config, vms), 1, 4096 },
        { "limits", "vms_per_user", offsetof(struct config, vms_per_user), 1, 4096 },
        { "limits", "functions", offsetof(struct config, functions), 1, 256 },
        { "limits", "keepers", offsetof(struct config, keepers), 1, 128 },
        { "limits", "jobs", offsetof(struct config, jobs), 16, 4096 },
        { "limits", "workers", offsetof(struct config, workers), 4, 1024 },
        { "limits", "pinned_mib", offsetof(struct config, pinned_mib), 1, 1U << 30 },
        { "limits", "pinned_mib_per_user", offsetof(struct config, pinned_mib_per_user), 1, 1U << 30 },
        { "limits", "maps", offsetof(struct config, maps), 1, 1U << 30 },
        { "limits", "exports", offsetof(struct config, exports), 1, 32 },
        { "limits", "export_mib", offsetof(struct config, export_mib), 1, 1U << 31 },
        { "limits", "buffer_mib", offsetof(struct config, buffer_mib), 1, 1U << 31 },
        { "limits", "exports_per_user", offsetof(struct config, exports_per_user), 1, 4096 },
        { "limits", "export_mib_per_user", offsetof(struct config, export_mib_per_user), 1, 1U << 31 },
        { "limits", "buffer_mib_per_user", offsetof(struct config, buffer_mib_per_user), 1, 1U << 31 },
        { "limits", "guest_requests_per_second", offsetof(struct config, guest_requests_per_second), 1, 1000000 },
        { "deadlines", "claim", offsetof(struct config, claim), 1, 3600 },
        { "deadlines", "open", offsetof(struct config, open), 1, 3600 },
        { "deadlines", "connect", offsetof(struct config, connect), 1, 3600 },
        { "deadlines", "prepare", offsetof(struct config, prepare), 1, 3600 },
        { "deadlines", "bind", offsetof(struct config, bind), 1, 3600 },
        { "deadlines", "close", offsetof(struct config, close), 1, 3600 },
        { "deadlines", "associate", offsetof(struct config, associate), 1, 3600 },
        { "policy", "associate_kvm", offsetof(struct config, associate_kvm), 0, 1, true },
        { "policy", "handoff", offsetof(struct config, handoff), 0, 1, true },
        { "policy", "peer_to_peer", offsetof(struct config, peer_to_peer), 0, 1, true },
        { "policy", "guest_requests", offsetof(struct config, guest_requests), 0, 1, true },
        { "policy", "guest_state_changes", offsetof(struct config, guest_state_changes), 0, 1, true },
        { "policy", "unbind_on_mismatch", offsetof(struct config, unbind_on_mismatch), 0, 1, true },
        { "deadlines", "evidence", offsetof(struct config, evidence), 1, 3600 },
        { "evidence", "doe", offsetof(struct config, evidence_doe), 0, 1, true },
        { "evidence", "archive_mib", offsetof(struct config, archive_mib), 1, 1U << 20 },
        { "evidence", "archive_records", offsetof(struct config, archive_records), 1, 65536 },
        { "ide", "reserved_streams", offsetof(struct config, reserved_streams), 0, 256 },
        { "ide", "require_secure", offsetof(struct config, require_secure), 0, 1, true },
};

static unsigned value(const struct config *c, size_t i) {
        return *(const unsigned *) (const void *) ((const char *) c + keys[i].offset);
}

static void check_same(const struct config *a, const struct config *b, size_t but) {
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                if (i != but)
                        check_int(value(a, i), value(b, i));
}

static void test_defaults(void) {
        struct config c;

        config_default(&c);
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                test_about("default of %s", keys[i].name);
                check(value(&c, i) >= keys[i].min && value(&c, i) <= keys[i].max);
        }
        /* What hands something dangerous out is off unless somebody switches it on. */
        check_int(c.handoff, 0);
        check_int(c.associate_kvm, 0);
        check_int(c.peer_to_peer, 0);
        check_int(c.evidence_doe, 0);
        check_int(c.require_secure, 1);
        /* Every number of the struct is a key: none can be set by nobody. */
        check_int(sizeof(struct config), ARRAY_SIZE(keys) * sizeof(unsigned));
}

static void test_ranges(void) {
        struct config defaults;

        config_default(&defaults);
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
                const intmax_t numbers[] = { INTMAX_MIN, -1, 0, keys[i].min - 1, keys[i].min, keys[i].max, keys[i].max + 1, UINT32_MAX,
                                             (intmax_t) UINT32_MAX + 1 + keys[i].min, INTMAX_MAX };

                for (size_t k = 0; k < ARRAY_SIZE(numbers) && !keys[i].is_switch; k++) {
                        bool right = numbers[k] >= keys[i].min && numbers[k] <= keys[i].max;
                        struct config c = defaults;
                        _cleanup_free_ char *text = NULL;
                        char json[128];

                        snprintf(json, sizeof(json), "{\"%s\":{\"%s\":%jd}}", keys[i].section, keys[i].name, numbers[k]);
                        test_about("%s", json);
                        check_int(config_parse(json, strlen(json), "F", &c, &text), right ? 0 : -EBADMSG);
                        check_same(&c, &defaults, right ? i : SIZE_MAX);
                        if (right)
                                check_int(value(&c, i), numbers[k]);
                        check(right ? !text : text && strstr(text, keys[i].name) && strstr(text, "range"));
                }
        }
}

static void test_switches(void) {
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
                for (unsigned on = 0; on < 2 && keys[i].is_switch; on++) {
                        _cleanup_free_ char *text = NULL;
                        struct config defaults, c;
                        char json[128];

                        config_default(&defaults);
                        c = defaults;
                        snprintf(json, sizeof(json), "{\"%s\":{\"%s\":%s}}", keys[i].section, keys[i].name, on ? "true" : "false");
                        test_about("%s", json);
                        check_int(config_parse(json, strlen(json), "F", &c, &text), 0);
                        check_int(value(&c, i), on);
                        check_same(&c, &defaults, i);
                }
}

static const struct {
        const char *json;
        const char *says; /* NULL: accepted */
} cases[] = {
        { "{}", NULL },
        { "{\"limits\":{}}", NULL },
        { "{\"limits\":{},\"deadlines\":{}}", NULL },
        { "{\n \"limits\": {\"vms\": 7, \"functions\": 8},\n \"deadlines\": {\"open\": 9}\n}\n", NULL },
        { "", "F:1: " },
        { "{\n\"limits\":\n\n", "F:4: " },
        { "{\"limits\":{\"vms\":1,\"vms\":1}}", "F:1: duplicate key" },
        { "{\"limits\":{},\n\"limits\":{}}", "F:2: duplicate key" },
        { "{\"limits\":{\"vms\":1.5}}", "F:1: " },
        { "{\"limits\":{\"vms\":1,}}", "F:1: " },
        { "{\"limits\":{\"vms\":99999999999999999999}}", "F:1: " },
        { "[]", "one object" },
        { "null", "one object" },
        { "1", "one object" },
        { "\"limits\"", "one object" },
        { "{\"limit\":{}}", "\"limit\": unknown key" },
        { "{\"Limits\":{}}", "\"Limits\": unknown key" },
        { "{\"\":{}}", "unknown key" },
        { "{\"vms\":1}", "\"vms\": unknown key" },
        { "{\"limits\":[]}", "\"limits\": not an object" },
        { "{\"limits\":null}", "\"limits\": not an object" },
        { "{\"limits\":1}", "\"limits\": not an object" },
        { "{\"limits\":{\"claim\":1}}", "\"limits\": \"claim\": unknown key" },
        { "{\"deadlines\":{\"vms\":1}}", "\"deadlines\": \"vms\": unknown key" },
        { "{\"limits\":{\"vm\":1}}", "unknown key" },
        { "{\"limits\":{\"vmss\":1}}", "unknown key" },
        { "{\"limits\":{\"vms\":\"7\"}}", "\"vms\": not a number" },
        { "{\"limits\":{\"vms\":true}}", "\"vms\": not a number" },
        { "{\"limits\":{\"vms\":null}}", "\"vms\": not a number" },
        { "{\"limits\":{\"vms\":[7]}}", "\"vms\": not a number" },
        { "{\"limits\":{\"vms\":{}}}", "\"vms\": not a number" },
        { "{\"limits\":{\"vms\":18446744073709551615}}", "\"vms\": not a number in its range" },
        { "{\"policy\":{}}", NULL },
        { "{\"policy\":{\"handoff\":false}}", NULL },
        { "{\"policy\":{\"handoff\":1}}", "\"policy\": \"handoff\": neither true nor false" },
        { "{\"policy\":{\"handoff\":0}}", "neither true nor false" },
        { "{\"policy\":{\"handoff\":\"true\"}}", "neither true nor false" },
        { "{\"policy\":{\"handoff\":null}}", "neither true nor false" },
        { "{\"policy\":{\"hand-off\":true}}", "\"hand-off\": unknown key" },
        { "{\"limits\":{\"handoff\":true}}", "\"handoff\": unknown key" },
        { "{\"policy\":true}", "\"policy\": not an object" },
        /* All or nothing: what came before the mistake is not taken either. */
        { "{\"limits\":{\"vms\":7,\"jobs\":1}}", "\"jobs\"" },
};

static void test_cases(void) {
        struct config defaults;

        config_default(&defaults);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct config c = defaults;
                _cleanup_free_ char *text = NULL;

                test_about("%s", cases[i].json);
                check_int(config_parse(cases[i].json, strlen(cases[i].json), "F", &c, &text), cases[i].says ? -EBADMSG : 0);
                if (!cases[i].says) {
                        check(!text);
                        continue;
                }
                check_same(&c, &defaults, SIZE_MAX);
                if (!check(text && strstr(text, cases[i].says) && startswith(text, "F")))
                        fprintf(stderr, "it says: %s\n", strempty(text));
        }
}

static void test_file(void) {
        static char large[65537];
        struct config defaults, c;
        char dir[64], path[128], *text = NULL;

        config_default(&defaults);
        test_make_dir(dir);
        snprintf(path, sizeof(path), "%s/tdid.conf", dir);
        test_about("%s", "files");

        c = defaults;
        check_int(config_load(path, &c, &text), -ENOENT);
        check(!text);
        check_same(&c, &defaults, SIZE_MAX);

        test_write_file(path, "{\"limits\":{\"vms\":7}}\n", 21);
        check_int(config_load(path, &c, &text), 0);
        check(!text);
        check_int(c.vms, 7);

        test_write_file(path, "{\n'", 3);
        check_int(config_load(path, &c, &text), -EBADMSG);
        check(text && startswith(text, path) && strstr(text, ":2: "));
        free(TAKE_PTR(text));

        /* As large as it may be, and larger. */
        memset(large, ' ', 65537);
        large[0] = '{';
        large[1] = '}';
        test_write_file(path, large, 65536);
        check_int(config_load(path, &c, &text), 0);
        test_write_file(path, large, 65537);
        check_int(config_load(path, &c, &text), -E2BIG);
        check(text && startswith(text, path));
        free(TAKE_PTR(text));

        check_int(config_load(dir, &c, &text), -EISDIR);
        check(text && startswith(text, dir));
        free(TAKE_PTR(text));
        check_int(c.vms, 7);
        test_remove_dir(dir);
}

int main(void) {
        test_defaults();
        test_ranges();
        test_switches();
        test_cases();
        test_file();
        return test_end();
}
