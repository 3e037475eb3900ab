/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Reading policies: what is refused, where and with which words; folders, files that override and mask, and the limits. */
#include <pwd.h>
#include <sys/stat.h>

#include "model/json.h"
#include "policy/policy.h"
#include "policy/report.h"
#include "test.h"

/* The user database: root, and users named user-UID. In the place of libc's, which may ask a server far away. */
static unsigned asked;

int getpwnam_r(const char *restrict name, struct passwd *restrict pw, _unused_ char *restrict buf, _unused_ size_t size, struct passwd **restrict ret) {
        bool known = streq(name, "root") || startswith(name, "user-");

        asked++;
        if (known)
                *pw = (struct passwd){ .pw_uid = streq(name, "root") ? 0 : (uid_t) atoi(name + 5) };
        *ret = known ? pw : NULL;
        return 0;
}

static int load_text(const char *text, size_t size, struct policy **ret, struct policy_error *why) {
        char *copy = test_copy(text, size);
        struct policy_text one = { "f.json", copy, size };
        int r = policy_load_texts(&one, 1, ret, why);

        free(copy);
        return r;
}

#define HEAD "{\"schema\": \"tdid-policy/1\", "
#define RULES(rules) HEAD "\"rules\": [\n" rules "\n]}"
#define RULE(rest) RULES("{\"name\": \"r\", " rest "}")
#define ALLOW(rest) RULE("\"decision\": \"allow\", " rest)
#define MATCH(rest) ALLOW("\"match\": {" rest "}")
#define REQUIRE(rest) RULE("\"decision\": \"require\", \"require\": {" rest "}")

static const struct {
        const char *text; /* the place is marked with a ^ */
        const char *why;  /* a part of it */
} refused[] = {
        /* the file */
        { "^", "a value is missing" },
        { "^[]", "an object is expected" },
        { "^{}", "\"schema\": \"tdid-policy/1\" is missing" },
        { "{\"schema\": ^1}", "is not \"tdid-policy/1\"" },
        { "{\"schema\": ^\"tdid-policy/2\", \"rules\": []}", "is not \"tdid-policy/1\"" },
        { HEAD "\"rules\": ^{}}", "\"rules\" is not a list" },
        { HEAD "^\"x\": 1}", "unknown key \"x\"" },
        { HEAD "^\"rulse\": []}", "did you mean \"rules\"?" },
        { "^{\"schema\": \"tdid-policy/1\"}", "\"rules\" is missing" },
        { HEAD "\"rules\": [],\n ^\"rules\": []}", "duplicate key" },
        { HEAD "\"rules\": [], \"description\": ^1}", "\"description\" is a string" },
        { HEAD "\"anchors\": ^[], \"rules\": []}", "\"anchors\" is an object" },
        { HEAD "\"anchors\": {\"a\": ^\"b.pem\"}, \"rules\": []}", "begins with a slash" },
        { HEAD "\"anchors\": {^\"/a\": \"/b.pem\"}, \"rules\": []}", "does not begin with a slash" },
        { HEAD "\"references\": {\"a\": ^7}, \"rules\": []}", "the path of a file is expected" },
        { HEAD "\"rules\": [1^.5]}", "fractions" },
        /* the rule */
        { RULES("^7"), "an object is expected" },
        { RULES("^{}"), "the rule has no \"name\"" },
        { RULES("^null"), "an object is expected" },
        { RULES("{\"name\": ^7}"), "a rule's \"name\"" },
        { RULES("{\"name\": ^\"\"}"), "a rule's \"name\"" },
        { RULES("{\"name\": ^\"a\\nb\"}"), "control character" },
        { RULES("{\"name\": ^\"0123456789012345678901234567890123456789012345678901234567890123x\"}"), "1 to 64 bytes" },
        { RULES("^{\"name\": \"r\"}"), "rule \"r\" has neither a \"decision\" nor limits" },
        { RULES("^{\"name\": \"r\", \"match\": {}}"), "neither" },
        { RULE("\"decision\": ^\"alow\""), "did you mean \"allow\"?" },
        { RULE("\"decision\": ^\"perhaps\""), "one of \"allow\", \"deny\", \"require\"" },
        { RULE("\"decision\": ^true"), "one of \"allow\"" },
        { RULE("\"decision\": ^null"), "null: leave it out" },
        { RULE("^\"decison\": \"allow\""), "did you mean \"decision\"?" },
        { RULES("^{\"name\": \"r\", \"decision\": \"require\"}"), "\"require\" is missing" },
        { RULE("\"decision\": \"deny\", ^\"limits\": {\"vms\": 1}"), "does not go with \"decision\": \"deny\"" },
        { RULE("\"decision\": \"deny\", ^\"require\": {}"), "does not go with" },
        { ALLOW("^\"require\": {\"guard\": true}"), "does not go with \"decision\": \"allow\"" },
        { RULE("\"limits\": {\"vms\": 1}, ^\"permit\": []"), "\"permit\" needs a \"decision\"" },
        { ALLOW("\"description\": ^[]"), "is a string" },
        { RULES("{\"name\": \"r\", \"decision\": \"deny\"},\n  ^{\"name\": \"r\", \"decision\": \"allow\"}"), "another rule \"r\" in this file, in line 2" },
        /* match */
        { ALLOW("\"match\": ^[]"), "an object is expected" },
        { MATCH("^\"bfd\": \"01:00.0\""), "did you mean \"bdf\"?" },
        { MATCH("^\"tee-io\": true"), "did you mean \"tee_io\"?" },
        { MATCH("^\"colour\": 1"), "unknown key \"colour\"" },
        { MATCH("\"bdf\": ^[]"), "never match" },
        { MATCH("\"bdf\": ^7"), "takes a string or a list" },
        { MATCH("\"bdf\": [\"01:00.0\", ^7]"), "takes a string or a list" },
        { MATCH("\"bdf\": [^[\"01:00.0\"]]"), "takes a string" },
        { MATCH("\"bdf\": ^\"01:00\""), "no address" },
        { MATCH("\"path\": ^\"01:00.9\""), "no address" },
        { MATCH("\"serial\": ^\"00-11\""), "serial number" },
        { MATCH("\"serial\": ^\"00-1b-21-ff-ff-c0-ff-ee-00\""), "serial number" },
        { MATCH("\"id\": ^\"8086\""), "VENDOR:DEVICE" },
        { MATCH("\"id\": ^\"80866:1572\""), "VENDOR:DEVICE" },
        { MATCH("\"id\": ^\"8086:15722\""), "VENDOR:DEVICE" },
        { MATCH("\"id\": ^\"*:1572\""), "VENDOR:DEVICE" },
        { MATCH("\"subsystem\": ^\"8086:*\""), "four hex digits each" },
        { MATCH("\"class\": ^\"020\""), "two, four or six" },
        { MATCH("\"class\": ^\"0g\""), "two, four or six" },
        { MATCH("\"tee_io\": ^\"yes\""), "true or false" },
        { MATCH("\"sriov\": ^\"VF\""), "one of \"none\", \"pf\", \"vf\"" },
        { MATCH("\"vm\": ^\"a b\""), "no name of a VM" },
        { MATCH("\"vm\": ^\"\""), "no name of a VM" },
        { MATCH("\"owner\": ^-1"), "a uid is 0 to" },
        { MATCH("\"owner\": ^4294967295"), "a uid is 0 to" },
        { MATCH("\"owner\": ^true"), "a uid or a user's name" },
        { MATCH("\"owner\": [0, ^\"no-such-user-here\"]"), "there is no user \"no-such-user-here\"" },
        { MATCH("\"platform\": ^\"sev\""), "\"sev-snp\"" },
        { MATCH("\"mode\": [\"early\", ^\"latte\"]"), "did you mean \"late\"?" },
        { MATCH("\"access\": ^null"), "null" },
        { MATCH("\"evidence\": ^\"/a\""), "an object is expected" },
        { MATCH("\"evidence\": ^{}"), "needs an \"anchor\"" },
        { MATCH("\"evidence\": {\"anchor\": ^\"a\"}"), "neither a path" },
        { MATCH("\"evidence\": {\"anchor\": ^1}"), "has to be a string" },
        { MATCH("\"evidence\": {\"anchor\": \"/a\", ^\"max_age\": 1}"), "unknown key \"max_age\"" },
        { MATCH("\"evidence\": [{\"anchor\": \"/a\"}, {\"anchor\": \"/a\", \"signed\": ^1}]"), "true or false" },
        /* require */
        { RULE("\"decision\": \"require\", \"require\": ^{}"), "nothing is required" },
        { REQUIRE("\"ide\": ^\"yes\""), "\"secure\"" },
        { REQUIRE("\"mode\": ^\"late\""), "\"early\"" },
        { REQUIRE("\"access\": ^1"), "\"vpci\"" },
        { REQUIRE("\"guard\": ^false"), "true, or left out" },
        { REQUIRE("^\"gard\": true"), "did you mean \"guard\"?" },
        { REQUIRE("\"evidence\": ^[]"), "a list of 1 to 64" },
        { REQUIRE("\"evidence\": {\"anchor\": \"/a\", \"max_age\": ^0}"), "a number of seconds" },
        { REQUIRE("\"evidence\": {\"anchor\": \"/a\", \"references\": ^\"m\"}"), "\"references\"" },
        /* the rest */
        { ALLOW("\"permit\": ^\"handoff\""), "is a list" },
        { ALLOW("\"permit\": [^\"handof\"]"), "did you mean \"handoff\"?" },
        { ALLOW("\"permit\": [\"handoff\", ^\"handoff\"]"), "twice" },
        { ALLOW("\"limits\": ^{}"), "no limit is given" },
        { ALLOW("\"limits\": {^\"device\": 1}"), "did you mean \"devices\"?" },
        { ALLOW("\"limits\": {\"devices\": ^\"4\"}"), "a number from 0" },
        { ALLOW("\"limits\": {\"devices\": ^-1}"), "a number from 0" },
        { ALLOW("\"limits\": {\"shared_bytes\": ^\"4X\"}"), "such as" },
        { ALLOW("\"limits\": {\"shared_bytes\": ^\"99999999999999T\"}"), "such as" },
        { ALLOW("\"ide_reserve\": ^0"), "1 to 256" },
        { ALLOW("\"ide_reserve\": ^\"1\""), "1 to 256" },
        { ALLOW("\"on_illegal_config_write\": ^\"refused\""), "did you mean \"refuse\"?" },
};

static void test_refused(void) {
        for (size_t i = 0; i < ARRAY_SIZE(refused); i++) {
                struct policy *p = NULL;
                struct policy_error why = {};
                unsigned line = 1, column = 1;
                char text[512];
                const char *mark = strchr(refused[i].text, '^');

                test_about("%s", refused[i].text);
                require(mark);
                for (const char *c = refused[i].text; c < mark; c++) {
                        line += *c == '\n';
                        column = *c == '\n' ? 1 : column + 1;
                }
                snprintf(text, sizeof(text), "%.*s%s", (int) (mark - refused[i].text), refused[i].text, mark + 1);
                check_int(load_text(text, strlen(text), &p, &why), -EBADMSG);
                check(!p);
                check_str(why.file, "f.json");
                check_int(why.line, line);
                check_int(why.column, column);
                if (!strstr(why.text, refused[i].why))
                        check_str(why.text, refused[i].why);
        }
}

static void test_taken(void) {
        static const char *const taken[] = {
                HEAD "\"rules\": []}",
                HEAD "\"description\": \"x\", \"anchors\": {}, \"references\": {}, \"rules\": []}",
                RULE("\"limits\": {\"vms\": 0}"),
                RULE("\"ide_reserve\": 256"),
                ALLOW("\"permit\": [], \"limits\": {\"pinned_bytes\": \"16T\", \"shared_bytes\": 0, \"exports\": 1, \"fds\": 2}, \"on_illegal_config_write\": \"shadow\""),
                MATCH("\"bdf\": \"0000:01:00.0\", \"serial\": \"001b21ffffc0ffee\", \"id\": \"8086:1572\", \"class\": \"0x020000\", \"owner\": [\"root\", 7]"),
                HEAD "\"anchors\": {\"a\": \"/a.pem\"}, \"references\": {\"m\": \"/m.json\"}, \"rules\": [{\"name\": \"r\", \"decision\": \"require\", \"require\": "
                     "{\"evidence\": [{\"anchor\": \"a\", \"references\": \"m\"}, {\"anchor\": \"/a.pem\", \"references\": \"/m.json\", \"signed\": false}]}}]}",
        };

        for (size_t i = 0; i < ARRAY_SIZE(taken); i++) {
                struct policy *p = NULL;
                struct policy_error why = {};
                char text[1024];

                test_about("%s", taken[i]);
                if (!check_int(load_text(taken[i], strlen(taken[i]), &p, &why), 0))
                        fprintf(stderr, "%s\n", policy_error_format(&why, text, sizeof(text)));
                /* A name of the file's own is its path: the last one has one pair. */
                if (p && i + 1 == ARRAY_SIZE(taken)) {
                        static struct policy_wanted w[POLICY_PAIRS_MAX];

                        check_int(policy_all_evidence(p, w), 1);
                        check(streq(w[0].anchor, "/a.pem") && streq(w[0].references, "/m.json"));
                }
                check(policy_ref(p) == p);
                policy_unref(p);
                policy_unref(p);
        }
        check(!policy_unref(NULL) && !policy_ref(NULL));
}

/* ---- folders ---- */

static char dirs[3][96];
static const char *const dir_list[] = { dirs[0], dirs[1], dirs[2] };

static void put(unsigned dir, const char *name, const char *text) {
        char path[192];

        snprintf(path, sizeof(path), "%s/%s", dirs[dir], name);
        test_write_file(path, text, strlen(text));
}

static void put_rule(unsigned dir, const char *file, const char *rule) {
        char text[256];

        snprintf(text, sizeof(text), RULES("{\"name\": \"%s\", \"decision\": \"allow\"}"), rule);
        put(dir, file, text);
}

/* The names of all rules, in their order. */
static void check_loaded(size_t n_dirs, const char *expected) {
        struct policy *p = NULL;
        struct policy_error why = {};
        char text[1024] = "";

        if (!check_int(policy_load(dir_list, n_dirs, &p, &why), 0))
                fprintf(stderr, "%s\n", policy_error_format(&why, text, sizeof(text)));
        *text = 0;
        for (size_t i = 0; p && i < policy_n_rules(p); i++)
                snprintf(text + strlen(text), sizeof(text) - strlen(text), "%s%s", i ? " " : "", policy_get_rule(p, i)->name);
        check_str(text, expected);
        policy_unref(p);
}

static void check_fails(int error, const char *file, const char *why_part) {
        struct policy *p = NULL;
        struct policy_error why = {};
        char path[192];

        check_int(policy_load(dir_list, 3, &p, &why), error);
        check(!p);
        snprintf(path, sizeof(path), "%s/%s", dirs[0], file);
        check_str(why.file, path);
        if (!strstr(why.text, why_part))
                check_str(why.text, why_part);
}

static void remove_file(unsigned dir, const char *name) {
        char path[192];

        snprintf(path, sizeof(path), "%s/%s", dirs[dir], name);
        check_int(remove(path), 0);
}

static void test_folders(void) {
        char top[64], path[192];
        unsigned fds = test_count_fds();
        struct policy *p = NULL;
        struct policy_error why;
        bool masked = false;

        test_make_dir(top);
        for (unsigned i = 0; i < 3; i++)
                snprintf(dirs[i], sizeof(dirs[i]), "%s/%u", top, i);
        test_about("no folders");
        check_loaded(0, "");
        check_loaded(3, "");
        test_about("folders");
        for (unsigned i = 0; i < 3; i++)
                require(mkdir(dirs[i], 0755) == 0);
        put_rule(0, "50-b.json", "usr-b");
        put_rule(0, "10-a.json", "usr-a");
        put_rule(0, "README", "not read");
        put_rule(0, ".hidden.json", "not read");
        put(0, ".json", "not read");
        put(0, "x.json~", "not read");
        check_loaded(3, "usr-a usr-b");
        /* By names, not by folders. */
        put_rule(1, "20-c.json", "etc-c");
        check_loaded(3, "usr-a etc-c usr-b");
        check_loaded(1, "usr-a usr-b");
        put_rule(1, "10-a.json", "etc-a");
        check_loaded(3, "etc-a etc-c usr-b");
        put_rule(2, "10-a.json", "run-a");
        check_loaded(3, "run-a etc-c usr-b");
        /* What is overridden is not read, however bad. */
        put(0, "10-a.json", "{");
        check_loaded(3, "run-a etc-c usr-b");

        test_about("masked");
        snprintf(path, sizeof(path), "%s/50-b.json", dirs[1]);
        require(symlink("/dev/null", path) == 0);
        check_loaded(3, "run-a etc-c");
        check_int(policy_load(dir_list, 3, &p, &why), 0);
        check_int(policy_n_files(p), 3);
        check_str(policy_get_file(p, 2, &masked), path);
        check(masked && policy_get_file(p, 0, &masked) && !masked && !policy_get_file(p, 3, NULL));
        snprintf(path, sizeof(path), "%s/20-c.json", dirs[1]);
        check_str(policy_get_rule(p, 1)->file, path);
        check_int(policy_get_rule(p, 1)->line, 2);
        check_int(policy_get_rule(p, 1)->column, 1);
        check(!policy_get_rule(p, 2));
        p = policy_unref(p);
        /* A mask can be overridden too. */
        put_rule(2, "50-b.json", "run-b");
        check_loaded(3, "run-a etc-c run-b");

        test_about("bad files");
        put(0, "30-bad.json", "{\n \"schema\"");
        check_fails(-EBADMSG, "30-bad.json", "':' expected");
        remove_file(0, "30-bad.json");
        snprintf(path, sizeof(path), "%s/30-gone.json", dirs[0]);
        require(symlink("/nonexistent/file", path) == 0);
        check_fails(-ENOENT, "30-gone.json", "No such file");
        remove_file(0, "30-gone.json");
        snprintf(path, sizeof(path), "%s/30-dir.json", dirs[0]);
        require(mkdir(path, 0755) == 0);
        check_fails(-EBADMSG, "30-dir.json", "it is not a file");
        remove_file(0, "30-dir.json");
        /* Nobody waits for the other end. */
        snprintf(path, sizeof(path), "%s/30-fifo.json", dirs[0]);
        require(mkfifo(path, 0644) == 0);
        check_fails(-EBADMSG, "30-fifo.json", "it is not a file");
        remove_file(0, "30-fifo.json");
        put_rule(0, "30-open.json", "anybody's");
        snprintf(path, sizeof(path), "%s/30-open.json", dirs[0]);
        require(chmod(path, 0666) == 0);
        check_fails(-EBADMSG, "30-open.json", "everybody may write");
        remove_file(0, "30-open.json");
        check_loaded(3, "run-a etc-c run-b");
        check_int(test_count_fds(), fds);
        test_remove_dir(top);
}

/* ---- names of users ---- */

#define OWNERS(name, owners) "{\"name\": \"" name "\", \"decision\": \"allow\", \"match\": {\"owner\": [" owners "]}}"

/* Each load asks for a user once, in however many rules and files it stands, whether there is one or not. */
static void test_owners(void) {
        static const char text[] = RULES(OWNERS("a", "\"user-7\", \"user-8\", \"user-7\"") "," OWNERS("b", "\"user-8\", \"root\"") "," OWNERS("c", "\"user-7\""));
        const struct policy_text two[] = { { "a.json", text, sizeof(text) - 1 }, { "b.json", text, sizeof(text) - 1 } };
        struct policy_facts facts = { .vm = "vm", .platform = "plain" };
        struct policy *p = NULL;
        struct policy_error why;
        char top[64], path[192];
        const char *const dirs_of[] = { top };
        _cleanup_json_ struct json_object *list = NULL;
        static struct policy_decision d;

        test_about("users");
        asked = 0;
        check_int(policy_load_texts(two, 2, &p, &why), 0);
        check_int(asked, 3);
        for (unsigned i = 0; i < 10; i++) {
                facts.owner = i;
                policy_decide(p, &facts, &d);
                check_int(!d.is_default, i == 0 || i == 7 || i == 8);
        }
        p = policy_unref(p);
        test_make_dir(top);
        for (unsigned i = 0; i < 2; i++) {
                snprintf(path, sizeof(path), "%s/%u.json", top, i);
                test_write_file(path, text, sizeof(text) - 1);
        }
        /* Another load asks again: users come and go. */
        for (unsigned i = 0; i < 2; i++) {
                asked = 0;
                check_int(policy_load(dirs_of, 1, &p, &why), 0);
                check_int(asked, 3);
                p = policy_unref(p);
        }
        test_about("users that there are not");
        for (unsigned i = 0; i < 2; i++) {
                static const char bad[] = RULES(OWNERS("a", "\"user-7\", \"nobody-here\"") "," OWNERS("b", "\"nobody-here\"") "," OWNERS("c", "\"nobody-there\""));

                snprintf(path, sizeof(path), "%s/%u.json", top, i);
                test_write_file(path, bad, sizeof(bad) - 1);
        }
        asked = 0;
        check_int(policy_check(dirs_of, 1, &list), 6);
        check_int(asked, 3);
        test_remove_dir(top);
}

/* ---- limits ---- */

static char *many_rules(unsigned first, unsigned n, size_t *ret_size) {
        char *text = NULL;
        FILE *f = open_memstream(&text, ret_size);

        require(f);
        fputs(HEAD "\"rules\": [", f);
        for (unsigned i = 0; i < n; i++)
                fprintf(f, "%s{\"name\":\"%u\",\"decision\":\"deny\"}", i ? "," : "", first + i);
        fputs("]}", f);
        require(fclose(f) == 0 && text);
        return text;
}

static void test_limits(void) {
        char top[64], path[192], *texts[2];
        struct policy_text two[2];
        struct policy *p = NULL;
        struct policy_error why;
        size_t size;

        test_about("rules");
        for (unsigned i = 0; i < 2; i++) {
                texts[i] = many_rules(i * POLICY_RULES_MAX / 2, POLICY_RULES_MAX / 2 + i, &size);
                two[i] = (struct policy_text){ i ? "b.json" : "a.json", texts[i], size };
        }
        check_int(policy_load_texts(two, 2, &p, &why), -E2BIG);
        check_str(why.file, "b.json");
        free(texts[1]);
        texts[1] = many_rules(POLICY_RULES_MAX / 2, POLICY_RULES_MAX / 2, &size);
        two[1] = (struct policy_text){ "b.json", texts[1], size };
        check_int(policy_load_texts(two, 2, &p, &why), 0);
        check_int(policy_n_rules(p), POLICY_RULES_MAX);
        check_str(policy_get_rule(p, POLICY_RULES_MAX - 1)->name, "19999");
        p = policy_unref(p);
        free(texts[0]);
        free(texts[1]);

        test_about("values of a list");
        for (unsigned n = POLICY_LIST_MAX; n <= POLICY_LIST_MAX + 1; n++) {
                char *text = NULL;
                FILE *f = open_memstream(&text, &size);

                require(f);
                fputs(HEAD "\"rules\": [{\"name\": \"r\", \"decision\": \"deny\", \"match\": {\"owner\": [", f);
                for (unsigned i = 0; i < n; i++)
                        fprintf(f, "%s%u", i ? "," : "", i);
                fputs("]}}]}", f);
                require(fclose(f) == 0 && text);
                check_int(load_text(text, size, &p, &why), n > POLICY_LIST_MAX ? -EBADMSG : 0);
                p = policy_unref(p);
                free(text);
        }

        test_about("pairs");
        for (unsigned n = POLICY_PAIRS_MAX; n <= POLICY_PAIRS_MAX + 1; n++) {
                char *text = NULL;
                FILE *f = open_memstream(&text, &size);

                require(f);
                fputs(HEAD "\"rules\": [", f);
                for (unsigned i = 0; i < n; i++)
                        fprintf(f, "%s{\"name\": \"%u\", \"decision\": \"deny\", \"match\": {\"evidence\": {\"anchor\": \"/%u\"}}}", i ? "," : "", i, i);
                fputs("]}", f);
                require(fclose(f) == 0 && text);
                check_int(load_text(text, size, &p, &why), n > POLICY_PAIRS_MAX ? -EBADMSG : 0);
                p = policy_unref(p);
                free(text);
        }

        test_make_dir(top);
        snprintf(dirs[0], sizeof(dirs[0]), "%s", top);
        dirs[1][0] = dirs[2][0] = 0;
        snprintf(dirs[1], sizeof(dirs[1]), "%s/none", top);
        snprintf(dirs[2], sizeof(dirs[2]), "%s/none", top);
        test_about("bytes of a file");
        texts[0] = malloc(POLICY_FILE_MAX + 1);
        require(texts[0]);
        memset(texts[0], ' ', POLICY_FILE_MAX + 1);
        memcpy(texts[0], HEAD "\"rules\": []}", strlen(HEAD "\"rules\": []}"));
        snprintf(path, sizeof(path), "%s/big.json", top);
        test_write_file(path, texts[0], POLICY_FILE_MAX);
        check_loaded(1, "");
        test_write_file(path, texts[0], POLICY_FILE_MAX + 1);
        check_fails(-E2BIG, "big.json", "longer than 1 MiB");

        test_about("bytes of all files");
        test_write_file(path, texts[0], POLICY_FILE_MAX);
        for (unsigned i = 1; i < POLICY_TOTAL_MAX / POLICY_FILE_MAX; i++) {
                char name[192];

                snprintf(name, sizeof(name), "%s/big-%02u.json", top, i);
                test_write_file(name, texts[0], POLICY_FILE_MAX);
        }
        check_loaded(1, "");
        put(0, "zzz.json", HEAD "\"rules\": []}");
        check_fails(-E2BIG, "zzz.json", "longer than 32 MiB");
        free(texts[0]);
        test_remove_dir(top);

        test_about("files");
        test_make_dir(top);
        snprintf(dirs[0], sizeof(dirs[0]), "%s", top);
        for (unsigned i = 0; i < POLICY_FILES_MAX; i++) {
                char name[32];

                snprintf(name, sizeof(name), "%u.json", i);
                put(0, name, HEAD "\"rules\": []}");
        }
        check_loaded(1, "");
        put(0, "more.json", HEAD "\"rules\": []}");
        check_int(policy_load(dir_list, 1, &p, &why), -E2BIG);
        check_str(why.file, top);
        test_remove_dir(top);
}

int main(void) {
        test_refused();
        test_taken();
        test_folders();
        test_owners();
        test_limits();
        return test_end();
}
