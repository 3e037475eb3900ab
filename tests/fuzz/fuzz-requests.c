/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of the sockets for requests of guests: packets of a client's on a function that is bound, whose bind provider is this program's
 * own and looks at every call.
 *
 * An input begins with which kinds are allowed (six bits) and whether the function is bound (the next one), and a byte that chooses the provider; then come
 * packets: two bytes of length, and so many bytes. What the provider makes of a request, its first byte of data says.
 */
#include <sys/socket.h>
#include <tdi/request.h>

#include "fuzz.h"
#include "host/iommufd_tsm.h"
#include "host/tdid_bind.h"
#include "vm/vpci/function.h"

#define PACKETS_MAX 32
#define VDEVICE 7

static int iommufd(void *p);

static int provider(TdiHost *host, int fd, unsigned long request, void *p) {
        struct tdid_bind_request *q = p;
        const uint8_t *in = (const uint8_t *) (uintptr_t) q->in;
        uint8_t *out = (uint8_t *) (uintptr_t) q->out;

        (void) host;
        must(fcntl(fd, F_GETFD) >= 0);
        if (request == TDI_IOMMU_VDEVICE_TSM_REQ)
                return iommufd(p);
        must(request == TDID_BIND_IOC_REQUEST);
        must(q->argsz == sizeof(*q) && q->flags == 0 && q->scope <= 1 && q->in_len <= TDID_BIND_REQUEST_MAX && q->out_len <= TDID_BIND_REQUEST_MAX);
        for (uint32_t i = 0; i < q->in_len; i++)
                must(in[i] <= UINT8_MAX);
        memset(out, 0xa5, q->out_len);
        q->tsm_code = q->in_len > 1 ? in[1] : 0;
        switch (q->in_len > 0 ? in[0] & 7 : 0) {
        case 0:
                q->out_used = q->in_len < q->out_len ? q->in_len : q->out_len;
                return 0;
        case 1:
                q->out_used = q->out_len;
                return 0;
        case 2:
                /* What no provider says. */
                q->out_used = q->out_len + 1;
                return 0;
        case 3:
                return -EIO;
        case 4:
                return -ENXIO;
        case 5:
                return -EINTR;
        default:
                return -EPERM;
        }
}

/* What is left over, or an error; and now and then what no kernel says. */
static int residue(const uint8_t *in, uint32_t in_len, uint8_t *out, uint32_t out_len) {
        for (uint32_t i = 0; i < in_len; i++)
                must(in[i] <= UINT8_MAX);
        memset(out, 0xa5, out_len);
        switch (in_len > 0 ? in[0] & 7 : 0) {
        case 0:
                return in_len < out_len ? (int) (out_len - in_len) : 0;
        case 1:
                return (int) out_len;
        case 2:
                return (int) out_len + 1;
        case 3:
                return INT32_MAX;
        case 4:
                return -ENXIO;
        default:
                return -EPERM;
        }
}

static int iommufd(void *p) {
        const struct tdi_iommu_vdevice_tsm_req_v5 *q = p;
        struct tdi_iommu_vdevice_tsm_req_v7 *n = p;

        if (q->size == sizeof(*q)) {
                must(q->vdevice_id == VDEVICE && q->scope <= 1 && q->__reserved == 0 && q->req_len <= TDI_REQUEST_SIZE_MAX && q->resp_len <= TDI_REQUEST_SIZE_MAX);
                return residue((const uint8_t *) (uintptr_t) q->req_uptr, q->req_len, (uint8_t *) (uintptr_t) q->resp_uptr, q->resp_len);
        }
        must(n->size == sizeof(*n) && n->vdevice_id == VDEVICE && n->tvm_arch == TDI_IOMMU_TVM_ARCH_CCA);
        must((n->op == 1 || n->op == 2 || (n->op >= 5 && n->op <= 7)) && n->req_len <= TDI_REQUEST_SIZE_MAX && n->resp_len <= TDI_REQUEST_SIZE_MAX);
        n->tsm_code = n->req_len;
        return residue((const uint8_t *) (uintptr_t) n->req_uptr, n->req_len, (uint8_t *) (uintptr_t) n->resp_uptr, n->resp_len);
}

static TdiHost host = { .ops = &(const struct tdi_host_ops){ .ioctl = provider } };
static struct vpci *vpci;

static int tell(struct json_object *event, const int *fds, size_t n_fds, void *userdata) {
        (void) event;
        (void) fds;
        (void) n_fds;
        (void) userdata;
        return 0;
}

static int add(struct function *f, unsigned kinds) {
        int pair[2], r;

        must(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) == 0);
        /* One that was given up may not be gone yet. */
        while ((r = requests_add(f->requests, pair[1], kinds, kinds & 1, "fuzz")) == -ENOSPC)
                usleep(100);
        must(r == 0);
        return pair[0];
}

/* Whether the socket is still there. */
static bool try_packet(int fd, const uint8_t *packet, size_t size, unsigned kinds, bool bound) {
        static uint8_t answer[sizeof(struct tdi_answer_header) + TDI_REQUEST_SIZE_MAX + 1];
        struct tdi_request_header q = {};
        struct tdi_answer_header a;
        ssize_t n;

        /* libFuzzer's timer interrupts what waits. */
        if (TEMP_FAILURE_RETRY(send(fd, packet, size, MSG_NOSIGNAL)) != (ssize_t) size)
                return false;
        n = TEMP_FAILURE_RETRY(recv(fd, answer, sizeof(answer), 0));
        if (size < sizeof(q)) {
                must(n <= 0);
                return false;
        }
        memcpy(&q, packet, sizeof(q));
        must(n >= (ssize_t) sizeof(a));
        memcpy(&a, answer, sizeof(a));
        must(a.size == sizeof(a) && a.id == q.id && a.error <= 0);
        must((size_t) n - sizeof(a) <= q.out_max);
        if (a.error < 0)
                must(n == sizeof(a));
        if (q.size != sizeof(q) || q.kind >= TDI_REQUEST_KIND_MAX)
                must(a.error == -EINVAL);
        else if (q.out_max > TDI_REQUEST_SIZE_MAX)
                must(a.error == -EMSGSIZE);
        else if (!(kinds & 1u << q.kind))
                must(a.error == -EPERM);
        else if (!bound)
                must(a.error == -ENOTCONN);
        return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        unsigned kinds = size > 0 ? data[0] & 0x3f : 0, packets = 0;
        bool bound = size > 0 && data[0] & 0x40;
        enum provider_id which = size > 1 ? data[1] % _PROVIDER_MAX : PROVIDER_MODULE;
        const uint8_t *end = data + size;
        struct function f = { .host = &host, .bdf = "0000:01:00.0", .bound = true };
        int fd, next;

        if (!vpci) {
                FILE *nowhere = fopen("/dev/null", "we");

                must(nowhere && vpci_new(&host, tell, NULL, &vpci) == 0);
                /* Every request is a line of the log. libFuzzer keeps the stream that it has. */
                stderr = nowhere;
        }
        next = fuzz_next_fd();
        f.vpci = vpci;
        must(pthread_mutex_init(&f.lock, NULL) == 0 && pthread_cond_init(&f.changed, NULL) == 0);
        must(requests_new(&f, &host, vpci_request_rate(vpci), &f.requests) == 0);
        if (bound)
                requests_bind(f.requests, &(struct request_path){ provider_get(which), fd_dup(2), VDEVICE, TDI_IOMMU_TVM_ARCH_CCA });
        fd = add(&f, kinds);
        for (data += size > 1 ? 2 : size; end - data >= 2 && packets < PACKETS_MAX; packets++) {
                size_t n = (size_t) (data[0] | data[1] << 8);

                data += 2;
                if (n > (size_t) (end - data))
                        n = (size_t) (end - data);
                if (n > 0 && !try_packet(fd, data, n, kinds, bound)) {
                        (void) close(fd);
                        fd = add(&f, kinds);
                }
                data += n;
        }
        while (requests_unbind(f.requests) == -EAGAIN)
                ;
        must(!f.tdisp_under_way);
        f.requests = requests_free(f.requests);
        (void) close(fd);
        free(f.report);
        (void) pthread_cond_destroy(&f.changed);
        (void) pthread_mutex_destroy(&f.lock);
        must(fuzz_next_fd() == next);
        return 0;
}
