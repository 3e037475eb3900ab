/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The platform table, and TSMs that come and go as the reader reads them. */
#include "model/json.h"
#include "test.h"
#include "tsm.h"

static void test_table(void) {
        static const char *const expected[] = { "tdx", "sev-snp", "cca", "pkvm", "plain" };
        size_t n = 0;

        for (const struct platform *p = platforms; p->name; p++, n++) {
                test_about("%s", p->name);
                check(n < ARRAY_SIZE(expected) && streq(p->name, expected[n]));
                check(!isempty(p->title));
                check(platform_find(p->name) == p);
                for (const struct platform *q = platforms; q < p; q++)
                        check(!streq(p->name, q->name) && !streq(p->title, q->title));
                /* Every name leads to its own row only, by driver or by parent. */
                for (const char *const *d = p->tsm_drivers; d && *d; d++)
                        check(platform_of_tsm("x", *d) == p);
                for (const char *const *d = p->tsm_parents; d && *d; d++)
                        check(platform_of_tsm(*d, "") == p);
                check(p->has_tsm == (p->tsm_drivers || p->tsm_parents));
                /* Who must have everything ready before boot says in what, and takes nothing later. */
                check(p->early_prepare == (p->viommu != NULL));
                check(!p->early_prepare || !p->hotplug);
        }
        check_int(n, ARRAY_SIZE(expected));
}

static void test_strangers(void) {
        static const char *const names[] = { "", "auto", "unknown", "TDX", "tdx ", "sev", "none" };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                test_about("%s", names[i]);
                check(!platform_find(names[i]));
                check(!platform_of_tsm(names[i], names[i]));
        }
        /* A parent's name is no driver's, and the other way round. */
        check(!platform_of_tsm("ccp", ""));
        check(!platform_of_tsm("", "tdx_host"));
}

static Manager manager;

static void update(const char *text) {
        _cleanup_json_ struct json_object *o = NULL;

        test_about("%s", text);
        require(json_parse_strict(text, strlen(text), &o, NULL, NULL) == 0);
        tsm_update(&manager, o);
}

static const char *names(void) {
        static char text[512];

        text[0] = '\0';
        for (size_t i = 0; i < manager.n_tsms; i++) {
                size_t n = strlen(text);

                snprintf(text + n, sizeof(text) - n, "%s%s:%s:%s", n ? " " : "", manager.tsms[i]->name, manager.tsms[i]->parent, manager.tsms[i]->platform);
        }
        return text;
}

static void test_update(void) {
        char path[64];

        update("[]");
        check_str(names(), "");
        check_str(platform_of_host(&manager)->name, "plain");
        check(!tsm_find(&manager, "tsm0"));

        update("[{\"name\":\"tsm0\",\"parent\":\"0000:01:00.5\",\"driver\":\"ccp\"}]");
        check_str(names(), "tsm0:0000:01:00.5:sev-snp");
        check_str(platform_of_host(&manager)->name, "sev-snp");
        check_str(tsm_path(tsm_find(&manager, "tsm0"), path), "/org/tdid1/tsm/tsm0");

        /* The same again, and named twice: nothing new. */
        update("[{\"name\":\"tsm0\",\"parent\":\"0000:01:00.5\",\"driver\":\"ccp\"},{\"name\":\"tsm0\",\"parent\":\"x\",\"driver\":\"ccp\"}]");
        check_str(names(), "tsm0:0000:01:00.5:sev-snp");

        update("[{\"name\":\"tsm0\",\"parent\":\"0000:01:00.5\",\"driver\":\"ccp\"},{\"name\":\"tsm1\",\"parent\":\"faux\",\"driver\":\"x\"},"
               "{\"name\":\"tsm22\",\"parent\":\"tdx_host\",\"driver\":\"\"}]");
        check_str(names(), "tsm0:0000:01:00.5:sev-snp tsm1:faux:unknown tsm22:tdx_host:tdx");

        /* The same name from another device is another TSM. */
        update("[{\"name\":\"tsm1\",\"parent\":\"arm-cca-host\",\"driver\":\"arm-cca-host\"}]");
        check_str(names(), "tsm1:arm-cca-host:cca");
        check_str(platform_of_host(&manager)->name, "cca");

        update("[{\"name\":\"tsm1\",\"parent\":\"faux\",\"driver\":\"x\"}]");
        check_str(names(), "tsm1:faux:unknown");
        /* One that nobody knows connects devices, but makes no platform. */
        check_str(platform_of_host(&manager)->name, "plain");

        update("[]");
        check_str(names(), "");
}

static void test_names(void) {
        static const char *const wrong[] = {
                "\"\"", "\"tsm\"", "\"tsm0x\"", "\"tsm-1\"", "\"tsm 0\"", "\"../tsm0\"", "\"tsm/0\"", "\"TSM0\"", "\"xtsm0\"", "\"tsm0123456789012\"",
                "\"tsm\xc3\xa9\"", "0", "null", "[]",
        };
        char text[128];

        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                snprintf(text, sizeof(text), "[{\"name\":%s,\"parent\":\"a\",\"driver\":\"ccp\"}]", wrong[i]);
                update(text);
                check_str(names(), "");
        }
        update("[1,null,\"tsm0\",[],{}]");
        check_str(names(), "");
        update("[{\"name\":\"tsm0\"}]");
        check_str(names(), "tsm0::unknown");
        tsm_free_all(&manager);
        check(manager.n_tsms == 0 && !manager.tsms);
        tsm_free_all(&manager);
}

int main(void) {
        test_table();
        test_strangers();
        test_update();
        test_names();
        return test_end();
}
