/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Fuzz target of policy files: any text is refused at a place that is in it, or makes a policy that answers any facts. */
#include "fuzz.h"
#include "policy/policy.h"

static uint32_t take(const uint8_t *data, size_t size, size_t *at) {
        uint32_t v = 0;

        for (int i = 0; i < 4 && size > 0; i++)
                v = v << 8 | data[(*at)++ % size];
        return v;
}

/*
 * Who collects what is wanted, and nothing else, gets the decision that all evidence would give. Whoever is proven with references is so
 * without.
 */
static void ask_of_wanted(const struct policy *p, struct policy_facts f, const uint8_t *data, size_t size, size_t at) {
        static struct policy_wanted all[POLICY_PAIRS_MAX], wanted[POLICY_PAIRS_MAX];
        static struct policy_proof proofs[POLICY_PAIRS_MAX], some[POLICY_PAIRS_MAX];
        static struct policy_decision d, again;
        size_t n = policy_all_evidence(p, all), n_wanted, n_some = 0;
        bool is_signed = take(data, size, &at) & 1;

        f.proofs = proofs;
        f.n_proofs = 0;
        for (size_t i = 0; i < n; i++)
                all[i].is_signed = take(data, size, &at) & 1; /* proven */
        for (size_t i = 0; i < n; i++)
                for (size_t k = 0; k < n && !all[i].references; k++)
                        all[i].is_signed = all[i].is_signed || (all[k].is_signed && streq(all[i].anchor, all[k].anchor));
        for (size_t i = 0; i < n; i++)
                if (all[i].is_signed)
                        proofs[f.n_proofs++] = (struct policy_proof){ all[i].anchor, all[i].references, f.now_usec, is_signed, NULL };
        policy_decide(p, &f, &d);

        n_wanted = policy_wanted_evidence(p, &f, wanted);
        for (size_t i = 0; i < f.n_proofs; i++)
                for (size_t k = 0; k < n_wanted; k++)
                        if (streq(proofs[i].anchor, wanted[k].anchor) && streq_ptr(proofs[i].references, wanted[k].references))
                                some[n_some++] = proofs[i];
        f.proofs = some;
        f.n_proofs = n_some;
        policy_decide(p, &f, &again);
        must(again.verdict == d.verdict && again.rule == d.rule && again.n_unmet == d.n_unmet && again.ide_reserve == d.ide_reserve);
        must(memcmp(&again.limits, &d.limits, sizeof(d.limits)) == 0);
}

/* Facts from the text's own bytes. */
static void ask(const struct policy *p, const uint8_t *data, size_t size, size_t at) {
        static struct policy_wanted wanted[POLICY_PAIRS_MAX];
        static struct policy_proof proofs[POLICY_PAIRS_MAX];
        static struct policy_decision d, again;
        static const char *const vms[] = { "a", "web-1", "ml-prod-1", NULL };
        static const char *const platforms[] = { "tdx", "plain", "?", NULL };
        struct policy_limits limits;
        uint32_t path[2] = { take(data, size, &at), 0x10 };
        struct policy_facts f = {
                .has_device = take(data, size, &at) & 1,
                .bdf = take(data, size, &at) & 0xffff,
                .path = path,
                .n_path = 2,
                .vendor = (uint16_t) take(data, size, &at),
                .device = (uint16_t) take(data, size, &at),
                .class = take(data, size, &at) & 0xffffff,
                .has_serial = take(data, size, &at) & 1,
                .serial = take(data, size, &at),
                .tee_io = take(data, size, &at) & 1,
                .sriov = (enum policy_sriov) (take(data, size, &at) % _POLICY_SRIOV_MAX),
                .now_usec = UINT64_C(1) << 50,
                .vm = vms[take(data, size, &at) % 4],
                .owner = take(data, size, &at) % 4,
                .platform = platforms[take(data, size, &at) % 4],
                .mode = (enum policy_mode) (take(data, size, &at) % _POLICY_MODE_MAX),
                .access = (enum policy_access) (take(data, size, &at) % _POLICY_ACCESS_MAX),
                .ide_secure = (enum policy_answer) (take(data, size, &at) % 3),
                .guard = (enum policy_answer) (take(data, size, &at) % 3),
                .association = take(data, size, &at) & 1,
                .proofs = proofs,
        };
        size_t n = policy_wanted_evidence(p, &f, wanted);
        char text[512];

        must(n <= policy_all_evidence(p, wanted));
        n = policy_wanted_evidence(p, &f, wanted);
        for (size_t i = 0; i < n; i++)
                if (take(data, size, &at) & 1)
                        proofs[f.n_proofs++] = (struct policy_proof){ wanted[i].anchor, wanted[i].references, f.now_usec, take(data, size, &at) & 1, NULL };

        policy_decide(p, &f, &d);
        must(d.is_default == !d.rule && (d.rule || d.verdict == (f.owner == 0 ? POLICY_ALLOW : POLICY_DENY)));
        must(d.verdict == POLICY_DENY || (d.n_unmet == 0 && (!d.rule || d.rule->decides != POLICY_RULE_DENIES)));
        must(d.n_unmet == 0 || d.verdict == POLICY_DENY);
        must((d.pending & ~d.requires) == 0 && d.n_next <= POLICY_NEXT_MAX && d.n_close <= POLICY_CLOSE_MAX && strlen(d.text) > 0);
        for (size_t i = 0; i < d.n_unmet; i++)
                must(*policy_unmet_describe(&d, i, &f, text, sizeof(text)));
        policy_limits(p, &f, &limits);
        must(memcmp(limits.max, d.limits.max, sizeof(limits.max)) == 0);

        ask_of_wanted(p, f, data, size, at);

        /* More of what is good takes nothing away, where no rule asks which evidence there is. */
        if (f.n_proofs == 0 && n == 0) {
                f.ide_secure = f.guard = POLICY_YES;
                policy_decide(p, &f, &again);
                must(again.rule == d.rule && again.verdict >= d.verdict);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct policy_text text = { "fuzz.json", (const char *) data, size };
        struct policy *p = NULL;
        struct policy_error why = {};
        unsigned lines = 1;
        int r;

        r = policy_load_texts(&text, 1, &p, &why);
        if (r < 0) {
                for (size_t i = 0; i < size; i++)
                        lines += data[i] == '\n';
                must(!p && (r == -EBADMSG || r == -E2BIG) && *why.text && streq(why.file, "fuzz.json"));
                must(why.line >= 1 && why.line <= lines && why.column >= 1);
                return 0;
        }
        for (size_t i = 0; i < policy_n_rules(p); i++) {
                const struct policy_rule *rule = policy_get_rule(p, i);

                must(rule->line >= 1 && rule->line <= size && rule->column >= 1 && !isempty(rule->name));
        }
        for (size_t i = 0; i < 8; i++)
                ask(p, data, size, i * 7);
        policy_unref(p);
        return 0;
}
