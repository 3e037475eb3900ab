/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* org.tdid1.Device.Evidence: what a device says of itself, asked for now or as the archive has it, and what it proves. */
#include "evidence.h"

#include <stdio.h>
#include <sys/stat.h>

#include "admission.h"
#include "bus/bus-vm.h"
#include "device.h"
#include "ipc.h"

/* Of one caller more than one at a time is of no use: devices are asked one by one. */
#define WAITING_MAX 32

struct evidence_call {
        Manager *manager;
        sd_bus_message *call;
        Evidence *asking;
        struct evidence_call *next;
};

struct options {
        const char *nonce;
        bool verify, archived;
};

static const struct option evidence_options[] = {
        { "nonce", 's', offsetof(struct options, nonce), NULL },
        { "verify", 'b', offsetof(struct options, verify), NULL },
        { "archived", 'b', offsetof(struct options, archived), NULL },
        {},
};

static void end(struct evidence_call *x) {
        struct evidence_call **p = &x->manager->evidence_calls;

        while (*p != x)
                p = &(*p)->next;
        *p = x->next;
        evidence_cancel(x->asking);
        sd_bus_message_unref(x->call);
        free(x);
}

static int read_text(int fd, char **ret) {
        _cleanup_free_ char *text = NULL;
        struct stat st;
        ssize_t n;

        if (fstat(fd, &st) < 0)
                return -errno;
        if (st.st_size > EVIDENCE_TEXT_MAX)
                return -EFBIG;
        text = malloc((size_t) st.st_size + 1);
        if (!text)
                return -ENOMEM;
        n = pread(fd, text, (size_t) st.st_size, 0);
        if (n != st.st_size)
                return n < 0 ? -errno : -EIO;
        text[n] = '\0';
        *ret = TAKE_PTR(text);
        return 0;
}

static void on_evidence(int r, const char *text, struct evidence_answer *answer, void *userdata) {
        struct evidence_call *x = userdata;
        sd_bus_error e = SD_BUS_ERROR_NULL;
        _cleanup_free_ char *json = NULL;

        x->asking = NULL;
        if (r < 0)
                bus_set_error(&e, r == -ENODATA ? TDI_ERROR_EVIDENCE : r == -ETIMEDOUT ? TDI_ERROR_TIMEOUT : TDI_ERROR_KERNEL, "%s", text);
        else
                r = read_text(answer->text, &json);
        if (r >= 0)
                r = sd_bus_reply_method_return(x->call, "sh", json, answer->raw);
        else
                r = sd_bus_reply_method_errno(x->call, r, &e);
        if (r < 0)
                log_debug("could not reply to a call: %s", strerror(-r));
        sd_bus_error_free(&e);
        end(x);
}

static bool nonce_is_valid(const char *nonce) {
        return strlen(nonce) == 64 && strspn(nonce, "0123456789abcdef") == 64;
}

int bus_method_evidence(sd_bus_message *call, void *userdata, sd_bus_error *e) {
        _cleanup_json_ struct json_object *wanted = NULL;
        struct options o = {};
        Manager *m = userdata;
        struct evidence_call *x;
        char bdf[TDI_BDF_MAX];
        unsigned n = 0;
        Device *d;
        int r;

        r = options_read(call, evidence_options, &o, e);
        if (r < 0)
                return r;
        if (o.nonce && !nonce_is_valid(o.nonce))
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "nonce: 32 bytes as 64 digits, 0 to 9 and a to f");
        if (o.nonce && o.archived)
                return bus_error(e, TDI_ERROR_INVALID_ARGUMENT, "nonce: what the archive has was asked for with one of its own");
        d = bus_device(m, sd_bus_message_get_path(call));
        if (!d || d->gone)
                return bus_error(e, TDI_ERROR_NOT_FOUND, "the function is gone");
        r = access_host(m, POLKIT_EVIDENCE, tdi_bdf_format(d->bdf, bdf), call, bus_method_evidence, e);
        if (r <= 0)
                return r < 0 ? r : 1;
        for (x = m->evidence_calls; x; x = x->next)
                n++;
        if (n >= WAITING_MAX)
                return bus_error(e, TDI_ERROR_LIMIT, "too many ask for evidence at once; try again");
        if (o.verify)
                wanted = admission_all_evidence(m);
        x = calloc(1, sizeof(*x));
        if (!x)
                return -ENOMEM;
        *x = (struct evidence_call){ m, sd_bus_message_ref(call), NULL, m->evidence_calls };
        m->evidence_calls = x;
        r = o.archived ? evidence_look_up(m, d, wanted, on_evidence, x, &x->asking) : evidence_ask(m, d, wanted, o.nonce, on_evidence, x, &x->asking);
        if (r >= 0)
                return 1;
        end(x);
        if (r == -EBUSY)
                return bus_error(e, TDI_ERROR_BUSY, "the device is being asked already; try again");
        return bus_error(e, r == -EAGAIN ? TDI_ERROR_LIMIT : TDI_ERROR_KERNEL, "could not start a worker: %s", strerror(-r));
}

void bus_evidence_end(Manager *m) {
        while (m->evidence_calls)
                end(m->evidence_calls);
}
