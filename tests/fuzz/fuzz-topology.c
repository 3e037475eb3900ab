/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of the simulation's topologies: the checker needs no machine. What it refuses has a reason that is plain text; what it
 * accepts has every address in its place, and config spaces whose lists end.
 */
#include "fuzz.h"
#include "model/json.h"
#include "sim/config.h"
#include "sim/topology.h"

static void check_function(const struct topology_function *f, const struct topology_function *pf) {
        uint8_t config[SIM_CONFIG_SIZE], writable[SIM_CONFIG_SIZE], rw1c[SIM_CONFIG_SIZE];
        unsigned at;
        size_t size;

        must(topology_config(f, pf, config, &size) == 0);
        must(size == 256 || size == SIM_CONFIG_SIZE);
        topology_config_masks(f, config, size, writable, rw1c);
        must(cfg_find(config, 0xee) == 0 || f->raw);
        at = cfg_find_ext(config, size, EXT_IDE);
        for (unsigned i = 0; at && i < cfg_ide_streams(config, at); i++)
                must(cfg_ide_block(config, at, i) + IDE_SEL_SIZE(0) <= SIM_CONFIG_SIZE);
        for (unsigned i = 0; i < SIM_BARS; i++) {
                const struct topology_bar *b = &f->bar[i];

                must((b->size & (b->size - 1)) == 0);
                must(!b->size || f->is_vf || (b->address && (b->address & (b->size - 1)) == 0));
                must(!b->wide || (i < SIM_BARS - 1 && !f->bar[i + 1].size));
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        _cleanup_json_ struct json_object *o = NULL;
        _cleanup_(sim_topology_freep) struct sim_topology *t = NULL;
        char text[256] = "";
        struct topology_why why = { text, sizeof(text) };
        int r;

        if (json_parse_strict((const char *) data, size, &o, NULL, NULL) < 0)
                return 0;
        r = sim_topology_new(o, &why, &t);
        must(r == 0 || r == -EINVAL);
        must((r == 0) == (text[0] == '\0'));
        for (const char *c = text; *c; c++)
                must((unsigned char) *c >= ' ');
        must(sim_topology_check(o, text, 1) == r);
        if (r < 0)
                return 0;
        must(t->n_functions <= TOPOLOGY_FUNCTIONS_MAX);
        for (size_t i = 0; i < t->n_functions; i++) {
                const struct topology_function *f = &t->functions[i];
                unsigned depth = 0;

                for (const struct topology_function *up = f->parent; up; up = up->parent) {
                        must(up->secondary <= f->bus && f->bus <= up->subordinate);
                        must(++depth < 256);
                }
                if (i < 64)
                        check_function(f, NULL);
                if (i < 64 && f->vf)
                        check_function(f->vf, f);
        }
        return 0;
}
