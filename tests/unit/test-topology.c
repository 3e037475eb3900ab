/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Topologies of tdi-sim: what is refused and how the place is named, what becomes of a good one, config space, and that the document names
 * every key.
 *
 * usage: test-topology DOCUMENT TOPOLOGY…
 */
#include "model/json.h"
#include "sim/config.h"
#include "sim/topology.h"
#include "test.h"

#define MACHINE "\"schema\": \"tdi-sim/1\", \"platform\": \"plain\""
#define PORT "\"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\"}]"
#define EDU "\"model\": \"edu\""

static struct json_object *parse(const char *text) {
        struct json_object *o = NULL;
        const char *why = "";
        unsigned line = 0;

        if (json_parse_strict(text, strlen(text), &o, &line, &why) < 0) {
                fprintf(stderr, "line %u: %s: %s\n", line, why, text);
                exit(1);
        }
        return o;
}

static struct sim_topology *read_good(const char *text) {
        _cleanup_json_ struct json_object *o = parse(text);
        char buf[256] = "";
        struct topology_why why = { buf, sizeof(buf) };
        struct sim_topology *t = NULL;

        if (sim_topology_new(o, &why, &t) < 0) {
                fprintf(stderr, "refused: %s\n", buf);
                exit(1);
        }
        check_str(buf, "");
        return t;
}

static const struct {
        const char *text, *why; /* why: its beginning */
} bad[] = {
        { "[]", "a topology is an object" },
        { "{}", "\"schema\" is missing" },
        { "{\"schema\": \"tdi-sim/2\"}", "schema: \"tdi-sim/2\" is none of" },
        { "{\"schema\": 1}", "schema: must be a string" },
        { "{\"schema\": \"tdi-sim/1\"}", "\"platform\" is missing" },
        { "{\"schema\": \"tdi-sim/1\", \"platform\": \"sgx\"}", "platform: \"sgx\" is none of" },
        { "{" MACHINE ", \"colour\": 1}", "colour: unknown key" },
        { "{" MACHINE ", \"boot_id\": \"x\"}", "boot_id: " },
        { "{" MACHINE ", \"bind_module\": 1}", "bind_module: must be true or false" },
        { "{" MACHINE ", \"functions\": {}}", "functions: must be an array" },
        { "{" MACHINE ", \"files\": []}", "files: must be an object" },
        { "{" MACHINE ", \"files\": {\"/proc/x\": 1}}", "files./proc/x: must be a string" },
        { "{" MACHINE ", \"files\": {\"proc\": \"\"}}", "files.proc: must be an absolute path" },
        { "{" MACHINE ", \"files\": {\"/proc/../x\": \"\"}}", "files./proc/../x: must be an absolute path" },
        { "{" MACHINE ", \"files\": {\"/proc/x/\": \"\"}}", "files./proc/x/: must be an absolute path" },
        { "{" MACHINE ", \"files\": {\"/proc/x\": {\"link\": 1}}}", "files./proc/x.link: must be a string" },
        { "{" MACHINE ", \"files\": {\"/proc/x\": {\"link\": \"a\", \"mode\": 1}}}", "files./proc/x: must be a text, or" },
        { "{" MACHINE ", \"functions\": [1]}", "functions[0]: must be an object" },
        { "{" MACHINE ", \"functions\": [{}]}", "functions[0]: \"bdf\" is missing" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"1:0.0\"}]}", "functions[0].bdf: \"1:0.0\" is not of the form" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:20.0\"}]}", "functions[0].bdf: " },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\"}]}", "functions[0]: needs \"ids\"" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", \"ids\": \"1234\"}]}", "functions[0].ids: " },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", \"ids\": \"ffff:0001\"}]}", "functions[0]: vendor ffff" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", \"model\": \"gpu\"}]}", "functions[0].model: there is no model" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU ", \"msix\": 0}]}",
         "functions[0].msix: 0 is not from 1 to 2048" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU ", \"msi\": 3}]}", "functions[0]: the number of MSI vectors" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU ", \"flr\": 1}]}", "functions[0].flr: must be true or false" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU ", \"driver\": \"a/b\"}]}", "functions[0].driver: " },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU ", \"driver\": \"..\"}]}", "functions[0].driver: " },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU ", \"bars\": [{\"size\": 3000}]}]}",
          "functions[0].bars[0].size: 3000 is not a power of two" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU ", \"bars\": [{}]}]}",
         "functions[0].bars[0]: \"size\" is missing" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU ", \"bars\": [{\"size\": \"4K\"}, {\"bar\": 0, \"size\": "
          "\"4K\"}]}]}",
          "functions[0].bars[1]: BAR 0 is taken already" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU ", \"bars\": [{\"size\": \"4K\", \"kind\": \"mem64\"}, "
          "{\"bar\": 1, \"size\": \"4K\"}]}]}",
          "functions[0].bars[1]: BAR 1 is taken already" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU ", \"bars\": [{\"bar\": 5, \"size\": \"4K\", \"kind\": "
          "\"mem64\"}]}]}",
          "functions[0].bars[0]: there is no place" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU ", \"bars\": [{\"size\": \"8T\", \"kind\": \"mem64\"}]}]}",
         "functions[0].bars[0].size: " },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU ", \"bars\": [{\"size\": \"99999999999T\"}]}]}",
          "functions[0].bars[0].size: \"99999999999T\" is too large" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU ", \"bars\": [{\"size\": \"4K\", \"address\": "
          "\"0x90000800\"}]}]}",
          "functions[0].bars[0].address: " },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU ", \"bars\": [{\"size\": \"1M\", \"address\": "
          "\"0x90000000\"}]}, "
          "{\"bdf\": \"0000:00:03.0\", " EDU ", \"bars\": [{\"size\": \"4K\", \"address\": \"0x90001000\"}]}]}",
          "functions[1].bars: BAR 0 at 0x90001000 overlaps BAR 0 of 0000:00:02.0" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU ", \"bars\": [{\"size\": \"4K\", \"address\": "
          "\"0xfee00000\"}]}]}",
          "functions[0].bars: BAR 0 at 0xfee00000 overlaps the window of interrupts" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", " EDU "}, {\"bdf\": \"0000:00:03.0\", " EDU "}, {\"bdf\": "
          "\"0000:00:02.0\", " EDU "}]}",
          "functions[2].bdf: 0000:00:02.0 is there twice: see functions[0]" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:00:01.0\", " EDU "}]}",
         "functions[0].bdf: 0000:00:01.0 is there twice: see ports[0]" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:02:00.0\", " EDU "}]}", "functions[0].bdf: nothing leads to bus 0000:02" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0001:00:02.0\", " EDU "}]}",
         "functions[0].bdf: there is no host bridge in segment 0001" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.1\", " EDU "}]}", "functions[0].bdf: there is no function 0" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", \"type\": \"rc-endpoint\", " EDU "}]}",
         "functions[0]: an integrated endpoint" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", \"bus\": \"rp7\", " EDU "}]}",
         "functions[0].bus: bus 01 is not behind" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:01.0\", \"type\": \"pci\", " EDU "}]}",
         "functions[0].bdf: behind a port" },
        { "{" MACHINE ", \"functions\": [{\"bdf\": \"0000:00:02.0\", \"type\": \"pci\", \"tee_io\": true, " EDU "}]}",
         "functions[0]: a conventional function" },
        /* cycles and overlapping buses */
        { "{" MACHINE ", \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"00\"}]}", "ports[0]: bus 00" },
        { "{" MACHINE ", \"ports\": [{\"bdf\": \"0000:01:00.0\", \"bus\": \"02\", \"kind\": \"upstream\"}, {\"bdf\": "
          "\"0000:02:00.0\", \"bus\": \"01\", \"kind\": \"downstream\"}]}",
          "ports[1].bus: bus 01 cannot be behind a port on bus 02: a cycle" },
        { "{" MACHINE ", \"ports\": [{\"bdf\": \"0000:01:00.0\", \"bus\": \"01\", \"kind\": \"upstream\"}]}",
         "ports[0].bus: bus 01 cannot be behind" },
        { "{" MACHINE ", \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\"}, {\"bdf\": \"0000:00:02.0\", \"bus\": \"01\"}]}",
          "ports[1].bus: bus 01 is behind port 0000:00:01.0 already" },
        { "{" MACHINE ", \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\", \"subordinate\": \"05\"}, {\"bdf\": "
          "\"0000:00:02.0\", \"bus\": \"03\"}]}",
          "ports[0]: buses 01 to 05 behind it overlap bus 03" },
        { "{" MACHINE ", \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"02\", \"subordinate\": \"01\"}]}", "ports[0].subordinate: " },
        { "{" MACHINE ", \"buses\": [{\"bus\": \"0000:00\", \"end\": \"01\"}], \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"02\"}]}",
          "ports[0]: bus 02 behind it is beyond" },
        { "{" MACHINE ", \"buses\": [{\"bus\": \"0000:00\"}, {\"bus\": \"0000:80\"}]}", "buses[1]: buses 80 to ff overlap" },
        { "{" MACHINE ", \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\", \"kind\": \"downstream\"}]}",
         "ports[0]: a port of a switch cannot be on a root bus" },
        { "{" MACHINE ", \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\", \"count\": 300}]}", "ports[0]: number 255" },
        /* virtual functions */
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"sriov\": {}}]}",
         "functions[0].sriov: \"total\" is missing" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"sriov\": {\"total\": 2, \"enabled\": 3}}]}",
         "functions[0].sriov.enabled: 3" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"sriov\": {\"total\": 2, \"enabled\": 1}}]}",
          "functions[0].sriov.enabled: virtual functions are enabled by a driver" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"sriov\": {\"total\": 2}}, {\"bdf\": "
          "\"0000:01:00.2\", " EDU "}]}",
          "functions[0].sriov: virtual function 1 would be at 0000:01:00.2, where functions[1] is" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"sriov\": {\"total\": 2, \"vf\": {\"ids\": "
          "\"1111:2222\"}}}]}",
          "functions[0].sriov.vf: a virtual function has the vendor" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"sriov\": {\"total\": 2, \"vf\": {\"bars\": "
          "[{\"size\": 256}]}}}]}",
          "functions[0].sriov.vf: BAR 0" },
        { "{" MACHINE ", \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\"}, {\"bdf\": \"0000:00:02.0\", \"bus\": \"02\"}], "
          "\"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"sriov\": {\"total\": 2, \"offset\": 256}}]}",
          "functions[0].sriov: virtual function 0 would be on bus 02, which is another's" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"sriov\": {\"total\": 4096, \"offset\": 65000}}]}",
          "functions[0].sriov: virtual function " },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", \"count\": 20000, " EDU "}]}",
         "functions[0].count: 20000 is not from" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"msix\": 2048, \"bars\": [{\"size\": \"4K\"}]}]}",
         "functions[0].msix: a table" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"ide\": {\"streams\": 64, \"addresses\": 3, "
          "\"links\": 8}, \"doe\": true, \"sriov\": {\"total\": 1}}]}",
          "functions[0]: its capabilities do not fit" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"spdm_port\": 1}]}",
          "functions[0].spdm_port: it has no mailbox" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"doe\": true, \"spdm_port\": 65536}]}",
          "functions[0].spdm_port: 65536 is not from" },
        { "{" MACHINE ", \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\", \"spdm_port\": 1}]}", "ports[0].spdm_port: it has no mailbox" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", \"ids\": \"1:2\"}]}", "functions[0].ids: " },
        /* given config space */
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", \"config\": \"00\"}]}", "functions[0].config: 1 bytes" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", \"config\": \"0\"}]}", "functions[0].config: byte 0" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", \"config\": \"00\", \"msi\": 1}]}",
         "functions[0].msi: the bytes of" },
        /* references */
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"driver\": \"nvme\", \"disk\": \"d\"}]}",
         "functions[0].disk: there is no disk" },
        { "{" MACHINE ", " PORT ", \"disks\": {\"d\": \"1M\"}, \"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"disk\": \"d\"}]}",
          "functions[0]: disks and interfaces are made by a host driver" },
        { "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"driver\": \"e1000e\", \"net\": \"n\"}]}",
         "functions[0].net: there is no interface" },
        { "{" MACHINE ", \"disks\": {\"d\": {\"size\": \"1000\"}}}", "disks.d.size: 1000 is not from" },
        { "{" MACHINE ", \"disks\": {\"d\": {\"size\": \"1M\", \"mount\": \"mnt\"}}}", "disks.d.mount: must be an absolute path" },
        { "{" MACHINE ", \"disks\": {\"d\": {\"size\": \"1M\", \"mount\": \"/a\", \"swap\": true}}}", "disks.d: a disk has one of" },
        { "{" MACHINE ", \"disks\": {\"d\": {\"size\": \"1M\", \"partitions\": [{\"size\": \"2M\"}]}}}", "disks.d.partitions[0].size: " },
        { "{" MACHINE ", \"disks\": {\"..\": \"1M\"}}", "disks...: " },
        { "{" MACHINE ", \"nets\": {\"n\": {\"interface\": \"a%s\"}}}", "nets.n: the only pattern" },
        { "{" MACHINE ", \"nets\": {\"n\": {\"mac\": \"00:11\"}}}", "nets.n.mac: is no MAC address" },
        { "{" MACHINE ", \"tsms\": [{}]}", "tsms[0]: \"name\" is missing" },
        { "{" MACHINE ", \"tsms\": [{\"name\": \"tsm01\"}]}", "tsms[0].name: " },
        { "{" MACHINE ", \"tsms\": [{\"name\": \"tsm0\", \"bind\": \"no\"}]}", "tsms[0].bind: must be true or false" },
        { "{" MACHINE ", \"tsms\": [{\"name\": \"tsm0\", \"requests\": 0}]}", "tsms[0].requests: must be true or false" },
        { "{" MACHINE ", \"tsms\": [{\"name\": \"tsm0\"}, {\"name\": \"tsm0\"}]}", "tsms[1]: \"tsm0\" is there twice" },
        { "{" MACHINE ", \"tsms\": [{\"name\": \"tsm0\", \"accepts\": [\"0000:01:00.0\"]}]}",
         "tsms[0].accepts[0]: there is no function 0000:01:00.0" },
        { "{" MACHINE ", \"tsms\": [{\"name\": \"tsm0\", \"accepts\": \"all\", \"marks\": true}]}", "tsms[0]: \"marks\" needs" },
        { "{" MACHINE ", \"drivers\": [{\"name\": \"vfio-pci\"}]}", "drivers[0].name: " },
        { "{" MACHINE ", \"reserved\": [{\"start\": 5, \"end\": 4}]}", "reserved[0]: ends before" },
        { "{" MACHINE ", \"reserved\": [{\"start\": 0, \"end\": 9}, {\"start\": 9, \"end\": 10}]}", "reserved[1]: overlaps" },
        { "{" MACHINE ", \"faults\": 1}", "faults: must be an array" },
};

static void test_bad(void) {
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                _cleanup_json_ struct json_object *o = parse(bad[i].text);
                char why[256] = "";

                test_about("%.300s", bad[i].text);
                check_int(sim_topology_check(o, why, sizeof(why)), -EINVAL);
                if (!startswith(why, bad[i].why))
                        check_str(why, bad[i].why);
                /* A buffer of any size. */
                char one[1];
                check_int(sim_topology_check(o, one, sizeof(one)), -EINVAL);
                check_int(one[0], 0);
        }
        test_about("%s", "");
}

static void test_given_config(void) {
        static const struct {
                const char *why;
                unsigned offset;
                uint8_t bytes[4];
        } cases[] = {
                { "functions[0].config: the list of capabilities has no end", 0x40, { 0x01, 0x40 } },
                { "functions[0].config: a capability at 0x20", 0x40, { 0x01, 0x20 } },
                { "functions[0].config: the capability at 0xfc does not end", 0x40, { 0x01, 0xfc } },
                { "functions[0].config: header type 1", 0x0e, { 0x01 } },
                { "functions[0].config: the list of extended capabilities has no end", 0x100, { 0x01, 0x00, 0x01, 0x10 } },
                { "functions[0].config: an extended capability at 0xffc", 0x100, { 0x01, 0x00, 0xc1, 0xff } },
                { "functions[0].config: has SR-IOV", 0x100, { 0x10, 0x00, 0x01, 0x00 } },
                { "", 0x200, { 0 } },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                uint8_t config[4096] = { 0x34, 0x12, 0x78, 0x56, [0x06] = 0x10, [0x34] = 0x40, [0x40] = 0x01 };
                char text[10000], why[256] = "";
                struct json_object *o;
                size_t n;

                test_about("given config %zu", i);
                for (unsigned k = 0; k < 4; k++)
                        if (cases[i].bytes[k] || k < 2)
                                config[cases[i].offset + k] = cases[i].bytes[k];
                n = (size_t) snprintf(text, sizeof(text), "{" MACHINE ", " PORT ", \"functions\": [{\"bdf\": \"0000:01:00.0\", "
                        "\"config\": \"");
                for (unsigned k = 0; k < sizeof(config); k++)
                        n += (size_t) snprintf(text + n, sizeof(text) - n, "%02x", config[k]);
                snprintf(text + n, sizeof(text) - n, "\", \"bars\": [{\"size\": \"4K\"}]}]}");
                o = parse(text);
                check_int(sim_topology_check(o, why, sizeof(why)), *cases[i].why ? -EINVAL : 0);
                if (!startswith(why, cases[i].why))
                        check_str(why, cases[i].why);
                json_object_put(o);
        }
        test_about("%s", "");
}

/* No two BARs overlap, windows contain what is behind them, the list is in order. */
static void check_addresses(const struct sim_topology *t) {
        unsigned wrong = 0;

        for (size_t i = 0; i < t->n_functions; i++) {
                const struct topology_function *f = &t->functions[i];

                for (unsigned b = 0; b < SIM_BARS; b++) {
                        const struct topology_bar *bar = &f->bar[b];

                        if (!bar->size)
                                continue;
                        wrong += !bar->address || (bar->address & (bar->size - 1)) || (!bar->wide && bar->address + bar->size > 1ULL << 32);
                        for (const struct topology_function *up = f->parent; up; up = up->parent) {
                                const struct topology_window *w = bar->io ? &up->io : bar->address >> 32 ? &up->prefetch : &up->memory;

                                wrong += bar->address < w->start || bar->address + bar->size - 1 > w->end;
                        }
                        for (size_t k = 0; k < i && t->n_functions < 600; k++)
                                for (unsigned d = 0; d < SIM_BARS; d++) {
                                        const struct topology_bar *other = &t->functions[k].bar[d];

                                        wrong += other->size && other->io == bar->io && bar->address < other->address + other->size &&
                                                 other->address < bar->address + bar->size;
                                }
                }
                for (const struct topology_function *up = f->parent; up; up = up->parent)
                        wrong += f->bus < up->secondary || f->bus > up->subordinate;
                if (i)
                        wrong += (((unsigned) f->segment << 16 | (unsigned) f->bus << 8 | f->devfn) <=
                                  ((unsigned) f[-1].segment << 16 | (unsigned) f[-1].bus << 8 | f[-1].devfn));
        }
        check_int(wrong, 0);
}

static void test_bind_module(void) {
        struct sim_topology *t;

        t = read_good("{" MACHINE ", \"tsms\": [{\"name\": \"tsm0\"}]}");
        check(!t->bind_module && t->tsms[0].bind && t->tsms[0].requests);
        sim_topology_free(t);
        t = read_good("{" MACHINE ", \"bind_module\": true, \"tsms\": [{\"name\": \"tsm0\", \"bind\": false, \"requests\": false}]}");
        check(t->bind_module && !t->tsms[0].bind && !t->tsms[0].requests);
        sim_topology_free(t);
}

static void test_counts(void) {
        struct sim_topology *t;

        t = read_good("{" MACHINE ", \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\", \"count\": 16}], "
                      "\"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"count\": 4096, \"step\": \"function\", \"role\": \"edu\"}]}");
        check_int(t->n_functions, 4112);
        check_int(t->functions[4111].bus, 0x10);
        check_int(t->functions[4111].devfn, 0xff);
        check_int(t->functions[4111].number, 4095);
        check(t->functions[4111].ari && t->functions[4111].multifunction);
        check_addresses(t);
        sim_topology_free(t);

        t = read_good("{" MACHINE ", \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\", \"count\": 200}], "
                      "\"functions\": [{\"bdf\": \"0000:01:00.0\", " EDU ", \"count\": 200, \"bars\": [{\"size\": \"64K\"}, "
                      "{\"size\": \"2M\", \"kind\": \"mem64\"}, "
                      "{\"size\": \"1G\", \"kind\": \"prefetch\"}]}]}");
        check_int(t->n_functions, 400);
        sim_topology_free(t);
}

static void test_addresses_given(void) {
        struct sim_topology *t = read_good("{" MACHINE ", " PORT ", \"functions\": ["
                                           "{\"bdf\": \"0000:01:00.0\", " EDU ", \"bars\": [{\"size\": \"1M\", \"address\": "
                                           "\"0x80100000\"}, {\"size\": \"1M\"}, {\"size\": \"1M\"}, {\"size\": 16}]}]}");
        const struct topology_function *f = topology_find(t, 0, 1, 0);

        require(f);
        check_int(f->bar[0].address, 0x80100000);
        check_int(f->bar[1].address, 0x80000000);
        check_int(f->bar[2].address, 0x80200000);
        check_addresses(t);
        sim_topology_free(t);
}

static const char full[] = "{" MACHINE ", \"ports\": [{\"bdf\": \"0000:00:01.0\", \"bus\": \"01\", \"ide\": true}], \"functions\": "
        "[{\"bdf\": \"0000:01:00.0\", \"ids\": \"1af4:1234\", "
                           "\"subsystem\": \"1111:2222\", \"class\": \"010802\", \"revision\": 7, \"bars\": [{\"size\": \"64K\"}, "
                           "{\"size\": \"1M\", \"kind\": \"prefetch\"}], \"msi\": 4, "
                           "\"msix\": 16, \"intx\": true, \"flr\": true, \"tee_io\": true, \"ide\": {\"streams\": 3, \"links\": 2, "
                           "\"addresses\": 2}, \"doe\": true, \"acs\": true, "
                           "\"sriov\": {\"total\": 6, \"vf\": {\"bars\": [{\"size\": \"8K\", \"kind\": \"prefetch\"}], \"msix\": 2}}}]}";

static void test_config(void) {
        struct sim_topology *t = read_good(full);
        const struct topology_function *f = topology_find(t, 0, 1, 0);
        uint8_t c[SIM_CONFIG_SIZE], w[SIM_CONFIG_SIZE], z[SIM_CONFIG_SIZE];
        unsigned at;
        size_t size;

        require(f);
        check_int(topology_config(f, NULL, c, &size), 0);
        check_int(size, 4096);
        topology_config_masks(f, c, size, w, z);
        check_int(cfg_get32(c), 0x12341af4);
        check_int(cfg_get32(c + 8), 0x01080207);
        check_int(cfg_get32(c + CFG_SUBSYSTEM), 0x22221111);
        check_int(cfg_get32(c + CFG_BAR) & 0xf, 0);
        check_int(cfg_get32(c + CFG_BAR + 4) & 0xf, 0xc);
        /* Sizing: what a write of all ones leaves. */
        check_int(cfg_get32(w + CFG_BAR), 0xffff0000);
        check_int(cfg_get32(w + CFG_BAR + 4), 0xfff00000);
        check_int(cfg_get32(w + CFG_BAR + 8), 0xffffffff);
        check_int(cfg_get32(w + CFG_BAR + 12), 0);
        at = cfg_find(c, CAP_EXP);
        require(at);
        check_int(cfg_get16(c + at + 2) >> 4 & 0xf, PORT_ENDPOINT);
        check(cfg_get32(c + at + EXP_DEVCAP) & DEVCAP_TEE && cfg_get32(c + at + EXP_DEVCAP) & DEVCAP_FLR);
        check_int(cfg_get16(z + at + EXP_DEVSTA), 0xf);
        at = cfg_find(c, CAP_MSIX);
        require(at);
        check_int(cfg_get16(c + at + MSIX_FLAGS) & 0x7ff, 15);
        at = cfg_find(c, CAP_MSI);
        require(at);
        check_int(cfg_get16(c + at + MSI_FLAGS) >> 1 & 7, 2);
        at = cfg_find_ext(c, size, EXT_IDE);
        require(at);
        check_int(cfg_ide_streams(c, at), 3);
        check_int(cfg_ide_block(c, at, 0), at + 12 + 16);
        check_int(cfg_ide_block(c, at, 2), at + 12 + 16 + 2 * 44);
        check(cfg_find_ext(c, size, EXT_DOE) && cfg_find_ext(c, size, EXT_AER) && cfg_find_ext(c, size, EXT_ACS) &&
              cfg_find_ext(c, size, EXT_ARI));
        at = cfg_find_ext(c, size, EXT_SRIOV);
        require(at);
        check_int(cfg_get16(c + at + 0x0e), 6);
        check_int(f->vf_bar[0].size, 6 * 8192);
        check(!cfg_find_ext(c, size, 0x1234) && !cfg_find(c, 0x77));

        /* A VF has no ids, BARs or memory enable of its own. */
        check_int(topology_config(f->vf, f, c, &size), 0);
        topology_config_masks(f->vf, c, size, w, z);
        check_int(cfg_get32(c), 0xffffffff);
        check_int(cfg_get32(c + CFG_BAR), 0);
        check_int(cfg_get16(w + CFG_COMMAND), COMMAND_MASTER);
        check_int(cfg_get32(c + CFG_SUBSYSTEM), 0x22221111);
        sim_topology_free(t);
}

static char *read_whole(const char *path) {
        FILE *f = fopen(path, "re");
        char *text = calloc(1, 1 << 20);

        require(f && text);
        require(fread(text, 1, (1 << 20) - 1, f) > 0);
        fclose(f);
        return text;
}

static void test_document(const char *path) {
        _cleanup_free_ char *text = read_whole(path);
        const char *section, *key;

        for (size_t i = 0; (key = sim_topology_key(i, &section)); i++) {
                char quoted[64];

                snprintf(quoted, sizeof(quoted), "`%s`", key);
                test_about("key %s of %s", key, section);
                check(strstr(text, quoted));
        }
        check(strstr(text, TOPOLOGY_SCHEMA));
        test_about("%s", "");
}

int main(int argc, char **argv) {
        require(argc > 1);
        test_document(argv[1]);
        for (int i = 2; i < argc; i++) {
                _cleanup_free_ char *text = read_whole(argv[i]);
                struct sim_topology *t;

                test_about("%s", argv[i]);
                t = read_good(text);
                check_addresses(t);
                sim_topology_free(t);
        }
        test_about("%s", "");
        test_bad();
        test_given_config();
        test_bind_module();
        test_counts();
        test_addresses_given();
        test_config();
        return test_end();
}
