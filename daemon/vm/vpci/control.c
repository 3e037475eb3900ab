/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* What tdid asks the supervisor: functions by address, the peer, the state of TDIs. */
#include <stdio.h>

#include "log.h"
#include "model/json.h"
#include "vm/store.h"
#include "vm/vpci/clock.h"
#include "vm/vpci/tdisp.h"
#include "vm/vpci/vpci-internal.h"

/* Unless tdid says otherwise. */
#define DEFAULT_BYTES (1ULL << 40)
#define DEFAULT_MAPS (1ULL << 20)
/* So many bytes of state in an answer: one function more still fits into a packet. */
#define STATE_ENOUGH (64UL * 1024)

static struct function *find_in(struct function *const *list, size_t n, struct json_object *request) {
        const char *bdf = json_str_or(request, "bdf", "");

        for (size_t i = 0; i < n; i++)
                if (streq(list[i]->bdf, bdf))
                        return list[i];
        return NULL;
}

static struct function *find(struct vpci *v, struct json_object *request) {
        return find_in(v->functions, v->n, request);
}

static int do_serve(struct vpci *v, struct store *s, struct json_object *request, struct ipc_fds *fds, struct json_object *answer) {
        const char *bdf = json_str_or(request, "bdf", "");
        const char *on_illegal = json_str_or(request, "on_illegal_config_write", NULL);
        enum vconfig_illegal illegal = on_illegal ? vconfig_illegal_from_string(on_illegal) : VCONFIG_ILLEGAL_SHADOW;
        struct json_object *info = NULL, *limits;
        uint64_t ioas, uid;
        char key[64];
        int device, iommufd, r;

        if (find(v, request))
                return -EEXIST;
        if (v->n + v->n_given_up >= FUNCTIONS_MAX)
                return -ENOSPC;
        if (fds->n != 1 || illegal < 0 || json_get_u64(request, "ioas", &ioas) < 0 || json_get_u64(request, "uid", &uid) < 0 ||
            json_get_object(request, "info", &info) < 0 || snprintf(key, sizeof(key), "cdev:%s", bdf) >= (int) sizeof(key))
                return -EINVAL;
        device = store_get(s, key);
        iommufd = store_get(s, "iommufd");
        if (device < 0 || iommufd < 0)
                return -ENOENT;
        if (!v->dma) {
                struct dma_limits l = { .bytes = DEFAULT_BYTES, .maps = DEFAULT_MAPS };

                if (json_get_object(request, "limits", &limits) >= 0) {
                        l.bytes = json_u64_or(limits, "bytes", l.bytes);
                        l.maps = json_u64_or(limits, "maps", l.maps);
                }
                r = dma_new(v->host, &l, &v->dma);
                if (r < 0)
                        return r;
                dma_set_iommufd(v->dma, iommufd);
        }
        if (!v->allowed) {
                if (free_and_strdup(&v->seclabel, json_str_or(request, "seclabel", NULL)) < 0)
                        return -ENOMEM;
                v->uid = (uid_t) uid;
                v->allowed = true;
        }
        r = function_new(v, v->host, bdf, device, (uint32_t) ioas, json_bool_or(request, "peer_to_peer", false), illegal, fds->fd[0], info, &v->functions[v->n]);
        if (r < 0)
                return r;
        /* So that a tdid which asked for it knows that this holder has understood. */
        json_set_str(answer, "on_illegal_config_write", on_illegal);
        (void) ipc_fds_take(fds, 0);
        v->n++;
        return 0;
}

static int do_stop(struct vpci *v, struct json_object *request, struct json_object *answer) {
        struct function *f = find(v, request);

        /* Stopped for a tdid that has not heard of it any more. */
        if (!f && find_in(v->given_up, v->n_given_up, request)) {
                json_set_bool(answer, "stuck", true);
                return 0;
        }
        if (!f)
                return -ENOENT;
        if (v->stopping)
                return -EBUSY;
        if (json_bool_or(request, "idle", false) && function_is_connected(f))
                return -EISCONN;
        vpci_close_later(v, function_stop(f));
        v->stopping = f;
        v->stop_deadline = now_nsec() + STOP_PATIENCE_NSEC;
        return 1;
}

/* Nobody is served any more from here on; each function's end is waited for by its own vpci.stop. */
static int do_stop_all(struct vpci *v, struct store *s) {
        for (size_t i = 0; i < v->n; i++)
                vpci_close_later(v, function_stop(v->functions[i]));
        viommus_end(&v->viommus, v->host, store_get(s, "iommufd"), 0);
        return 0;
}

static int do_viommu(struct vpci *v, struct store *s, struct json_object *request) {
        uint32_t id = (uint32_t) json_u64_or(request, "id", 0);
        int iommufd = store_get(s, "iommufd");

        if (id == 0 || iommufd < 0)
                return id == 0 ? -EINVAL : iommufd;
        if (json_bool_or(request, "on", false))
                return viommus_add(&v->viommus, v->host, iommufd, id, (uint32_t) json_u64_or(request, "type", 0));
        viommus_end(&v->viommus, v->host, iommufd, id);
        return 0;
}

struct json_object *vpci_take_answer(struct vpci *v) {
        struct function *f = v->stopping;
        struct json_object *answer;
        bool ended;

        if (!f)
                return NULL;
        ended = function_has_ended(f);
        if (!ended && now_nsec() < v->stop_deadline)
                return NULL;
        v->stopping = NULL;
        for (size_t i = 0; i < v->n; i++)
                if (v->functions[i] == f) {
                        v->functions[i] = v->functions[--v->n];
                        break;
                }
        if (ended)
                function_free(f);
        else {
                log_warning("%s: its thread has not come back from the kernel: it is given up", f->bdf);
                v->given_up[v->n_given_up++] = f;
        }
        answer = json_new();
        json_set_i64(answer, "r", 0);
        json_set_bool(answer, "stuck", !ended);
        return answer;
}

static int do_lock(struct vpci *v, struct json_object *request) {
        const char *name = json_str_or(request, "state", "");
        enum tdi_tdisp state = streq(name, "bound") ? TDI_TDISP_UNLOCKED : tdi_tdisp_from_string(name);
        struct function *f = find(v, request);

        if (!f || state == TDI_TDISP_INVALID || state == TDI_TDISP_NONE)
                return f ? -EINVAL : -ENOENT;
        return tdisp_set_bound(f, !streq(name, "unlocked"), state);
}

static int do_requests(struct vpci *v, struct store *s, struct json_object *request) {
        struct function *f = find(v, request);
        struct request_path path = {
                .provider = provider_get(provider_find(json_str_or(request, "provider", ""))),
                .binding = -EBADF,
                .vdevice = (uint32_t) json_u64_or(request, "vdevice", 0),
                .tvm_arch = (uint32_t) json_u64_or(request, "tvm_arch", 0),
        };
        bool on = json_bool_or(request, "on", false);
        char key[64];
        int r = -ENOENT;

        if (!f)
                return -ENOENT;
        if (on) {
                if (!path.provider || snprintf(key, sizeof(key), "bind:%s", f->bdf) >= (int) sizeof(key))
                        return -EINVAL;
                path.binding = store_get(s, key);
                if (path.binding >= 0)
                        path.binding = fd_dup(path.binding);
                if (path.binding < 0)
                        return path.binding;
        }
        pthread_mutex_lock(&f->lock);
        if (f->requests && on) {
                requests_bind(f->requests, &path);
                path.binding = -EBADF;
                r = 0;
        } else if (f->requests)
                r = requests_unbind(f->requests);
        else if (!f->ended)
                r = -EAGAIN; /* one is under way, or its end */
        pthread_mutex_unlock(&f->lock);
        close_fd(path.binding);
        return r;
}

static int do_report(struct vpci *v, struct json_object *request, struct json_object *answer) {
        struct function *f = find(v, request);
        _cleanup_free_ char *text = f ? tdisp_report_hex(f) : NULL;

        if (text)
                json_set_str(answer, "report", text);
        return text ? 0 : -ENOENT;
}

static int do_tee(struct vpci *v, struct json_object *request) {
        struct function *f = find(v, request);
        struct json_object *ranges;

        if (!f)
                return -ENOENT;
        return json_get_array(request, "ranges", &ranges) < 0 ? -EINVAL : tdisp_set_tee(f, ranges);
}

static int do_open_requests(struct vpci *v, struct json_object *request, struct ipc_fds *fds) {
        struct function *f = find(v, request);
        int r = -ENOENT;

        if (!f || fds->n != 1)
                return f ? -EINVAL : -ENOENT;
        pthread_mutex_lock(&v->rate.lock);
        v->rate.per_second = (unsigned) json_u64_or(request, "per_second", 0);
        pthread_mutex_unlock(&v->rate.lock);
        pthread_mutex_lock(&f->lock);
        if (f->requests)
                r = requests_add(f->requests, fds->fd[0], (unsigned) json_u64_or(request, "kinds", 0), json_bool_or(request, "own", false),
                                 json_str_or(request, "vm", ""));
        pthread_mutex_unlock(&f->lock);
        if (r >= 0)
                (void) ipc_fds_take(fds, 0);
        return r;
}

static int do_peer(struct vpci *v, struct json_object *request, struct ipc_fds *fds) {
        int maps, helper;

        if (fds->n < 1 || fds->n > 2 || !v->dma)
                return -EINVAL;
        /* The answer to an earlier process's question. */
        if (v->peer < 0 || json_u64_or(request, "serial", 0) != v->serial)
                return -ESTALE;
        maps = ipc_fds_take(fds, 0);
        helper = ipc_fds_take(fds, 1);
        /* Before dma_set_peer(), which hangs up on the one before. */
        close_fd(v->helper);
        v->helper = helper >= 0 ? fd_dup(helper) : -EBADF;
        v->helper_gone = false;
        dma_set_peer(v->dma, maps, helper);
        return 0;
}

/* A packet has room for some functions; who asks goes on from "next". */
static int do_state(struct vpci *v, struct json_object *request, struct json_object *answer) {
        struct json_object *list = json_new_array();
        size_t i = json_u64_or(request, "from", 0), total = 0;

        for (; i < v->n && total < STATE_ENOUGH; i++) {
                struct json_object *o = function_describe(v->functions[i]);
                size_t size;

                (void) json_object_to_json_string_length(o, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE, &size);
                total += size;
                json_push_take(list, o);
        }
        json_set_take(answer, "functions", list);
        if (i < v->n)
                json_set_u64(answer, "next", i);
        json_set_u64(answer, "serial", v->serial);
        if (v->peer >= 0)
                json_set_u64(answer, "pid", (uint64_t) v->pid);
        json_set_bool(answer, "helper_gone", v->helper_gone);
        json_set_u64(answer, "given_up", v->n_given_up);
        json_set_u64(answer, "pinned", v->dma ? dma_pinned(v->dma) : 0);
        json_set_u64(answer, "events_lost", v->n_lost);
        json_set_take(answer, "viommus", viommus_describe(&v->viommus));
        return 0;
}

int vpci_request(struct vpci *v, struct store *s, const char *op, struct json_object *request, struct ipc_fds *fds,
                 struct json_object *answer) {
        if (streq(op, "vpci.serve"))
                return do_serve(v, s, request, fds, answer);
        if (streq(op, "vpci.stop"))
                return do_stop(v, request, answer);
        if (streq(op, "vpci.stop_all"))
                return do_stop_all(v, s);
        if (streq(op, "vpci.viommu"))
                return do_viommu(v, s, request);
        if (streq(op, "vpci.peer"))
                return do_peer(v, request, fds);
        if (streq(op, "vpci.lock"))
                return do_lock(v, request);
        if (streq(op, "vpci.requests"))
                return do_requests(v, s, request);
        if (streq(op, "vpci.report"))
                return do_report(v, request, answer);
        if (streq(op, "vpci.tee"))
                return do_tee(v, request);
        if (streq(op, "vpci.open_requests"))
                return do_open_requests(v, request, fds);
        if (streq(op, "vpci.state"))
                return do_state(v, request, answer);
        if (streq(op, "vpci.request")) {
                struct function *f = find(v, request);

                if (f)
                        irq_ring_request(f);
                return f ? 0 : -ENOENT;
        }
        return -EOPNOTSUPP;
}
