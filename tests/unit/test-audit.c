/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Audit: the table against a list that never changes, every call against its row, values that lie, and a journal that does not listen. */
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "audit-entry.h"
#include "custody.h"
#include "export.h"
#include "job.h"
#include "test.h"
#include "vm.h"

/* What is out in the world: an entry is added here with an event, and none is ever changed. */
static const struct {
        const char *name, *id;
} golden[] = {
        { "associated", "f710ede68be24399afd23b085dcbef48" },
        { "association-opened", "d8310dd4d09e499caa40cb94d5e4f753" },
        { "connected", "f664d1ee277a4c0fa781f9f1bf20ceee" },
        { "custody", "28adddac0e7f43b39d6f7dde19d3b8ce" },
        { "custody-over", "059ac8bbefee40c4a945d3ba5d92a86c" },
        { "custody-wanted", "ba3aa5fa125f40d8bbe388d9f31abb34" },
        { "decision", "81a1a0f31175441ebdf437966288451a" },
        { "denied", "d861cf7d7ea14d718e9c77bc6c2232e0" },
        { "disconnected", "795b68db9a31424d90111b1dae6c2230" },
        { "ended", "210d4ebc06cf4264b6115edb68fff314" },
        { "evidence-collected", "f2d0e22d0d5549459009b8c85a78f089" },
        { "evidence-verified", "a3bc8972168e4ceab5418f39a49ab246" },
        { "export-made", "7f161574d7ae4d3489f1a4375bcb366d" },
        { "export-state", "444acf87291c498990f078c85b1e590b" },
        { "guard-refused", "07fcc1c87e3b4b649d6fe005ee08429b" },
        { "handoff", "ffcd76ec55544e81bb961b9be5863d2e" },
        { "holder-died", "e472c7c8ceea457ea4a4e41059c2f5ab" },
        { "job-done", "500be4bec1564eb59d54d43e27de19c1" },
        { "job-failed", "42c1713a14ae430b9900e9a94a88d0d0" },
        { "job-started", "d55e061fc7fa4849878e378ab229ce07" },
        { "keeper-added", "e4148f806a5740d597c1cb94aa769cd3" },
        { "keeper-ended", "33886ca1e2434d4f99efdb346eea1ba6" },
        { "kvm-gone", "c8123473ee934d1db01dd5dabb3ae5bc" },
        { "kvm-set", "c00401eb842c434ba8d70039e561ceea" },
        { "leaving", "77a18989d09e460b806a7685fe66d21b" },
        { "lost", "b70b8f7ea09340fb8696dfe84e0719c0" },
        { "note", "59711f2707a343c58e0afcb4fcecf8b2" },
        { "policy-loaded", "8447a2197b1e4b84bbd50a8637b01308" },
        { "policy-refused", "f795d2be4c604639bbefc50f7d7d9975" },
        { "quarantined", "a34f80ef8c404a2189fccd4d3f6b8ce6" },
        { "refused", "a05ad9458a2a46d4af53442bd6ee57f0" },
        { "request-refused", "e198c903c92147dea029e4013c03053b" },
        { "restored", "6123a8993ee5433483d8442d78cd260a" },
        { "started", "ba3765d5e55e47618464a6d1d90f20a7" },
        { "stopping", "eb9bc298914747eb94c9783406645694" },
        { "tdi-failed", "01c0b84626324fd4bba48a2b7e9fbc73" },
        { "tdi-mismatch", "1eea9c0dec9a407f88b611d0552eefc0" },
        { "tdi-recovered", "44b75c6bf3ba41a383865536e54a1a1d" },
        { "tdi-state", "ee8b31da9b0c4f77943040367caa79a3" },
        { "tdi-tdisp", "fd7662fbdbed4bb49f493bac3d0618ec" },
        { "tdi-unbound", "b01221dac71145f8adbcf9c1ed455d49" },
        { "tsm-connected", "f974158c66374d1b8e4ff84e537750c3" },
        { "tsm-disconnected", "56d55d4d138344dc803702c016f56468" },
        { "tsm-lost", "225d032a202c4f0191313d6b7305eebc" },
        { "vm-closing", "0adfd7b366e34b00a7e5c7b4e1e2abec" },
        { "vm-created", "a172cbd1168a4e02a34c358bae69b755" },
        { "vm-gone", "ce623369f3f042c1ba34fab2b858a909" },
        { "vm-not-recovered", "645852a797374195a20569eb946271ba" },
        { "vm-phase", "7b15531e3f35425a8d51395464f9266f" },
        { "vm-recovered", "f8286a7073a64cdebfbf69e003b94b79" },
};

static int by_name(const char *name) {
        for (int i = 0; i < AUDIT_EVENT_MAX; i++)
                if (streq(audit_table[i].name, name))
                        return i;
        return -1;
}

static uint64_t bit(enum audit_field f) {
        return UINT64_C(1) << f;
}

/* The fields that a message names, those within [] apart. */
static void fields_of(const char *message, uint64_t *ret_always, uint64_t *ret_inside) {
        uint64_t *set = ret_always;

        *ret_always = *ret_inside = 0;
        for (const char *p = message; *p; p++) {
                bool found = false;

                if (*p == '[' || *p == ']') {
                        check((*p == '[') == (set == ret_always));
                        set = *p == '[' ? ret_inside : ret_always;
                }
                if (*p != '{')
                        continue;
                for (int f = 0; f < AUDIT_FIELD_MAX; f++) {
                        const char *name = audit_field_name(f) + strlen("TDID_");

                        if (strncmp(p + 1, name, strlen(name)) == 0 && p[1 + strlen(name)] == '}') {
                                *set |= bit(f);
                                found = true;
                        }
                }
                check(found);
        }
        check(set == ret_always);
}

static void test_table(void) {
        check_int(ARRAY_SIZE(golden), AUDIT_EVENT_MAX);
        for (size_t i = 0; i < ARRAY_SIZE(golden); i++) {
                int e = by_name(golden[i].name);

                test_about("%s", golden[i].name);
                if (check(e >= 0))
                        check_str(audit_table[e].id, golden[i].id);
        }
        for (int i = 0; i < AUDIT_EVENT_MAX; i++) {
                const struct audit_row *row = audit_table + i;
                uint64_t always, inside;

                test_about("%s", row->name);
                check_int(strspn(row->id, "0123456789abcdef"), 32);
                check_int(strlen(row->id), 32);
                /* As systemd-id128 makes them: version 4, of the usual variant. */
                check(row->id[12] == '4' && strchr("89ab", row->id[16]));
                check_int(strspn(row->name, "abcdefghijklmnopqrstuvwxyz-"), strlen(row->name));
                check(row->priority >= LOG_ERR && row->priority <= LOG_INFO);
                check(row->fields != 0 && !(row->fields & row->optional) && !((row->fields | row->optional) & bit(AUDIT_F_EVENT)));
                fields_of(row->message, &always, &inside);
                check(!(always & ~row->fields));
                check(!(inside & ~(row->fields | row->optional)));
                for (int k = 0; k < i; k++)
                        check(!streq(row->id, audit_table[k].id) && !streq(row->name, audit_table[k].name));
        }
        test_about("no event");
}

/* ---- each call ---- */

static unsigned seen[AUDIT_EVENT_MAX];

/* The lines that were added to a file; each is checked against its row. */
static struct json_object *read_entries(const char *path) {
        struct json_object *list = json_new_array();
        char *line = NULL;
        size_t size = 0;
        FILE *f = fopen(path, "re");

        require(f);
        while (getline(&line, &size, f) > 0) {
                struct json_object *o = json_tokener_parse(line);
                uint64_t have = 0;
                int e;

                require(o);
                test_about("%s", line);
                check(strchr(line, '\n') == line + strlen(line) - 1);
                e = by_name(json_str_or(o, "TDID_EVENT", ""));
                require(e >= 0);
                seen[e]++;
                check_str(json_str_or(o, "MESSAGE_ID", ""), audit_table[e].id);
                check(!isempty(json_str_or(o, "MESSAGE", "")));
                check(!strpbrk(json_str_or(o, "MESSAGE", ""), "{}[]"));
                check_int(json_str_or(o, "PRIORITY", "")[0], '0' + audit_table[e].priority);
                for (int k = 0; k < AUDIT_FIELD_MAX; k++)
                        if (json_object_object_get_ex(o, audit_field_name(k), NULL))
                                have |= bit(k);
                have &= ~bit(AUDIT_F_EVENT);
                check(!(audit_table[e].fields & ~have));
                check(!(have & ~(audit_table[e].fields | audit_table[e].optional)));
                json_push_take(list, o);
        }
        free(line);
        fclose(f);
        test_about("entries");
        return list;
}

static struct json_object *entry(struct json_object *list, size_t i) {
        require(i < json_object_array_length(list));
        return json_object_array_get_idx(list, i);
}

static Manager manager;
static char vm_name[] = "web", vm_id[] = "1700", label[] = "pc", reason[] = "its undo failed", text[] = "no room";

static VM example_vm(void) {
        return (VM){ .manager = &manager, .id = vm_id, .name = vm_name, .uuid = "2f0c9e9a-7a4e-4d8f-9b43-0123456789ab", .owner = 1000, .announced = true,
                     .platform = platform_find("plain"), .phase = TDI_VM_PREPARING };
}

static void tell_all(VM *vm) {
        struct tdi_bdf bdf = { .domain = 0, .bus = 1, .devfn = 0 }, both[] = { bdf, { .bus = 2, .devfn = 9 } };
        Custody c = { .manager = &manager, .bdf = bdf, .name = "0000:01:00.0", .vm = vm, .announced = TDI_CUSTODY_NONE };
        TDI t = { .vm = vm, .custody = &c, .bdf = bdf, .tdisp = TDI_TDISP_INVALID, .shown_tdisp = TDI_TDISP_INVALID };
        Keeper k = { .vm = vm, .kind = KEEPER_LEASE, .number = 3, .label = label, .uid = 1000, .bdf = bdf, .pid = 77 };
        Job j = { .manager = &manager, .id = 9, .kind = JOB_ATTACH, .vm = vm, .caller = 1000, .bdfs = both, .n_bdfs = 2, .state = TDI_JOB_DONE };
        Export x = { .vm = vm, .id = 4, .uid = 1000, .bdf = bdf, .region = 2, .class = TDI_DMABUF_PINNED, .importer = TDI_IMPORTER_ANY, .size = 4096 };
        struct audit_call call = { .method = "Attach", .caller = 1001, .known = true, .vm = vm, .bdf = c.name };
        struct audit_rule rule = { "gpu-for-web", "/etc/tdid/policy.d/50-web.json", 12 };

        audit_started("linux");
        audit_stopping(2);
        audit_leaving("restarting", 2);
        audit_ended(0);
        audit_vm_created(vm, 0);
        audit_vm_phase(vm, TDI_VM_SEALED);
        audit_vm_closing(vm, "it was destroyed");
        audit_vm_gone(vm);
        audit_vm_recovered(vm);
        audit_vm_not_recovered(vm, "its holder is dead");
        audit_holder_died(vm);
        audit_kvm_set(vm, 1000);
        audit_kvm_found(vm, 77);
        audit_kvm_gone(vm);
        audit_keeper_added(&k);
        audit_keeper_ended(&k);
        k.label = NULL;
        audit_keeper_ended(&k);
        audit_connected(&t, 77, 1000);
        audit_disconnected(&k, "it has ended");
        audit_note(&t, "refused", "another process is connected");
        audit_job_started(&j);
        audit_job_ended(&j);
        j.vm = NULL;
        j.error = TDI_ERROR_LIMIT;
        j.state = TDI_JOB_FAILED;
        j.text = text;
        audit_job_ended(&j);
        audit_tdi_state(&t, TDI_STATE_PREPARED);
        audit_tdi_failed(&t, "gone");
        audit_tdi_tdisp(&t, TDI_TDISP_UNLOCKED); /* nothing new */
        audit_tdi_tdisp(&t, TDI_TDISP_LOCKED);
        audit_tdi_unbound(&t, "its TSM has gone");
        audit_tdi_mismatch(&t, "BAR 2");
        audit_tdi_recovered(&t);
        audit_custody(&c, TDI_CUSTODY_NONE); /* the same */
        audit_custody(&c, TDI_CUSTODY_CLAIM);
        audit_custody_over(&c);
        audit_custody_wanted(&c);
        c.quarantine = reason;
        audit_quarantine(&c);
        c.quarantine = NULL;
        audit_quarantine(&c);
        audit_tsm_connected("0000:01:00.0", "tsm0", NULL);
        audit_tsm_disconnected("0000:01:00.0", "tsm0", &c);
        audit_tsm_lost(&c, "0000:01:00.0", "the TSM has gone");
        c.vm = NULL;
        audit_tsm_lost(&c, "0000:01:00.0", "the TSM has gone");
        audit_custody(&c, TDI_CUSTODY_GUARD);
        audit_handoff(&t, 1000);
        audit_association_opened(vm, 1000);
        audit_associated(&c);
        audit_export_made(&x);
        x.is_memory = true;
        audit_export_state(&x, TDI_DMABUF_REVOKED);
        audit_denied(&call, "org.tdid1.create-vm", "only root may do this");
        call.known = false;
        call.vm = NULL;
        call.bdf = NULL;
        audit_denied(&call, NULL, "the bus does not say who calls");
        audit_refused(&call, "InUse", "it is in use");
        call.method = "GuestRequest";
        audit_refused(&call, "Policy", "not passed on");
        audit_decision(vm, c.name, 1000, true, &rule, NULL);
        audit_decision(vm, c.name, 1000, false, NULL, "no rule");
        audit_policy_loaded(20, "/etc/tdid/policy.d");
        audit_policy_refused("/etc/tdid/policy.d/50-web.json", 3, 7, "\"alow\": unknown key");
        audit_evidence_collected(c.name, "netlink", "ab12", NULL);
        audit_evidence_verified(c.name, "netlink", "ab12", "00ff", NULL);
        audit_evidence_verified(c.name, "netlink", "ab12", NULL, "measurement 3");
        audit_guard_refused(&c, "resource", 77, "Xorg", 0);
        audit_guard_refused(NULL, "mem", 77, "Xorg", 0);
}

static void test_calls(const char *folder) {
        struct json_object *list, *o;
        VM vm = example_vm();
        char path[128];

        snprintf(path, sizeof(path), "%s/all", folder);
        require(audit_open(manager.event, path) >= 0);
        tell_all(&vm);
        /* What an earlier one has told is not told again. */
        audit_pause(true);
        audit_vm_gone(&vm);
        audit_pause(false);
        audit_close();
        /* Closed is closed. */
        audit_vm_gone(&vm);
        list = read_entries(path);
        for (int e = 0; e < AUDIT_EVENT_MAX; e++) {
                test_about("%s", audit_table[e].name);
                check_int(seen[e] > 0, e != AUDIT_LOST);
        }
        test_about("messages");
        check_int(seen[AUDIT_VM_GONE], 1);
        check_int(seen[AUDIT_CUSTODY], 2);
        check_int(seen[AUDIT_TDI_TDISP], 1);
        o = entry(list, 5);
        check_str(json_str_or(o, "MESSAGE", ""), "VM web: preparing → sealed");
        check_str(json_str_or(o, "TDID_OLD", ""), "preparing");
        check_str(json_str_or(o, "TDID_OWNER", ""), "1000");
        o = entry(list, 11);
        check_str(json_str_or(o, "MESSAGE", ""), "VM web: uid 1000 has given its KVM VM");
        o = entry(list, 12);
        check_str(json_str_or(o, "MESSAGE", ""), "VM web: its KVM VM is that of process 77");
        o = entry(list, 15);
        check_str(json_str_or(o, "MESSAGE", ""), "VM web: a keeper has ended: lease \"pc\" of uid 1000");
        o = entry(list, 16);
        check_str(json_str_or(o, "MESSAGE", ""), "VM web: a keeper has ended: lease of uid 1000");
        o = entry(list, 20);
        check_str(json_str_or(o, "MESSAGE", ""), "job 9: uid 1000 asks for attach of 0000:01:00.0, 0000:02:01.1, VM web");
        check_str(json_object_to_json_string_ext(json_object_object_get(o, "TDID_BDF"), JSON_C_TO_STRING_PLAIN), "[\"0000:01:00.0\",\"0000:02:01.1\"]");
        json_object_put(list);
}

/* ---- values that lie ---- */

static void check_clean(const char *value, const char *expected) {
        char buf[AUDIT_VALUE_MAX];

        test_about("%s", value);
        audit_clean(value, false, buf);
        check_str(buf, expected);
}

static void test_values(void) {
        static const char *const kept[] = { "", "web", "a=b", "TDID 0x0010", "guest RID 0x1f00", "pid 123456789", "32 MiB of 4096", "größer → kleiner",
                                            "/run/tdid/vm/2f0c9e9a-7a4e-4d8f-9b43-0123456789ab/x", "job 12345678", "deadbeefs", "0000:01:00.0",
                                            "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08" };
        char longer[AUDIT_VALUE_MAX * 2], clean[AUDIT_VALUE_MAX];
        struct audit_value values[] = { { AUDIT_F_LABEL, AUDIT_TEXT, "x\nMESSAGE_ID=0\nTDID_VM=other\n\n", 0 }, { AUDIT_F_REASON, AUDIT_TEXT, "at 0xfe000000", 0 } };
        static char entry_text[AUDIT_ENTRY_MAX];
        unsigned lines = 0;
        size_t n;

        for (size_t i = 0; i < ARRAY_SIZE(kept); i++)
                check_clean(kept[i], kept[i]);
        check_clean("a\nTDID_VM=b", "a?TDID_VM=b");
        check_clean("a\r\x1b[31mb\x7f", "a??[31mb?");
        check_clean("\xc2\x85next\xc2\xa0", "??next\xc2\xa0");
        check_clean("\xff\xfe\xe2\x86", "????");
        check_clean("F_TRANSLATION at 0x1234000", "F_TRANSLATION at (addr)");
        check_clean("0x12345", "(addr)");
        check_clean("[mem 0xfe000000-0xfe003fff]", "[mem (addr)-(addr)]");
        check_clean("fe000000-fe003fff: MEM", "(addr)-(addr): MEM");
        check_clean("80000000-80003fff", "(addr)-(addr)");
        check_clean("at 000000008f000000, 4294967296", "at (addr), (addr)");
        memset(longer, 'x', sizeof(longer));
        longer[sizeof(longer) - 1] = '\0';
        test_about("long");
        audit_clean(longer, false, clean);
        check_int(strlen(clean), AUDIT_VALUE_MAX - 1);
        check_str(clean + AUDIT_VALUE_MAX - 4, "...");
        /* Cut within a character. */
        memset(longer + AUDIT_VALUE_MAX - 6, 0xe2, 1);
        audit_clean(longer, false, clean);
        check(json_object_put(json_object_new_string(clean)) && clean[AUDIT_VALUE_MAX - 6] == '?');

        test_about("injection");
        n = audit_native(AUDIT_REFUSED, values, ARRAY_SIZE(values), entry_text);
        check_int(n, strlen(entry_text));
        for (char *p = entry_text; (p = strchr(p, '\n')); p++)
                lines++;
        check_int(lines, 5 + ARRAY_SIZE(values));
        check(!strstr(entry_text, "\nTDID_VM=") && strstr(entry_text, "TDID_LABEL=x?MESSAGE_ID=0?TDID_VM=other??\n"));
        check(!strstr(entry_text, "fe000000"));

        /* The longest there can be has room. */
        for (enum audit_event e = 0; e < AUDIT_EVENT_MAX; e++) {
                struct audit_value all[AUDIT_FIELD_MAX + 256];
                size_t k = 0;

                for (int f = 0; f < AUDIT_FIELD_MAX; f++)
                        if ((audit_table[e].fields | audit_table[e].optional) & bit(f))
                                all[k++] = (struct audit_value){ f, AUDIT_TEXT, longer, 0 };
                while (k < AUDIT_FIELD_MAX + 256 - 1 && audit_table[e].optional & bit(AUDIT_F_BDF))
                        all[k++] = (struct audit_value){ AUDIT_F_BDF, AUDIT_TEXT, "0000:01:00.0", 0 };
                test_about("%s", audit_table[e].name);
                check(audit_native(e, all, k, entry_text) < AUDIT_ENTRY_MAX - 1);
                check(audit_json(e, all, k, entry_text) < AUDIT_ENTRY_MAX - 1);
                check_int(entry_text[strlen(entry_text) - 1], '\n');
        }
        test_about("no event");
}

/* ---- who asks again and again ---- */

static void test_refusals(const char *folder) {
        struct audit_call call = { .method = "CreateVM", .caller = 5000, .known = true };
        struct json_object *list;
        char path[128];

        snprintf(path, sizeof(path), "%s/refusals", folder);
        require(audit_open(manager.event, path) >= 0);
        for (int i = 0; i < 1000; i++)
                audit_denied(&call, NULL, "no");
        /* Another is told of, however many there are. */
        for (uid_t uid = 6000; uid < 6100; uid++) {
                call.caller = uid;
                audit_refused(&call, "Limit", "no");
        }
        audit_close();
        list = read_entries(path);
        check_int(json_object_array_length(list), 20 + 100);
        json_object_put(list);
}

/* ---- the journal ---- */

static int make_journal(const char *path) {
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        require(fd >= 0);
        snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
        require(bind(fd, (struct sockaddr *) &address, sizeof(address)) == 0);
        return fd;
}

/* The value of a field of the next entry; "" without one. */
static const char *receive(int fd, const char *key) {
        static char data[AUDIT_ENTRY_MAX], value[AUDIT_VALUE_MAX];
        ssize_t n = recv(fd, data, sizeof(data) - 1, 0);
        const char *p;

        if (n < 0)
                return "";
        data[n] = '\0';
        for (p = data; p && !(startswith(p, key) && p[strlen(key)] == '='); p = *p ? p + 1 : NULL)
                p = strchr(p, '\n');
        if (!p)
                return "";
        snprintf(value, sizeof(value), "%.*s", (int) strcspn(p + strlen(key) + 1, "\n"), p + strlen(key) + 1);
        return value;
}

static void test_journal(const char *folder) {
        char path[100], missing[110];
        VM vm = example_vm();
        unsigned sent = 0, got = 0, lost = 0;
        const char *value;
        int fd;

        test_about("journal");
        snprintf(path, sizeof(path), "%s/journal", folder);
        fd = make_journal(path);
        require(audit_open_journal(manager.event, path) >= 0);
        audit_vm_gone(&vm);
        check_str(receive(fd, "TDID_VM"), "web");
        audit_vm_gone(&vm);
        check_str(receive(fd, "MESSAGE_ID"), audit_table[AUDIT_VM_GONE].id);

        /* Nobody reads: nothing waits, and what has no room is counted. */
        for (; sent < AUDIT_KEPT_MAX * 2; sent++)
                audit_vm_not_recovered(&vm, "");
        /* They come in order, and what was lost is told at the end of them. */
        while (lost == 0) {
                require(sd_event_run(manager.event, 1000) >= 0);
                while (*(value = receive(fd, "TDID_EVENT")))
                        if (streq(value, "lost"))
                                lost = 1;
                        else {
                                check_str(value, "vm-not-recovered");
                                got++;
                        }
        }
        check(got >= AUDIT_KEPT_MAX && got < sent);
        audit_vm_gone(&vm);
        check_str(receive(fd, "TDID_EVENT"), "vm-gone");

        /* Nor does the end wait for ever, for one that does not read. */
        for (int i = 0; i < AUDIT_KEPT_MAX; i++)
                audit_vm_not_recovered(&vm, "");
        audit_close();
        close(fd);
        unlink(path);

        /* There is none, and then there is. */
        snprintf(missing, sizeof(missing), "%s-2", path);
        require(audit_open_journal(manager.event, missing) >= 0);
        for (int i = 0; i < 3; i++)
                audit_vm_gone(&vm);
        fd = make_journal(missing);
        audit_vm_gone(&vm);
        check_str(receive(fd, "TDID_COUNT"), "3");
        check_str(receive(fd, "TDID_EVENT"), "vm-gone");
        check_str(receive(fd, "TDID_EVENT"), "");
        audit_close();
        close(fd);

        check_int(audit_open(manager.event, "nowhere"), -EINVAL);
        check_int(audit_open(manager.event, "/no/such/folder/file"), -ENOENT);
        memset(missing, 'x', sizeof(missing) - 1);
        missing[sizeof(missing) - 1] = '\0';
        check_int(audit_open_journal(manager.event, missing), -ENAMETOOLONG);
}

/* A disk that is full. */
static void test_full(void) {
        VM vm = example_vm();

        test_about("full");
        require(audit_open(manager.event, "/dev/full") >= 0);
        audit_vm_gone(&vm);
        audit_close();
        require(audit_open(manager.event, "none") >= 0);
        audit_vm_gone(&vm);
        audit_close();
}

/* ---- the log ---- */

/* What of an event gets to stderr; whether that is the journal or not. */
static bool is_logged(const char *folder, bool is_journal, bool to_journal) {
        char path[100], text_of_log[4096] = "", stream[64];
        int saved = dup(STDERR_FILENO), file, journal;
        VM vm = example_vm();
        struct stat st;
        ssize_t n;

        snprintf(path, sizeof(path), "%s/stderr", folder);
        file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        require(file >= 0 && saved >= 0 && dup2(file, STDERR_FILENO) >= 0 && fstat(file, &st) == 0);
        snprintf(stream, sizeof(stream), "%ju:%ju", (uintmax_t) st.st_dev, (uintmax_t) st.st_ino + !is_journal);
        setenv("JOURNAL_STREAM", stream, 1);
        snprintf(path, sizeof(path), "%s/socket", folder);
        journal = make_journal(path);
        require((to_journal ? audit_open_journal(manager.event, path) : audit_open(manager.event, "/dev/null")) >= 0);
        audit_vm_gone(&vm);
        audit_close();
        unsetenv("JOURNAL_STREAM");
        require(dup2(saved, STDERR_FILENO) >= 0);
        check_str(receive(journal, "TDID_EVENT"), to_journal ? "vm-gone" : "");
        n = pread(file, text_of_log, sizeof(text_of_log) - 1, 0);
        require(n >= 0);
        close(saved);
        close(file);
        close(journal);
        unlink(path);
        return strstr(text_of_log, "VM web is gone");
}

static void test_log(const char *folder) {
        test_about("log");
        check(is_logged(folder, false, true));
        check(is_logged(folder, false, false));
        check(is_logged(folder, true, false));
        /* Once is enough. */
        check(!is_logged(folder, true, true));
}

int main(void) {
        char folder[64];
        unsigned fds;

        require(sd_event_new(&manager.event) >= 0);
        test_make_dir(folder);
        /* The loop opens what it needs when it runs first. */
        require(sd_event_run(manager.event, 0) >= 0);
        fds = test_count_fds();
        test_table();
        test_calls(folder);
        test_values();
        test_refusals(folder);
        test_journal(folder);
        test_full();
        test_log(folder);
        test_about("descriptors");
        check_int(test_count_fds(), fds);
        test_remove_dir(folder);
        sd_event_unref(manager.event);
        return test_end();
}
