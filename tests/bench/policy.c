/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * What a decision costs: of 10,000 rules, in milliseconds, and beside ten times what it costs of 1,000 in the same run: what is linear
 * has the ratio 1. Half of the rules have a condition that holds and one that does not, so that none is left out early; the last decides.
 *
 *   bench-policy [ROUNDS] [--json]
 */
#include <err.h>
#include <stdio.h>
#include <time.h>

#include "figures.h"
#include "policy/policy.h"

#define MANY 10000u
#define FEW 1000u

static struct policy_decision decision;

static uint64_t now(void) {
        struct timespec t;

        (void) clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t) t.tv_sec * 1000000000 + (uint64_t) t.tv_nsec;
}

static struct policy *make(unsigned n) {
        struct policy_text texts[MANY / FEW] = {};
        struct policy *p = NULL;
        struct policy_error why;
        char message[1024];

        for (unsigned k = 0; k < n / FEW; k++) {
                char *text = NULL;
                size_t size;
                FILE *f = open_memstream(&text, &size);

                if (!f)
                        err(1, "open_memstream");
                fputs("{\"schema\": \"tdid-policy/1\", \"rules\": [", f);
                for (unsigned i = 0; i < FEW; i++) {
                        unsigned number = k * FEW + i;

                        fprintf(f, "%s{\"name\": \"r%u\", \"decision\": \"allow\", \"match\": {", i ? "," : "", number);
                        if (i == 0)
                                fprintf(f, "\"tee_io\": true");
                        else if (i % 2)
                                fprintf(f, "\"id\": [\"8086:%04x\", \"10de:*\"], \"class\": \"0302\", \"vm\": \"team-%u-*\"", number, number);
                        else
                                fprintf(f, "\"bdf\": \"%04x:%02x:00.0\", \"owner\": %u", number / 256, number % 256, 100000 + number);
                        fputs("}}", f);
                }
                fputs("]}", f);
                if (fclose(f) != 0)
                        err(1, "open_memstream");
                texts[k] = (struct policy_text){ "bench.json", text, size };
        }
        if (policy_load_texts(texts, n / FEW, &p, &why) < 0)
                errx(1, "%s", policy_error_format(&why, message, sizeof(message)));
        for (unsigned k = 0; k < n / FEW; k++)
                free((void *) (uintptr_t) texts[k].text);
        return p;
}

static uint64_t decide(const struct policy *p, const struct policy_facts *f) {
        uint64_t begin = now();

        policy_decide(p, f, &decision);
        return now() - begin;
}

int main(int argc, char *argv[]) {
        struct policy *few, *many;
        struct samples of_few = {}, of_many = {};
        const struct policy_facts facts = { .has_device = true, .bdf = 0x12340000, .vendor = 0x10de, .device = 0x2331, .class = 0x030200, .tee_io = true,
                                            .vm = "team-x-1", .owner = 1000, .platform = "tdx", .mode = POLICY_MODE_EARLY, .access = POLICY_ACCESS_VPCI };
        unsigned rounds = 500;
        double value, baseline;

        for (int i = 1; i < argc; i++) {
                if (streq(argv[i], "--json"))
                        figures_json = true;
                else
                        rounds = (unsigned) strtoul(argv[i], NULL, 10);
        }
        few = make(FEW);
        many = make(MANY);
        for (unsigned i = 0; i < rounds; i++) {
                sample(&of_many, decide(many, &facts));
                if (!decision.rule || decision.verdict != POLICY_ALLOW || decision.n_winners != MANY / FEW)
                        errx(1, "not what was to be decided: %s", decision.text);
                /* As many rules in all, so that the caches are as full. */
                for (unsigned k = 0; k < MANY / FEW; k++)
                        sample(&of_few, decide(few, &facts));
        }
        value = percentile_us(&of_many, 50) / 1000;
        baseline = percentile_us(&of_few, 50) * MANY / FEW / 1000;
        figure("policy-decide-10000", value, 0, 1, "ms");
        figure("policy-decide-linear", value, baseline, 1.5, "ms");
        policy_unref(few);
        policy_unref(many);
        free(of_few.ns);
        free(of_many.ns);
        return 0;
}
