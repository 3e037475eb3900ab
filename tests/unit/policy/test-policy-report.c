/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What people are told of policies: what is wrong with them, why they decide so, and the rule that pins a device. */
#include <sys/stat.h>

#include "model/json.h"
#include "policy/report.h"
#include "test.h"

static char folder[64];

static void put(const char *name, const char *rules) {
        char path[128], text[4096];

        snprintf(path, sizeof(path), "%s/%s", folder, name);
        snprintf(text, sizeof(text), "{\"schema\": \"tdid-policy/1\", \"rules\": [\n%s\n]}", rules);
        test_write_file(path, text, strlen(text));
}

/* "KIND LINE:COLUMN; …" of what policy_check() finds. */
static void check_findings(const char *const paths[], size_t n, int errors, const char *expected) {
        _cleanup_json_ struct json_object *list = NULL;
        char text[1024] = "";

        check_int(policy_check(paths, n, &list), errors);
        for (size_t i = 0; list && i < json_object_array_length(list); i++) {
                struct json_object *o = json_object_array_get_idx(list, i);

                snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s %d:%d", i ? "; " : "", json_str_or(o, "kind", "?"),
                         (int) json_u64_or(o, "line", 0), (int) json_u64_or(o, "column", 0));
                check(!isempty(json_str_or(o, "text", NULL)) && !isempty(json_str_or(o, "file", NULL)));
                check_str(json_str_or(o, "severity", NULL), streq(json_str_or(o, "kind", ""), "invalid") ? "error" : "warning");
        }
        check_str(text, expected);
}

#define DENY(name, match) "{\"name\": \"" name "\", \"decision\": \"deny\", \"match\": {" match "}}"
#define ALLOW(name, match) "{\"name\": \"" name "\", \"decision\": \"allow\", \"match\": {" match "}}"

#define HANDOFF(name, access, anchor) "{\"name\": \"" name "\", \"decision\": \"require\", \"match\": {\"access\": " access "}, " \
        "\"require\": {\"evidence\": {\"anchor\": \"" anchor "\"}}}"

static void test_findings(void) {
        static const struct {
                const char *rules;
                int errors;
                const char *findings;
        } cases[] = {
                { ALLOW("a", "\"owner\": 1"), 0, "" },
                { ALLOW("a", "\"owner\": 1") ",\n" DENY("b", "\"owner\": 2"), 0, "" },
                /* the same, whichever way it is written */
                { ALLOW("a", "\"owner\": 1") ",\n" DENY("b", "\"owner\": [1]"), 0, "contradiction 3:1" },
                { DENY("a", "\"id\": [\"8086:0001\", \"10de:0002\"]") ",\n" ALLOW("b", "\"id\": [\"10DE:0002\", \"8086:0001\"]"), 0, "contradiction 3:1" },
                { DENY("a", "") ",\n{\"name\": \"b\", \"decision\": \"allow\"}", 0, "contradiction 3:1" },
                /* a part of what is denied; with other conditions it is more specific */
                { DENY("a", "\"owner\": [1, 2]") ",\n" ALLOW("b", "\"owner\": 2"), 0, "unreachable 3:1" },
                { ALLOW("b", "\"owner\": 2") ",\n" DENY("a", "\"owner\": [1, 2]"), 0, "unreachable 2:1" },
                { DENY("a", "\"owner\": 2") ",\n" ALLOW("b", "\"owner\": [1, 2]"), 0, "" },
                { DENY("a", "\"owner\": 2") ",\n" ALLOW("b", "\"owner\": 2, \"vm\": \"x\""), 0, "" },
                { DENY("a", "\"mode\": [\"early\", \"late\"]") ",\n" ALLOW("b", "\"mode\": \"late\""), 0, "unreachable 3:1" },
                { DENY("a", "\"vm\": \"*\"") ",\n" ALLOW("b", "\"vm\": \"web-*\""), 0, "unreachable 3:1" },
                { DENY("a", "\"vm\": \"web-*\"") ",\n" ALLOW("b", "\"vm\": \"*\""), 0, "" },
                { DENY("a", "\"class\": \"02\"") ",\n" ALLOW("b", "\"class\": [\"0200\", \"02\"]"), 0, "contradiction 3:1" },
                { DENY("a", "\"class\": [\"02\", \"03\"]") ",\n" ALLOW("b", "\"class\": [\"0200\", \"02\"]"), 0, "unreachable 3:1" },
                { DENY("a", "\"class\": \"02\"") ",\n" ALLOW("b", "\"class\": \"0200\""), 0, "" },
                { DENY("a", "\"owner\": [1, 2]") ",\n" DENY("b", "\"owner\": 2"), 0, "unreachable 3:1" },
                { ALLOW("a", "\"owner\": 1") ",\n" ALLOW("b", "\"owner\": 1"), 0, "duplicate 3:1" },
                { "{\"name\": \"a\", \"limits\": {\"vms\": 1}},\n{\"name\": \"b\", \"limits\": {\"fds\": 1}},\n" DENY("c", ""), 0, "" },
                /* evidence */
                { DENY("a", "\"evidence\": {\"anchor\": \"/dev/null/x\"}") ",\n" ALLOW("b", "\"evidence\": {\"anchor\": \"/dev/null/x\", \"signed\": true}"), 0,
                  "unreachable 3:1; evidence-denies 2:1; missing-file 2:68" },
                { DENY("a", "\"evidence\": {\"anchor\": \"/etc\"}"), 0, "evidence-denies 2:1; missing-file 2:68" },
                /* requirements */
                { "{\"name\": \"a\", \"decision\": \"require\", \"match\": {\"mode\": \"late\"}, \"require\": {\"mode\": \"early\"}}", 0, "never-met 2:1" },
                { "{\"name\": \"a\", \"decision\": \"require\", \"match\": {\"access\": \"handoff\"}, \"require\": {\"access\": \"vpci\"}}", 0, "never-met 2:1" },
                { "{\"name\": \"a\", \"decision\": \"require\", \"match\": {\"mode\": [\"late\", \"early\"]}, \"require\": {\"mode\": \"early\"}}", 0, "" },
                /* evidence is collected for rules that could decide when a function is attached, and for no others */
                { HANDOFF("a", "\"handoff\"", "/etc/group"), 0, "never-met 2:1" },
                { HANDOFF("a", "[\"handoff\", \"vpci\"]", "/etc/group"), 0, "" },
                { HANDOFF("a", "\"handoff\"", "/etc/group") ",\n" HANDOFF("b", "\"vpci\"", "/etc/group"), 0, "" },
                { HANDOFF("a", "\"handoff\"", "/etc/group") ",\n" HANDOFF("b", "\"vpci\"", "/etc/passwd"), 0, "never-met 2:1" },
                { HANDOFF("a", "\"handoff\"", "/etc/group") ",\n" ALLOW("b", "\"evidence\": {\"anchor\": \"/etc/group\"}"), 0, "" },
                { HANDOFF("a", "\"handoff\"", "/etc/group") ",\n" HANDOFF("b", "\"handoff\"", "/etc/group"), 0, "never-met 2:1; never-met 3:1" },
                /* every rule that is wrong, and those that are right as well */
                { "{\"name\": \"a\", \"decison\": \"deny\"},\n" ALLOW("b", "\"owner\": 1") ",\n7,\n" ALLOW("c", "\"bdf\": [\"x\"]") ",\n" DENY("d", "\"owner\": 1"), 3,
                  "invalid 2:15; invalid 4:1; invalid 5:54; contradiction 6:1" },
                { ALLOW("a", "\"owner\": 1") ",\n" ALLOW("a", "\"owner\": 2"), 1, "invalid 3:1" },
                { "{\"name\": \"a\" 1}", 1, "invalid 2:14" },
        };
        const char *const paths[] = { folder };
        char path[128], anchor[128], rules[512];
        const char *const files[] = { path, "/nonexistent/file.json" };

        snprintf(path, sizeof(path), "%s/a.json", folder);
        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                test_about("%s", cases[i].rules);
                put("a.json", cases[i].rules);
                check_findings(paths, 1, cases[i].errors, cases[i].findings);
                check_findings(files, 1, cases[i].errors, cases[i].findings);
        }
        test_about("anchors that everybody may write to");
        snprintf(anchor, sizeof(anchor), "%s/anchor.pem", folder);
        test_write_file(anchor, "", 0);
        snprintf(rules, sizeof(rules), ALLOW("a", "\"evidence\": {\"anchor\": \"%s\", \"references\": \"%s\"}"), anchor, anchor);
        put("a.json", rules);
        require(chmod(anchor, 0664) == 0);
        check_findings(paths, 1, 0, "");
        require(chmod(anchor, 0646) == 0);
        check_findings(paths, 1, 0, "writable-file 2:69; writable-file 2:119");
        test_about("files");
        put("a.json", ALLOW("a", "\"owner\": 1"));
        check_findings(files, 2, 1, "invalid 0:0");
        put("b.json", DENY("b", "\"owner\": 1"));
        check_findings(paths, 1, 0, "contradiction 2:1");
        put("c.json", "1");
        check_findings(paths, 1, 1, "invalid 2:1; contradiction 2:1");
        check_findings(paths, 0, 0, "");
}

static struct policy *load(void) {
        const char *const dirs[] = { folder };
        struct policy *p = NULL;
        struct policy_error why;

        require(policy_load(dirs, 1, &p, &why) == 0);
        return p;
}

static const char *plain(struct json_object *o, const char *key) {
        struct json_object *v = NULL;

        require(json_object_object_get_ex(o, key, &v));
        return json_object_to_json_string_ext(v, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}

static void test_explain(void) {
        const struct policy_facts facts = { .has_device = true, .class = 0x030200, .owner = 7, .vm = "web-1", .now_usec = 100000000, .ide_secure = POLICY_NO };
        struct policy_facts nobody = { .owner = 8 };
        _cleanup_policy_ struct policy *p = NULL;
        struct json_object *o;
        char expected[512];

        test_about("explain");
        put("a.json", "{\"name\": \"r\", \"decision\": \"require\", \"match\": {\"class\": \"03\", \"owner\": 7}, \"require\": {\"ide\": \"secure\", \"guard\": true, "
                      "\"evidence\": {\"anchor\": \"/a\", \"max_age\": 9, \"signed\": true}}, \"limits\": {\"vms\": 3}, \"permit\": [\"handoff\"], "
                      "\"on_illegal_config_write\": \"shadow\", \"ide_reserve\": 2},\n" DENY("close", "\"class\": \"03\", \"vm\": \"db\"") ",\n" DENY("next", "\"class\": \"03\""));
        p = load();
        o = policy_explain(p, &facts);
        check_str(plain(o, "decision"), "\"deny\"");
        check_str(plain(o, "default"), "false");
        snprintf(expected, sizeof(expected), "{\"name\":\"r\",\"file\":\"%s/a.json\",\"line\":2,\"column\":1,\"decision\":\"require\"}", folder);
        check_str(plain(o, "rule"), expected);
        check_str(plain(o, "requires"), "[\"ide\",\"guard\",\"evidence\"]");
        check_str(plain(o, "evidence"), "[{\"anchor\":\"/a\",\"references\":null,\"max_age\":9,\"signed\":true}]");
        check_str(plain(o, "unmet"), "[{\"requirement\":\"ide\",\"rule\":\"r\",\"text\":\"requires a secure IDE stream: there is none\"},"
                                     "{\"requirement\":\"evidence\",\"rule\":\"r\",\"anchor\":\"/a\",\"references\":null,\"text\":\"requires evidence for /a: there is none\"}]");
        check_str(plain(o, "pending"), "[\"guard\"]");
        check_str(plain(o, "permits"), "[\"handoff\"]");
        check_str(plain(o, "limits"), "[{\"limit\":\"vms\",\"max\":3,\"rule\":\"r\"}]");
        check_str(plain(o, "ide_reserve"), "2");
        check_str(plain(o, "on_illegal_config_write"), "\"shadow\"");
        snprintf(expected, sizeof(expected), "[{\"name\":\"next\",\"file\":\"%s/a.json\",\"line\":4,\"column\":1,\"decision\":\"deny\"}]", folder);
        check_str(plain(o, "next"), expected);
        snprintf(expected, sizeof(expected), "[{\"name\":\"close\",\"file\":\"%s/a.json\",\"line\":3,\"column\":1,\"decision\":\"deny\",\"failed\":\"vm\"}]", folder);
        check_str(plain(o, "close"), expected);
        json_object_put(o);

        o = policy_explain(p, &nobody);
        check_str(plain(o, "rule"), "null");
        check_str(plain(o, "default"), "true");
        check_str(plain(o, "on_illegal_config_write"), "null");
        json_object_put(o);

        o = policy_to_json(p);
        snprintf(expected, sizeof(expected), "[{\"file\":\"%s/a.json\",\"masked\":false}]", folder);
        check_str(plain(o, "files"), expected);
        check_int(json_object_array_length(json_object_object_get(o, "rules")), 3);
        check_str(plain(json_object_array_get_idx(json_object_object_get(o, "rules"), 1), "source"),
                  "{\"name\":\"r\",\"decision\":\"require\",\"match\":{\"class\":\"03\",\"owner\":7},\"require\":{\"ide\":\"secure\",\"guard\":true,"
                  "\"evidence\":{\"anchor\":\"/a\",\"max_age\":9,\"signed\":true}},\"limits\":{\"vms\":3},\"permit\":[\"handoff\"],"
                  "\"on_illegal_config_write\":\"shadow\",\"ide_reserve\":2}");
        json_object_put(o);
}

/* What is suggested is a policy that takes this device, and not its neighbour. */
static void test_suggest(void) {
        const struct policy_proof proofs[] = { { "/a.pem", "/m.json", 5, true, NULL }, { "/b.pem", NULL, 5, false, NULL }, { "/c.pem", NULL, 5, true, "expired" } };
        struct policy_facts f = { .has_device = true, .bdf = 0x00000100, .vendor = 0x10de, .device = 0x2331, .subsystem_vendor = 0x10de, .subsystem_device = 0x1626,
                                  .class = 0x030200, .has_serial = true, .serial = UINT64_C(0x001b21ffffc0ffee), .tee_io = true, .proofs = proofs, .n_proofs = 3,
                                  .now_usec = 6, .owner = 1000, .vm = "ml-1" };
        struct json_object *o = policy_suggest(&f, true, "sha256:00ff");
        static struct policy_decision d;
        struct policy_text text = { "suggested.json", NULL, 0 };
        struct policy *p = NULL;
        struct policy_error why = {};

        test_about("suggest");
        text.text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY);
        text.size = strlen(text.text);
        check_str(plain(o, "rules"),
                  "[{\"name\":\"device 0000:01:00.0\",\"description\":\"10de:2331, class 030200, evidence sha256:00ff\",\"match\":{\"bdf\":\"0000:01:00.0\","
                  "\"serial\":\"00-1b-21-ff-ff-c0-ff-ee\",\"subsystem\":\"10de:1626\",\"id\":\"10de:2331\",\"vm\":\"ml-1\",\"owner\":1000},\"decision\":\"require\","
                  "\"require\":{\"ide\":\"secure\",\"evidence\":[{\"anchor\":\"/a.pem\",\"references\":\"/m.json\",\"signed\":true},{\"anchor\":\"/b.pem\"}]}}]");
        text.text = json_object_to_json_string_ext(o, JSON_C_TO_STRING_PRETTY);
        text.size = strlen(text.text);
        require(policy_load_texts(&text, 1, &p, &why) == 0);
        f.ide_secure = POLICY_YES;
        policy_decide(p, &f, &d);
        check_int(d.verdict, POLICY_ALLOW);
        check(!d.is_default);
        f.serial++;
        policy_decide(p, &f, &d);
        check(d.is_default);
        f.serial--;
        f.n_proofs = 1;
        policy_decide(p, &f, &d);
        check_int(d.n_unmet, 1);
        p = policy_unref(p);
        json_object_put(o);

        f = (struct policy_facts){ .has_device = true, .bdf = 0x00010203, .vendor = 0x1234, .device = 0x11e8, .class = 0x00ff00 };
        o = policy_suggest(&f, false, NULL);
        check_str(plain(o, "rules"), "[{\"name\":\"device 0001:02:00.3\",\"description\":\"1234:11e8, class 00ff00\",\"match\":{\"bdf\":\"0001:02:00.3\",\"id\":\"1234:11e8\"},"
                                     "\"decision\":\"allow\"}]");
        json_object_put(o);
}

int main(void) {
        test_make_dir(folder);
        test_findings();
        test_remove_dir(folder);
        require(mkdir(folder, 0755) == 0);
        test_explain();
        test_suggest();
        test_remove_dir(folder);
        return test_end();
}
