/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The table of platforms, TSMs that come and go as the reader reads them, and what the host is recognised as, by every kind of evidence
 * and by those that do not fit together.
 */
#include "host/abi/kvm.h"
#include "model/json.h"
#include "recognise.h"
#include "test.h"

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
                check(!p->has_tsm || !isempty(p->tsm_missing));
                check(private_ram_to_string(p->private_ram));
                check((p->unwind & ~(unsigned) _UNWIND_ALL) == 0);
                /* A VM type is one that KVM can be asked for, or says why not; a parameter explains the former. */
                check(!isempty(p->vm_type.name));
                check((p->vm_type.number < 0) == !isempty(p->vm_type.unasked));
                check(!p->parameter.module == (p->vm_type.number < 0) && !p->parameter.module == !p->parameter.name);
                check(p->vm_type.number < 0 || (p->machine && streq(p->machine, "x86_64")));
                check(!p->viommu == !p->viommu_data);
                /* What a row is called nothing else is, and each name finds it. */
                for (const char *const *a = p->aliases; a && *a; a++) {
                        check(platform_find_alias(*a) == p && !platform_find(*a));
                        for (const struct platform *q = platforms; q->name; q++)
                                for (const char *const *b = q->aliases; b && *b; b++)
                                        check(!streq(*a, q->name) && (a == b || !streq(*a, *b)));
                }
                check(platform_find_alias(p->name) == p);
                /* Who must have everything ready before boot says in what, and takes nothing later. */
                check(p->early_prepare == (p->viommu != NULL));
                check(!p->early_prepare || !p->hotplug);
        }
        check_int(n, ARRAY_SIZE(expected));
        check_int(platform_find("tdx")->vm_type.number, TDI_KVM_X86_TDX_VM);
        check_int(platform_find("sev-snp")->vm_type.number, TDI_KVM_X86_SNP_VM);
        check_int(platform_find("tdx")->unwind, UNWIND_UNLOCKED | UNWIND_DMA | UNWIND_MMIO);
        for (unsigned who = 0; who <= _PRIVATE_RAM_MAX; who++)
                check(!private_ram_to_string(who) == (who == _PRIVATE_RAM_MAX));
        for (unsigned one = 1; one <= 2 * _UNWIND_ALL; one++)
                check(!unwind_to_string(one) == !(one & _UNWIND_ALL && (one & (one - 1)) == 0));
}

static void test_strangers(void) {
        static const char *const names[] = { "", "auto", "unknown", "TDX", "tdx ", "sev", "none" };

        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                test_about("%s", names[i]);
                check(!platform_find(names[i]) && !platform_find_alias(names[i]));
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

#define TDX_FACTS "\"machine\":\"x86_64\",\"kvm\":0,\"vm_types\":35"
#define SNP_FACTS "\"machine\":\"x86_64\",\"kvm\":0,\"vm_types\":31"
#define PKVM_FACTS "\"machine\":\"aarch64\",\"cmdline\":\"a kvm-arm.mode=protected\""
#define TSM(n, parent) "{\"name\":\"tsm" n "\",\"parent\":\"" parent "\",\"driver\":\"\"}"

static void test_recognise(void) {
        static const struct {
                const char *tsms, *facts;
                const char *platform, *vm_default;
                unsigned by, doubts;
        } cases[] = {
                { "", "", "plain", "plain", 1, 0 },
                { "", "\"machine\":\"x86_64\",\"kvm\":-2", "plain", "plain", 1, 0 },
                { "", "\"machine\":\"x86_64\",\"kvm\":0,\"vm_types\":3", "plain", "plain", 1, 0 },
                { TSM("0", "odd"), "\"machine\":\"x86_64\"", "plain", "plain", 1, 0 },
                /* By KVM alone: VMs stay plain. */
                { "", TDX_FACTS, "tdx", "plain", 1, 0 },
                { "", TDX_FACTS ",\"parameters\":{\"kvm_intel.tdx\":\"Y\"}", "tdx", "plain", 1, 0 },
                { "", TDX_FACTS ",\"parameters\":{\"kvm_intel.tdx\":\"N\"}", "plain", "plain", 1, 1 },
                { "", TDX_FACTS ",\"parameters\":{\"kvm_amd.sev_snp\":\"N\"}", "tdx", "plain", 1, 0 },
                { "", SNP_FACTS ",\"parameters\":{\"kvm_amd.sev_snp\":\"Y\"}", "sev-snp", "plain", 1, 0 },
                { TSM("0", "odd"), SNP_FACTS, "sev-snp", "plain", 1, 0 },
                /* A parameter without the VM type shows nothing. */
                { "", "\"machine\":\"x86_64\",\"kvm\":0,\"vm_types\":3,\"parameters\":{\"kvm_intel.tdx\":\"Y\"}", "plain", "plain", 1, 0 },
                /* Elsewhere the numbers of VM types mean something else; without a machine nothing. */
                { "", "\"machine\":\"aarch64\",\"kvm\":0,\"vm_types\":63", "plain", "plain", 1, 0 },
                { "", "\"kvm\":0,\"vm_types\":35", "plain", "plain", 1, 0 },
                { "", "\"machine\":\"x86_64\",\"kvm\":0,\"vm_types\":51", "tdx", "plain", 1, 1 },
                /* By the command line. */
                { "", PKVM_FACTS ",\"kvm\":0", "pkvm", "plain", 1, 0 },
                { "", PKVM_FACTS ",\"kvm\":-2", "plain", "plain", 1, 1 },
                { "", PKVM_FACTS, "plain", "plain", 1, 1 },
                { "", "\"machine\":\"x86_64\",\"kvm\":0,\"cmdline\":\"kvm-arm.mode=protected\"", "plain", "plain", 1, 0 },
                { "", "\"machine\":\"aarch64\",\"kvm\":0,\"cmdline\":\"kvm-arm.mode=nvhe\"", "plain", "plain", 1, 0 },
                /* By a TSM, whatever KVM says. */
                { TSM("0", "tdx_host"), "", "tdx", "tdx", 1, 0 },
                { TSM("0", "tdx_host"), TDX_FACTS, "tdx", "tdx", 2, 0 },
                { TSM("0", "tdx_host"), SNP_FACTS, "tdx", "tdx", 1, 1 },
                { TSM("0", "arm-cca-host"), PKVM_FACTS ",\"kvm\":0", "cca", "cca", 1, 1 },
                { TSM("0", "arm-cca-host"), TDX_FACTS, "cca", "cca", 1, 2 },
                { TSM("0", "tdx_host") "," TSM("1", "arm-rmi-dev"), "", "tdx", "tdx", 1, 1 },
                { TSM("0", "tdx_host") "," TSM("1", "tdx-host"), "", "tdx", "tdx", 2, 0 },
                /* One that nobody knows before one that is known: recognised, and VMs are of the first. */
                { TSM("0", "odd") "," TSM("1", "tdx_host"), "", "tdx", "plain", 1, 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_json_ struct json_object *facts = NULL, *by = json_new_array(), *doubts = json_new_array();
                char text[512];

                snprintf(text, sizeof(text), "[%s]", cases[i].tsms);
                update(text);
                snprintf(text, sizeof(text), "{%s}", cases[i].facts);
                require(json_parse_strict(text, strlen(text), &facts, NULL, NULL) == 0);
                test_about("%s with %s", cases[i].tsms, text);
                check_str(recognise(&manager, facts, by, doubts)->name, cases[i].platform);
                check_str(platform_of_host(&manager)->name, cases[i].vm_default);
                check_int(json_object_array_length(by), cases[i].by);
                check_int(json_object_array_length(doubts), cases[i].doubts);
        }
        tsm_free_all(&manager);
}

/* What is lacking, one after the other. */
static const char *lacks(struct json_object *o) {
        static char text[512];
        struct json_object *list;

        text[0] = '\0';
        require(json_get_array(o, "lacks", &list) == 0);
        for (size_t i = 0; i < json_object_array_length(list); i++) {
                struct json_object *one = json_object_array_get_idx(list, i);
                size_t n = strlen(text);

                check(!isempty(json_str_or(one, "why", "")) && !isempty(json_str_or(one, "without_it", "")));
                snprintf(text + n, sizeof(text) - n, "%s%s", n ? "; " : "", json_str_or(one, "what", "?"));
        }
        return text;
}

static void test_describe(void) {
        static const struct {
                const char *tsms, *facts;
                const char *provider, *why, *lacks;
        } cases[] = {
                { "", "", "none", "/dev/tdid-bind: ENOENT; iommufd was not asked: ENOENT", "KVM; iommufd; a TSM; a bind provider" },
                { "", TDX_FACTS ",\"iommufd\":0,\"iommufd_tsm\":-25,\"bind\":-13", "none",
                  "/dev/tdid-bind: EACCES; iommufd has no calls for TSMs", "a TSM; a bind provider; private MMIO in KVM" },
                /* Anything but ENOTTY: there are calls. */
                { TSM("0", "tdx_host"), TDX_FACTS ",\"iommufd\":0,\"iommufd_tsm\":-93,\"bind\":-2", "none",
                  "/dev/tdid-bind: ENOENT; iommufd has calls for TSMs in a form that this tdid does not know, and does not use",
                  "a bind provider; private MMIO in KVM" },
                { TSM("0", "tdx_host"), "\"machine\":\"x86_64\",\"kvm\":0,\"vm_types\":3,\"iommufd\":0,\"iommufd_tsm\":-25,\"bind\":0,\"bind_api\":1",
                  "tdid-bind", "/dev/tdid-bind has version 1; iommufd has no calls for TSMs", "VMs of type 5 (KVM_X86_TDX_VM); private MMIO in KVM" },
                { TSM("0", "odd"), SNP_FACTS ",\"iommufd\":0,\"iommufd_tsm\":-25,\"bind\":0,\"bind_api\":7", "none",
                  "/dev/tdid-bind has version 7, which this tdid does not know; iommufd has no calls for TSMs",
                  "the platform of a TSM; a bind provider; private MMIO in KVM; private memory in an I/O address space" },
                { TSM("0", "arm-cca-host"), "\"machine\":\"aarch64\",\"kvm\":0,\"iommufd\":0,\"iommufd_tsm\":0,\"iommufd_provider\":\"iommufd v7\",\"bind\":-2", "iommufd v7",
                  "/dev/tdid-bind: ENOENT; iommufd has calls for TSMs (iommufd v7), for functions that have a virtual device and are associated with KVM",
                  "an answer whether KVM makes VMs of type Realm; an answer whether the kernel makes a secure vIOMMU; private MMIO in KVM" },
                { "", PKVM_FACTS ",\"kvm\":0,\"iommufd\":0,\"iommufd_tsm\":-25,\"bind\":-2", "none",
                  "/dev/tdid-bind: ENOENT; iommufd has no calls for TSMs", "an answer whether KVM makes VMs of type KVM_VM_TYPE_ARM_PROTECTED" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_json_ struct json_object *facts = NULL, *o = NULL;
                struct json_object *provider, *platform;
                char text[512];

                snprintf(text, sizeof(text), "[%s]", cases[i].tsms);
                update(text);
                snprintf(text, sizeof(text), "{%s}", cases[i].facts);
                require(json_parse_strict(text, strlen(text), &facts, NULL, NULL) == 0);
                test_about("%s with %s", cases[i].tsms, text);
                o = recognise_describe(&manager, facts, false);
                require(json_get_object(o, "provider", &provider) == 0 && json_get_object(o, "platform", &platform) == 0);
                check_str(json_str_or(provider, "name", ""), cases[i].provider);
                check_str(json_str_or(provider, "why", ""), cases[i].why);
                check_str(lacks(o), cases[i].lacks);
                check(platform_find(json_str_or(platform, "name", "")));
        }
        tsm_free_all(&manager);
}

static void test_arguments(void) {
        _cleanup_json_ struct json_object *args = recognise_arguments();

        check_str(json_object_to_json_string_ext(args, JSON_C_TO_STRING_PLAIN),
                  "{\"parameters\":[{\"module\":\"kvm_intel\",\"name\":\"tdx\"},{\"module\":\"kvm_amd\",\"name\":\"sev_snp\"}]}");
}

/* As the kernel reads its command line (lib/cmdline.c, parameq()). */
static void test_command_line(void) {
        static const struct {
                const char *line, *value;
        } cases[] = {
                { "", NULL },
                { "kvm-arm.mode", NULL },
                { "kvm-arm.mode=", "" },
                { "kvm-arm.mode=protected", "protected" },
                { "quiet kvm-arm.mode=protected splash\n", "protected" },
                { "kvm_arm.mode=nvhe", "nvhe" },
                { "kvm-arm.mode=protected kvm-arm.mode=none", "none" },
                { "kvm-arm.mode=protected kvm-arm.mode", "protected" },
                { "xkvm-arm.mode=a kvm-arm.modex=b kvm-arm.mod=c kvm-arm=d", NULL },
                { "dyndbg=\"file a kvm-arm.mode=protected\" b", NULL },
                { "a=\"kvm-arm.mode=protected", NULL },
                { "a=b=c kvm-arm.mode=d=e", "d=e" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                char value[64] = "-";

                test_about("%s", cases[i].line);
                if (check(kernel_parameter(cases[i].line, "kvm-arm.mode", value, sizeof(value)) == !!cases[i].value) && cases[i].value)
                        check_str(value, cases[i].value);
        }
}

int main(void) {
        test_table();
        test_strangers();
        test_update();
        test_names();
        test_recognise();
        test_describe();
        test_arguments();
        test_command_line();
        return test_end();
}
