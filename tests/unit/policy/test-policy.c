/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What the policy decides: the cases of truth.json, and what the decision says besides. usage: test-policy TRUTH.JSON */
#include "policy-test.h"

static struct json_object *truth, *devices;

static void read_truth(const char *path) {
        static char text[1 << 20];
        struct json_place at;
        const char *why = "";
        FILE *f = fopen(path, "re");
        size_t size;

        require(f);
        size = fread(text, 1, sizeof(text), f);
        require(size < sizeof(text) && fclose(f) == 0);
        if (json_parse_strict_at(text, size, &truth, &at, &why) < 0) {
                fprintf(stderr, "%s:%u:%u: %s\n", path, at.line, at.column, why);
                exit(1);
        }
        require(json_get_object(truth, "devices", &devices) == 0);
}

/* The requirements of a set, in their order, against a list of names. */
static void check_requirements(struct json_object *o, const char *key, const enum policy_requirement *got, size_t n) {
        struct json_object *list = NULL;
        size_t expected = json_get_array(o, key, &list) == 0 ? json_object_array_length(list) : 0;

        check_int(n, expected);
        for (size_t i = 0; i < n && i < expected; i++)
                check_str(policy_requirement_to_string(got[i]), json_object_get_string(json_object_array_get_idx(list, i)));
}

/* What is wanted is enough: without evidence of any other pair the decision is the same. */
static void check_wanted(const struct policy *p, const struct facts *f, const struct policy_decision *d) {
        static struct policy_wanted wanted[POLICY_PAIRS_MAX];
        static struct policy_decision again;
        struct facts less = *f;
        size_t n;

        less.facts.n_proofs = 0;
        n = policy_wanted_evidence(p, &less.facts, wanted);
        less.facts.proofs = less.proofs;
        for (size_t i = 0; i < f->facts.n_proofs; i++) {
                bool is_wanted = false;

                /* Proofs beyond the wanted pairs may serve one without references. */
                for (size_t k = 0; k < n; k++)
                        is_wanted = is_wanted || (streq(wanted[k].anchor, f->proofs[i].anchor) &&
                                                  (!wanted[k].references || streq_ptr(wanted[k].references, f->proofs[i].references)));
                if (is_wanted)
                        less.proofs[less.facts.n_proofs++] = f->proofs[i];
        }
        policy_decide(p, &less.facts, &again);
        check_int(again.verdict, d->verdict);
        check(again.rule == d->rule);
}

static void check_case(const struct policy *p, struct json_object *o) {
        static struct policy_decision d;
        enum policy_requirement list[ARRAY_SIZE(d.unmet)];
        struct facts f;
        size_t n = 0;

        facts_of_case(&f, devices, o);
        memset(&d, 0x5a, sizeof(d));
        policy_decide(p, &f.facts, &d);
        check_str(d.verdict == POLICY_ALLOW ? "allow" : "deny", json_str_or(o, "decision", ""));
        check_str(d.rule ? d.rule->name : NULL, json_str_or(o, "rule", NULL));
        check_int(d.is_default, !d.rule);
        for (size_t i = 0; i < d.n_unmet; i++)
                list[i] = d.unmet[i].what;
        check_requirements(o, "unmet", list, d.n_unmet);
        for (unsigned i = 0; i < _POLICY_REQUIREMENT_MAX; i++)
                if (d.pending & 1u << i)
                        list[n++] = (enum policy_requirement) i;
        check_requirements(o, "pending", list, n);
        /* The sentence names the rule that it is about. */
        check(strlen(d.text) > 0 && strlen(d.text) < sizeof(d.text) - 1);
        check(!d.rule || strstr(d.text, d.n_unmet > 0 ? d.unmet[0].rule->name : d.rule->name));
        check(d.rule || strstr(d.text, "default"));
        check((d.n_unmet > 0) == startswith(d.text, "rule '"));
        check_wanted(p, &f, &d);
}

static void test_truth(void) {
        struct json_object *policies, *cases;
        size_t n_used = 0, n_cases;

        require(json_get_object(truth, "policies", &policies) == 0 && json_get_array(truth, "cases", &cases) == 0);
        n_cases = json_object_array_length(cases);
        json_object_object_foreach(policies, name, files) {
                struct policy *p = policy_of_files(files);
                size_t used = n_used;

                for (size_t i = 0; i < n_cases; i++) {
                        struct json_object *o = json_object_array_get_idx(cases, i);

                        if (!streq(json_str_or(o, "policy", ""), name))
                                continue;
                        test_about("%s: %s", name, json_object_to_json_string_ext(o, JSON_C_TO_STRING_PLAIN));
                        check_case(p, o);
                        n_used++;
                }
                check(n_used > used);
                policy_unref(p);
        }
        test_about("all");
        check_int(n_used, n_cases);
        check(n_cases >= 150);
}

/* ---- what else a decision says ---- */

static struct policy *policy_of(const char *rules) {
        _cleanup_json_ struct json_object *files = json_new();
        struct json_object *o = NULL;

        require(json_parse_strict(rules, strlen(rules), &o, NULL, NULL) == 0);
        json_set_take(files, "/etc/tdid/policy.d/50-a.json", o);
        return policy_of_files(files);
}

static void gpu_facts(struct facts *f, const char *more) {
        _cleanup_json_ struct json_object *o = NULL;

        require(json_parse_strict(more, strlen(more), &o, NULL, NULL) == 0);
        facts_of_case(f, devices, o);
        f->facts.vm = "ml-1"; /* outlives @o */
        f->facts.platform = "tdx";
}

static void test_text(void) {
        static struct policy_decision d;
        struct policy_proof wrong = { "/a.pem", "/m.json", NOW, true, "measurement 3 is 00, expected 01" };
        struct policy *p;
        struct facts f;

        test_about("text");
        p = policy_of("[{\"name\": \"x\", \"match\": {\"owner\": 7}, \"decision\": \"deny\"},"
                      "{\"name\": \"y\", \"match\": {\"owner\": 8}, \"decision\": \"allow\"},"
                      "{\"name\": \"z\", \"match\": {\"owner\": 9}, \"decision\": \"require\", \"require\": {\"ide\": \"secure\","
                      "\"evidence\": {\"anchor\": \"/a.pem\", \"references\": \"/m.json\", \"max_age\": 5, \"signed\": true}}}]");
        gpu_facts(&f, "{\"device\": \"gpu\", \"owner\": 7}");
        policy_decide(p, &f.facts, &d);
        check_str(d.text, "denied by rule 'x' (/etc/tdid/policy.d/50-a.json:1:37)");
        f.facts.owner = 8;
        policy_decide(p, &f.facts, &d);
        check_str(d.text, "allowed by rule 'y' (/etc/tdid/policy.d/50-a.json:1:88)");
        f.facts.owner = 0;
        policy_decide(p, &f.facts, &d);
        check_str(d.text, "allowed by default: no rule matches, and the VM's owner is root");
        f.facts.owner = 10;
        policy_decide(p, &f.facts, &d);
        check_str(d.text, "denied by default: no rule matches, and the VM's owner (uid 10) is not root; to allow it, write a rule (tdid-policy(5)) in /etc/tdid/policy.d and reload");
        f.facts.owner = 9;
        f.facts.ide_secure = POLICY_NO;
        policy_decide(p, &f.facts, &d);
        check_str(d.text, "rule 'z' (/etc/tdid/policy.d/50-a.json:1:140) requires a secure IDE stream: there is none; and 1 more");
        f.facts.ide_secure = POLICY_YES;
        policy_decide(p, &f.facts, &d);
        check_str(d.text, "rule 'z' (/etc/tdid/policy.d/50-a.json:1:140) requires evidence for /a.pem with /m.json: there is none");
        f.facts.proofs = &wrong;
        f.facts.n_proofs = 1;
        policy_decide(p, &f.facts, &d);
        check_str(d.text, "rule 'z' (/etc/tdid/policy.d/50-a.json:1:140) requires evidence for /a.pem with /m.json: measurement 3 is 00, expected 01");
        wrong.why = NULL;
        policy_decide(p, &f.facts, &d);
        check_int(d.verdict, POLICY_ALLOW);
        wrong.time_usec = NOW - 6000000;
        policy_decide(p, &f.facts, &d);
        check_str(d.text, "rule 'z' (/etc/tdid/policy.d/50-a.json:1:140) requires evidence for /a.pem with /m.json: it is 6 s old, at most 5 s are taken");
        wrong.time_usec = NOW + 1;
        policy_decide(p, &f.facts, &d);
        check_str(d.text, "rule 'z' (/etc/tdid/policy.d/50-a.json:1:140) requires evidence for /a.pem with /m.json: it is dated in the future");
        wrong.is_signed = false;
        policy_decide(p, &f.facts, &d);
        check_str(d.text, "rule 'z' (/etc/tdid/policy.d/50-a.json:1:140) requires evidence for /a.pem with /m.json: it is not signed");
        policy_unref(p);
}

static void test_close(void) {
        static struct policy_decision d;
        struct policy *p;
        struct facts f;

        test_about("close");
        p = policy_of("[{\"name\": \"any\", \"decision\": \"deny\"},"
                      "{\"name\": \"class\", \"match\": {\"class\": \"03\"}, \"decision\": \"allow\"},"
                      "{\"name\": \"class-vm\", \"match\": {\"class\": \"03\", \"vm\": \"web\"}, \"decision\": \"allow\"},"
                      "{\"name\": \"id-proof\", \"match\": {\"id\": \"10de:2331\", \"evidence\": {\"anchor\": \"/a\"}}, \"decision\": \"allow\"},"
                      "{\"name\": \"far\", \"match\": {\"id\": \"10de:2331\", \"vm\": \"web\", \"owner\": 1}, \"decision\": \"allow\"},"
                      "{\"name\": \"alone\", \"match\": {\"owner\": 1}, \"decision\": \"allow\"},"
                      "{\"name\": \"tee\", \"match\": {\"tee_io\": true}, \"decision\": \"allow\"}]");
        gpu_facts(&f, "{\"device\": \"gpu\", \"owner\": 1000}");
        policy_decide(p, &f.facts, &d);
        check_str(d.rule->name, "class");
        check_int(d.n_next, 2);
        check_str(d.next[0]->name, "tee");
        check_str(d.next[1]->name, "any");
        check_int(d.n_close, 2);
        check_str(d.close[0].rule->name, "id-proof");
        check_int(d.close[0].failed, POLICY_KEY_EVIDENCE);
        check_str(d.close[1].rule->name, "class-vm");
        check_int(d.close[1].failed, POLICY_KEY_VM);
        policy_unref(p);

        /* Who allowed as specifically as the one that denies is the first that came close. */
        p = policy_of("[{\"name\": \"a\", \"decision\": \"allow\"}, {\"name\": \"b\", \"decision\": \"deny\"}, {\"name\": \"c\", \"decision\": \"allow\"}]");
        policy_decide(p, &f.facts, &d);
        check_str(d.text, "denied by rule 'b' (/etc/tdid/policy.d/50-a.json:1:69)");
        check(d.n_next == 2 && streq(d.next[0]->name, "a") && streq(d.next[1]->name, "c"));
        check(d.n_winners == 1 && streq(d.winners[0]->name, "b"));
        policy_unref(p);
}

static void test_limits(void) {
        static struct policy_decision d;
        struct policy_limits limits;
        struct policy *p;
        struct facts f;

        test_about("limits");
        p = policy_of("[{\"name\": \"all\", \"limits\": {\"devices\": 8, \"vms\": 4, \"shared_bytes\": \"1G\"}},"
                      "{\"name\": \"team\", \"match\": {\"owner\": 1000}, \"decision\": \"allow\", \"limits\": {\"devices\": 2, \"pinned_bytes\": 4096}, \"ide_reserve\": 1},"
                      "{\"name\": \"gpus\", \"match\": {\"class\": \"03\"}, \"limits\": {\"devices\": 1, \"fds\": 0}, \"ide_reserve\": 2}]");
        gpu_facts(&f, "{\"device\": \"gpu\", \"owner\": 1000}");
        policy_decide(p, &f.facts, &d);
        check_str(d.rule->name, "team");
        check_int(d.limits.max[POLICY_LIMIT_DEVICES], 1);
        check_str(d.limits.rule[POLICY_LIMIT_DEVICES]->name, "gpus");
        check_int(d.limits.max[POLICY_LIMIT_VMS], 4);
        check_int(d.limits.max[POLICY_LIMIT_SHARED_BYTES], 1 << 30);
        check_int(d.limits.max[POLICY_LIMIT_PINNED_BYTES], 4096);
        check_int(d.limits.max[POLICY_LIMIT_FDS], 0);
        check(d.limits.max[POLICY_LIMIT_EXPORTS] == UINT64_MAX && !d.limits.rule[POLICY_LIMIT_EXPORTS]);
        check_int(d.ide_reserve, 2);
        policy_limits(p, &f.facts, &limits);
        check(memcmp(&limits, &d.limits, sizeof(limits)) == 0);
        f.facts.has_device = false;
        policy_limits(p, &f.facts, &limits);
        check_int(limits.max[POLICY_LIMIT_DEVICES], 2);
        check(limits.max[POLICY_LIMIT_FDS] == UINT64_MAX);
        f.facts.owner = 5;
        policy_limits(p, &f.facts, &limits);
        check_int(limits.max[POLICY_LIMIT_DEVICES], 8);
        policy_unref(p);

        p = policy_of("[{\"name\": \"a\", \"decision\": \"allow\", \"on_illegal_config_write\": \"unbind\", \"permit\": [\"handoff\", \"association\"]},"
                      "{\"name\": \"b\", \"decision\": \"allow\", \"on_illegal_config_write\": \"shadow\", \"permit\": [\"handoff\"]},"
                      "{\"name\": \"c\", \"match\": {\"owner\": 5}, \"decision\": \"allow\"}]");
        f.facts.owner = 1000;
        policy_decide(p, &f.facts, &d);
        check_int(d.on_illegal_config_write, POLICY_CONFIG_UNBIND);
        check_int(d.permits, POLICY_PERMITS_HANDOFF);
        check_int(d.n_winners, 2);
        f.facts.owner = 5;
        policy_decide(p, &f.facts, &d);
        check_int(d.on_illegal_config_write, POLICY_CONFIG_UNSAID);
        check_int(d.permits, 0);
        policy_unref(p);
}

static void test_wanted(void) {
        static struct policy_wanted w[POLICY_PAIRS_MAX];
        struct policy *p;
        struct facts f;

        test_about("wanted");
        p = policy_of("[{\"name\": \"gpu\", \"match\": {\"class\": \"03\"}, \"decision\": \"require\", \"require\": {\"evidence\": {\"anchor\": \"/a\", \"max_age\": 60}}},"
                      "{\"name\": \"gpu-2\", \"match\": {\"class\": \"03\"}, \"decision\": \"require\", \"require\": {\"evidence\": {\"anchor\": \"/a\", \"signed\": true}}},"
                      "{\"name\": \"id\", \"match\": {\"id\": \"10de:2331\", \"evidence\": {\"anchor\": \"/b\", \"references\": \"/m\"}}, \"decision\": \"deny\"},"
                      "{\"name\": \"low\", \"match\": {\"tee_io\": true}, \"decision\": \"require\", \"require\": {\"evidence\": {\"anchor\": \"/low\"}}},"
                      "{\"name\": \"limits\", \"match\": {\"tee_io\": true, \"evidence\": {\"anchor\": \"/l\"}}, \"limits\": {\"devices\": 1}},"
                      "{\"name\": \"nvme\", \"match\": {\"class\": \"0108\"}, \"decision\": \"require\", \"require\": {\"evidence\": {\"anchor\": \"/n\"}}}]");
        gpu_facts(&f, "{\"device\": \"gpu\", \"owner\": 1000}");
        check_int(policy_wanted_evidence(p, &f.facts, w), 3);
        /* By rank: evidence is before ids, that before class. */
        check(streq(w[0].anchor, "/b") && streq(w[0].references, "/m") && w[0].max_age_usec == UINT64_MAX && !w[0].is_signed);
        check(streq(w[1].anchor, "/l") && !w[1].references);
        check(streq(w[2].anchor, "/a") && !w[2].references && w[2].max_age_usec == 60000000 && w[2].is_signed);
        gpu_facts(&f, "{\"device\": \"nvme0\", \"owner\": 1000}");
        check_int(policy_wanted_evidence(p, &f.facts, w), 1);
        check_str(w[0].anchor, "/n");
        gpu_facts(&f, "{\"owner\": 1000}");
        check_int(policy_wanted_evidence(p, &f.facts, w), 0);
        check_int(policy_all_evidence(p, w), 5);
        policy_unref(p);

        /* Denied for certain: nothing to collect. */
        p = policy_of("[{\"name\": \"a\", \"decision\": \"require\", \"require\": {\"evidence\": {\"anchor\": \"/a\"}}}, {\"name\": \"b\", \"decision\": \"deny\"}]");
        gpu_facts(&f, "{\"device\": \"gpu\", \"owner\": 1000}");
        check_int(policy_wanted_evidence(p, &f.facts, w), 0);
        policy_unref(p);
}

int main(int argc, char *argv[]) {
        require(argc == 2);
        read_truth(argv[1]);
        test_truth();
        test_text();
        test_close();
        test_limits();
        test_wanted();
        json_object_put(truth);
        return test_end();
}
