/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What everybody is told of a failure: words that are public in themselves, and never the text of the failure. */
#include "bus/bus.h"
#include "test.h"

static Manager *manager;

static bool never(_unused_ Job *j) {
        return false;
}

static void test_errno(void) {
        static const struct {
                const char *text, *expected;
        } cases[] = {
                { "could not write \"1\" to power/control of 0000:01:00.0: Input/output error (EIO)", "EIO" },
                { "…: Device or resource busy (EBUSY); somebody else has it", "EBUSY" },
                { "", "" }, { "EIO", "" }, { "()", "" }, { "(EFOO)", "" }, { "(eio)", "" }, { "process 7 (nosy) holds it", "" },
                { "process 7 (ENOSY (EACCES", "" }, { "(EAGAIN)", "EAGAIN" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                test_about("%s", cases[i].text);
                check_str(public_errno(cases[i].text), cases[i].expected);
        }
}

static void ends_as(enum job_kind kind, size_t n, enum tdi_error error, const char *text, const char *expected) {
        char buf[512], cut[8];
        Job *j = NULL;

        require(job_new(manager, kind, NULL, never, &j) == 0);
        for (size_t i = 0; i < n; i++)
                job_add_bdf(j, (struct tdi_bdf){ 0, (uint8_t) (i + 1), 0 });
        if (n == 0)
                job_add_object(j, "web");
        job_fail(j, error, "%s", text);
        test_about("%s", text);
        public_job_text(j, buf, sizeof(buf));
        check(startswith(buf, expected));
        check_str(strchr(buf, ';'), "; Describe() of the job tells root and the VM's owner more");
        check(!strstr(buf, "nosy") && !strstr(buf, "/home/alice"));
        public_job_text(j, cut, sizeof(cut));
        check_int(strlen(cut), sizeof(cut) - 1);
        job_free(j);
}

static void test_job(void) {
        ends_as(JOB_ATTACH, 1, TDI_ERROR_IN_USE, "0000:01:00.0: /dev/sda of it is mounted on /home/alice; unmount it", "attach of 0000:01:00.0: InUse;");
        ends_as(JOB_ATTACH, 3, TDI_ERROR_IN_USE, "0000:02:00.0: process 7 (nosy) holds it through VFIO", "attach of 0000:02:00.0: InUse;");
        ends_as(JOB_ATTACH, 3, TDI_ERROR_CANCELLED, "it was cancelled", "attach of 0000:01:00.0 and 2 more: Cancelled;");
        ends_as(JOB_RESTORE, 1, TDI_ERROR_KERNEL, "could not: nosy: Input/output error (EIO)", "restore of 0000:01:00.0: Kernel (EIO);");
        ends_as(JOB_DESTROY, 0, TDI_ERROR_QUARANTINED, "VM web is gone, but nosy", "destroy of web: Quarantined;");
}

static void test_quarantine(void) {
        Custody *c = custody_new(manager, (struct tdi_bdf){ 0, 1, 0 }, 1);
        char buf[512];

        test_about("%s", "quarantine");
        c->done = 1u << ACTION_CLAIM_REBIND;
        require(free_and_strdup(&c->quarantine, "could not give 0000:01:00.0 back: nosy: No such device (ENODEV); look into /home/alice") == 0);
        public_quarantine(c, false, buf, sizeof(buf));
        check_str(buf, "could not be given back: claim.rebind failed (ENODEV); Describe() tells root and the VM's owner more");
        json_set_str(c->values, "driver", "nvme");
        public_quarantine(c, true, buf, sizeof(buf));
        check_str(buf, "the function has gone from the host, Restore forgets it: could not be given back to its driver nvme: claim.rebind failed (ENODEV); "
                       "Describe() tells root and the VM's owner more");
        /* tdid's own words. */
        require(free_and_strdup(&c->quarantine, "its journal x is damaged") == 0);
        public_quarantine(c, false, buf, sizeof(buf));
        check_str(buf, "its journal x is damaged");
        c->frozen = true;
        require(free_and_strdup(&c->quarantine, "its VM belongs to a newer tdid") == 0);
        public_quarantine(c, false, buf, sizeof(buf));
        check_str(buf, "its VM belongs to a newer tdid");
}

int main(void) {
        require(manager_new(&manager) == 0);
        test_errno();
        test_job();
        test_quarantine();
        manager_free(manager);
        return test_end();
}
