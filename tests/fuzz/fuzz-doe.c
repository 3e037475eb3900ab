/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* DOE mailboxes: every register that is read is the input's next double word. What comes out fits, and it ends. */
#include "evidence/doe.h"
#include "fuzz.h"

struct input {
        const uint8_t *p;
        size_t left;
        uint64_t now;
        unsigned reads, writes;
};

static int input_read(void *userdata, unsigned offset, uint32_t *ret) {
        struct input *in = userdata;
        size_t n = in->left < 4 ? in->left : 4;

        must(offset % 4 == 0 && offset < 0x1000);
        *ret = 0;
        memcpy(ret, in->p, n);
        in->p += n;
        in->left -= n;
        in->reads++;
        return *ret == 0xdeadbeef ? -EIO : 0;
}

static int input_write(void *userdata, unsigned offset, _unused_ uint32_t value) {
        struct input *in = userdata;

        must(offset % 4 == 0 && offset < 0x1000);
        in->writes++;
        return 0;
}

static uint64_t input_now(void *userdata) {
        return ((struct input *) userdata)->now += 1000;
}

static void input_sleep(void *userdata, uint64_t usec) {
        ((struct input *) userdata)->now += usec * 100;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        struct input in = { data, size, 0, 0, 0 };
        const struct doe_access a = { input_read, input_write, input_now, input_sleep, &in };
        struct evidence_why why = {};
        uint8_t response[256];
        unsigned offset = 0;
        size_t n = 0;
        int r;

        r = doe_find(&a, DOE_TYPE_CMA_SPDM, &offset, &why);
        must(r == 0 || (r == -EBADMSG && why.reason != EVIDENCE_OK && why.text[0]));
        must(r < 0 || (offset >= 0x100 && offset <= 0x1000 - 0x18 && offset % 4 == 0));
        if (r < 0)
                offset = 0x100;
        why = (struct evidence_why){};
        r = doe_exchange(&a, offset, DOE_TYPE_CMA_SPDM, data, size < 100 ? size : 100, response, sizeof(response), &n, DOE_USEC, &why);
        must(r == 0 || (r == -EBADMSG && why.reason != EVIDENCE_OK && why.text[0]));
        must(r < 0 || (n > 0 && n <= sizeof(response) && n % 4 == 0));
        must(in.reads < 4000000 && in.writes < 4000000);
        return 0;
}
