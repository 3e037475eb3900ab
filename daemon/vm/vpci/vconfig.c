/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Reads and writes of the filtered config space. What a guest sees is the kernel's config space with two layers of patches: links past
 * hidden capabilities, which never change, and shadows, which are bits that a guest has written and the hardware does not have.
 *
 * What a write may do is judged bit by bit (vconfig_rules). Shadows are looked at again when the state changes: what the new state
 * lets pass is written then, by the next call that may sleep.
 */
#include "vm/vpci/vconfig.h"

#include <linux/pci_regs.h>
#include <stdio.h>

#include "log.h"
#include "vm/vpci/vconfig-priv.h"

/* Sets of registers, by kind. */
struct outcome {
        uint64_t dropped, shadowed;
};

/* A part of a double word that is being written. */
struct piece {
        unsigned at, n;
        uint8_t guest[4], hw[4];
        uint8_t to[4];     /* what the hardware gets, */
        bool write[4];     /* if it does, */
        uint8_t shadow[4]; /* and which bits the guest sees as it wrote them nonetheless */
};

_Static_assert(KIND_MAX <= 64, "sets of kinds are 64 bits");

static const char *const illegal_names[] = {
        [VCONFIG_ILLEGAL_SHADOW] = "shadow", [VCONFIG_ILLEGAL_REFUSE] = "refuse", [VCONFIG_ILLEGAL_UNBIND] = "unbind",
};

static enum vconfig_state state_of(const struct vconfig *c) {
        return (enum vconfig_state) atomic_load(&c->state);
}

static bool is_locked(enum vconfig_state state) {
        return state == VCONFIG_LOCKED || state == VCONFIG_RUN;
}

static enum vconfig_action action_of(const struct vconfig *c, enum vconfig_state state, enum vconfig_kind kind) {
        if (kind == KIND_MASTER && atomic_load(&c->master) != VCONFIG_MASTER_YES)
                /* Switched off in LOCKED or RUN it would end the TDI, which is worse than a fault at the IOMMU: that waits for the end. */
                return is_locked(state) ? ACTION_SHADOW : atomic_load(&c->master) == VCONFIG_MASTER_NO ? ACTION_WITHHOLD : ACTION_SHADOW_ON;
        return vconfig_rules[kind].action[state];
}

/* ---- the kernel's side ---- */

static int hw_read(struct vconfig *c, unsigned at, void *buf, size_t size) {
        ssize_t n = host_pread(c->host, c->device, buf, size, c->offset + at);

        if (n < 0)
                return (int) n;
        return (size_t) n == size ? 0 : -EIO;
}

/* In accesses as hardware knows them: 1, 2 or 4 bytes, aligned. */
static int hw_write(struct vconfig *c, unsigned at, const uint8_t *data, size_t size) {
        while (size > 0) {
                size_t n = size >= 4 && at % 4 == 0 ? 4 : size >= 2 && at % 2 == 0 ? 2 : 1;
                ssize_t r = host_pwrite(c->host, c->device, data, n, c->offset + at);

                if (r < 0)
                        return (int) r;
                if ((size_t) r != n)
                        return -EIO;
                at += (unsigned) n;
                data += n;
                size -= n;
        }
        return 0;
}

/* ---- one register ---- */

/* What the guest sees where the kernel has @hw. */
static uint8_t view(const struct vconfig *c, unsigned at, uint8_t hw) {
        hw = (uint8_t) ((hw & ~c->fixed_mask[at]) | (c->fixed_value[at] & c->fixed_mask[at]));
        return (uint8_t) ((hw & ~c->shadow_mask[at]) | (c->shadow_value[at] & c->shadow_mask[at]));
}

static bool passes_whole(const struct vconfig *c, enum vconfig_state state, unsigned at, unsigned n) {
        for (unsigned i = 0; i < n; i++)
                for (unsigned bit = 0; bit < 8; bit++)
                        if (action_of(c, state, c->kind[at + i][bit]) != ACTION_PASS)
                                return false;
        return true;
}

/* What becomes of byte @i: fills to, write, shadow. */
static void judge(const struct vconfig *c, enum vconfig_state state, struct piece *p, unsigned i, struct outcome *o) {
        unsigned at = p->at + i;
        uint8_t seen = view(c, at, p->hw[i]);

        for (unsigned bit = 0; bit < 8; bit++) {
                enum vconfig_kind kind = c->kind[at][bit];
                const struct vconfig_rule *rule = &vconfig_rules[kind];
                uint8_t mask = (uint8_t) (1u << bit), guest = p->guest[i] & mask, hw = p->hw[i] & mask, to = hw;

                switch (action_of(c, state, kind)) {
                case ACTION_PASS:
                        to = guest;
                        p->write[i] = true;
                        break;
                case ACTION_SHADOW:
                        if (guest != hw)
                                o->shadowed |= UINT64_C(1) << kind;
                        if (rule->kept) {
                                to = guest;
                                p->write[i] = true;
                        }
                        break;
                case ACTION_SHADOW_OFF:
                        to = guest | hw;
                        break;
                case ACTION_SHADOW_ON:
                        to = guest & hw;
                        break;
                case ACTION_WITHHOLD:
                        to = 0;
                        break;
                case ACTION_DROP:
                        if (rule->trigger)
                                to = 0;
                        if (guest != (rule->trigger ? 0 : seen & mask))
                                o->dropped |= UINT64_C(1) << kind;
                        p->to[i] |= to;
                        continue;
                }
                p->to[i] |= to;
                if (to == guest)
                        continue;
                p->shadow[i] |= mask;
                o->shadowed |= UINT64_C(1) << kind;
        }
        p->write[i] = p->write[i] || (p->to[i] != p->hw[i]);
}

/* The hardware first: where it fails, the guest sees what it saw before. */
static int carry_out(struct vconfig *c, const struct piece *p) {
        for (unsigned i = 0, n; i < p->n; i += n) {
                int r = 0;

                for (n = 1; i + n < p->n && p->write[i + n] == p->write[i]; n++)
                        ;
                if (p->write[i])
                        r = hw_write(c, p->at + i, p->to + i, n);
                if (r < 0)
                        return r;
        }
        for (unsigned i = 0; i < p->n; i++) {
                unsigned at = p->at + i;

                c->shadow_mask[at] = p->shadow[i];
                c->shadow_value[at] = p->guest[i];
                if (at == PCI_COMMAND)
                        atomic_store(&c->wanted, p->guest[i] & PCI_COMMAND_MASTER);
                if (c->kind[at][0] == KIND_POWER)
                        atomic_store(&c->power, p->to[i] & PCI_PM_CTRL_STATE_MASK);
        }
        return 0;
}

/* Within one aligned double word. @dry: only what would become of it. */
static int write_piece(struct vconfig *c, enum vconfig_state state, unsigned at, const uint8_t *data, unsigned n, bool dry, struct outcome *o) {
        struct piece p = { .at = at, .n = n };
        int r;

        memcpy(p.guest, data, n);
        if (passes_whole(c, state, at, n)) {
                if (dry)
                        return 0;
                memcpy(p.to, data, n);
                memset(p.write, true, n);
                return carry_out(c, &p);
        }
        r = hw_read(c, at, p.hw, n);
        if (r < 0)
                return r;
        for (unsigned i = 0; i < n; i++)
                judge(c, state, &p, i, o);
        return dry ? 0 : carry_out(c, &p);
}

static int write_pieces(struct vconfig *c, enum vconfig_state state, unsigned offset, const uint8_t *data, size_t size, bool dry, struct outcome *o) {
        int r = 0;

        for (size_t done = 0; r >= 0 && done < size;) {
                unsigned at = offset + (unsigned) done, n = 4 - at % 4;

                if (n > size - done)
                        n = (unsigned) (size - done);
                r = write_piece(c, state, at, data + done, n, dry, o);
                done += n;
        }
        return r;
}

/*
 * What of it is illegal: what would pass if the TDI were not what it is. What never passes is no guest's to end a TDI with, and bus mastering
 * that tdid withholds is not the guest's doing. In ERROR there is nothing left to break.
 */
static int look_for_illegal(struct vconfig *c, enum vconfig_state state, unsigned offset, const uint8_t *data, size_t size, struct outcome *ret) {
        struct outcome o = {};
        int r;

        *ret = (struct outcome){};
        if (c->illegal == VCONFIG_ILLEGAL_SHADOW || state == VCONFIG_UNLOCKED || state == VCONFIG_ERROR)
                return 0;
        r = write_pieces(c, state, offset, data, size, true, &o);
        for (unsigned kind = 0; r >= 0 && kind < KIND_MAX; kind++)
                if ((o.dropped | o.shadowed) >> kind & 1 && vconfig_rules[kind].action[VCONFIG_UNLOCKED] == ACTION_PASS &&
                    (kind != KIND_MASTER || atomic_load(&c->master) == VCONFIG_MASTER_YES))
                        ret->dropped |= UINT64_C(1) << kind;
        return r;
}

/* ---- shadows, when the state has changed ---- */

/* The register of 16 bits as the guest sees it, written anew where that makes a difference. */
static int settle_register(struct vconfig *c, enum vconfig_state state, unsigned at) {
        struct piece p = { .at = at, .n = 2 };
        struct outcome unused = {};
        int r;

        r = hw_read(c, at, p.hw, p.n);
        if (r < 0)
                return r;
        for (unsigned i = 0; i < p.n; i++)
                p.guest[i] = view(c, at + i, p.hw[i]);
        for (unsigned i = 0; i < p.n; i++) {
                judge(c, state, &p, i, &unused);
                p.write[i] = p.to[i] != p.hw[i];
        }
        return carry_out(c, &p);
}

/* Every register that is shadowed is 16 bits wide, at an even place. */
static int settle(struct vconfig *c, enum vconfig_state state) {
        int r;

        if (c->settled == (int) state)
                return 0;
        for (unsigned at = 0; at < c->size; at += 2) {
                if (at != PCI_COMMAND && !c->shadow_mask[at] && !c->shadow_mask[at + 1])
                        continue;
                r = settle_register(c, state, at);
                if (r < 0)
                        return r;
        }
        c->settled = (int) state;
        return 0;
}

/* ---- what others see ---- */

ssize_t vconfig_read(struct vconfig *c, void *buf, size_t size, uint64_t offset) {
        uint8_t *bytes = buf;
        int r;

        if (size == 0 || offset >= c->size || size > c->size - offset)
                return -EINVAL;
        pthread_mutex_lock(&c->lock);
        /* What could not be settled is tried again next time; the shadows are right meanwhile. */
        (void) settle(c, state_of(c));
        r = hw_read(c, (unsigned) offset, buf, size);
        for (size_t i = 0; r >= 0 && i < size; i++)
                bytes[i] = view(c, (unsigned) (offset + i), bytes[i]);
        pthread_mutex_unlock(&c->lock);
        return r < 0 ? r : (ssize_t) size;
}

static void account(struct vconfig *c, enum vconfig_state state, const struct outcome *o) {
        for (unsigned kind = 0; kind < KIND_MAX; kind++) {
                if (o->dropped >> kind & 1) {
                        atomic_fetch_add(&c->dropped[kind], 1);
                        vconfig_note(c, kind, state, true);
                }
                if (o->shadowed >> kind & 1) {
                        atomic_fetch_add(&c->shadowed[kind], 1);
                        vconfig_note(c, kind, state, false);
                }
        }
}

ssize_t vconfig_write(struct vconfig *c, const void *buf, size_t size, uint64_t offset) {
        struct outcome o = {};
        enum vconfig_state state;
        int r;

        if (size == 0 || offset >= c->size || size > c->size - offset)
                return -EINVAL;
        pthread_mutex_lock(&c->lock);
        state = state_of(c);
        r = settle(c, state);
        if (r >= 0)
                r = look_for_illegal(c, state, (unsigned) offset, buf, size, &o);
        if (r >= 0)
                r = o.dropped ? -EPERM : write_pieces(c, state, (unsigned) offset, buf, size, false, &o);
        account(c, state, &o);
        pthread_mutex_unlock(&c->lock);
        return r < 0 ? r : (ssize_t) size;
}

bool vconfig_needs_unbind(struct vconfig *c, const void *buf, size_t size, uint64_t offset) {
        struct outcome o = {};
        enum vconfig_state state;
        int r;

        if (c->illegal != VCONFIG_ILLEGAL_UNBIND || size == 0 || offset >= c->size || size > c->size - offset)
                return false;
        pthread_mutex_lock(&c->lock);
        state = state_of(c);
        r = settle(c, state);
        if (r >= 0)
                r = look_for_illegal(c, state, (unsigned) offset, buf, size, &o);
        pthread_mutex_unlock(&c->lock);
        return r >= 0 && o.dropped;
}

enum vconfig_effect vconfig_effect(struct vconfig *c, const void *buf, size_t size, uint64_t offset) {
        bool reset = action_of(c, state_of(c), KIND_FLR) == ACTION_PASS, power = action_of(c, state_of(c), KIND_POWER) == ACTION_PASS;
        const uint8_t *bytes = buf;

        if (offset >= c->size || size > c->size - offset)
                return VCONFIG_PLAIN;
        for (size_t i = 0; i < size; i++) {
                const uint8_t *kind = c->kind[offset + i];

                if (power && kind[0] == KIND_POWER && (bytes[i] & PCI_PM_CTRL_STATE_MASK) != atomic_load(&c->power))
                        return VCONFIG_SLOW;
                for (unsigned bit = 0; reset && bit < 8; bit++)
                        if (kind[bit] == KIND_FLR && bytes[i] >> bit & 1)
                                return VCONFIG_SLOW;
        }
        return VCONFIG_PLAIN;
}

void vconfig_set_state(struct vconfig *c, enum vconfig_state state) {
        atomic_store(&c->state, (int) state);
}

void vconfig_set_master(struct vconfig *c, enum vconfig_master master) {
        enum vconfig_state state;
        int r;

        pthread_mutex_lock(&c->lock);
        atomic_store(&c->master, (int) master);
        state = state_of(c);
        r = settle(c, state);
        if (r >= 0)
                r = settle_register(c, state, PCI_COMMAND);
        if (r < 0) {
                log_error("%s: could not %s bus mastering in its config space: %s; the next access tries again", c->name,
                          master == VCONFIG_MASTER_NO ? "withhold" : "allow", strerror(-r));
                c->settled = -1;
        }
        pthread_mutex_unlock(&c->lock);
}

/* The kernel puts COMMAND back as it was (pci_restore_state()); a function after a reset is not bus master until somebody says so. */
void vconfig_was_reset(struct vconfig *c) {
        uint8_t command;
        int r;

        pthread_mutex_lock(&c->lock);
        memset(c->shadow_mask, 0, sizeof(c->shadow_mask));
        atomic_store(&c->power, 0);
        atomic_store(&c->wanted, false);
        r = hw_read(c, PCI_COMMAND, &command, 1);
        if (r >= 0 && command & PCI_COMMAND_MASTER) {
                command &= (uint8_t) ~PCI_COMMAND_MASTER;
                r = hw_write(c, PCI_COMMAND, &command, 1);
        }
        if (r < 0)
                log_error("%s: could not switch bus mastering off after a reset: %s", c->name, strerror(-r));
        pthread_mutex_unlock(&c->lock);
}

/* ---- interrupts ---- */

static bool touches(const struct vconfig_range *range, uint32_t bar, uint64_t offset, uint64_t size) {
        if (size == 0 || range->size == 0 || range->bar != bar || offset >= range->at + range->size)
                return false;
        return offset >= range->at || size > range->at - offset;
}

bool vconfig_may_write_bar(struct vconfig *c, uint32_t bar, uint64_t offset, uint64_t size) {
        if (!is_locked(state_of(c)) && state_of(c) != VCONFIG_ERROR)
                return true;
        return !touches(&c->msix_table, bar, offset, size) && !touches(&c->msix_pba, bar, offset, size);
}

bool vconfig_may_reset(struct vconfig *c) {
        return state_of(c) == VCONFIG_UNLOCKED;
}

bool vconfig_may_set_irqs(struct vconfig *c) {
        return !is_locked(state_of(c));
}

bool vconfig_may_add_irqs(struct vconfig *c) {
        return !is_locked(state_of(c)) && state_of(c) != VCONFIG_ERROR;
}

/* ---- life ---- */

static struct json_object *counts(const atomic_uint_fast64_t n[KIND_MAX]) {
        struct json_object *o = json_new();

        for (unsigned kind = 0; kind < KIND_MAX; kind++)
                if (atomic_load(&n[kind]) > 0)
                        json_set_u64(o, vconfig_rules[kind].name, atomic_load(&n[kind]));
        return o;
}

struct json_object *vconfig_describe(struct vconfig *c) {
        struct json_object *o = json_new(), *master = json_new();

        json_set_str(o, "state", vconfig_state_name(state_of(c)));
        json_set_str(o, "on_illegal_write", illegal_names[c->illegal]);
        json_set_bool(master, "wanted", atomic_load(&c->wanted));
        json_set_bool(master, "allowed", atomic_load(&c->master) == VCONFIG_MASTER_YES);
        json_set_take(o, "bus_master", master);
        json_set_take(o, "dropped", counts(c->dropped));
        json_set_take(o, "shadowed", counts(c->shadowed));
        return o;
}

enum vconfig_illegal vconfig_illegal_from_string(const char *text) {
        for (int i = 0; i < _VCONFIG_ILLEGAL_MAX; i++)
                if (streq_ptr(text, illegal_names[i]))
                        return i;
        return _VCONFIG_ILLEGAL_INVALID;
}

void vconfig_set_illegal(struct vconfig *c, enum vconfig_illegal what) {
        c->illegal = what;
}

void vconfig_set_name(struct vconfig *c, const char *name) {
        snprintf(c->name, sizeof(c->name), "%s", name);
}

int vconfig_new(TdiHost *host, int device, uint64_t offset, uint64_t size, struct vconfig **ret) {
        uint8_t config[VCONFIG_SIZE_MAX] = {};
        struct vconfig *c;
        int r;

        if (size < PCI_CFG_SPACE_SIZE || size > VCONFIG_SIZE_MAX || size % 4 != 0)
                return -EINVAL;
        c = calloc(1, sizeof(*c));
        if (!c)
                return -ENOMEM;
        c->host = host;
        c->device = device;
        c->offset = offset;
        c->size = (size_t) size;
        vconfig_set_name(c, "function");
        r = hw_read(c, 0, config, c->size);
        /* All ones: it is not there, or is being reset. Its capabilities would be missed, and everything let through. */
        if (r >= 0 && vconfig_get16(config) == 0xffff)
                r = -ENODEV;
        if (r >= 0 && (config[PCI_HEADER_TYPE] & 0x7f) != PCI_HEADER_TYPE_NORMAL)
                r = -EOPNOTSUPP;
        if (r < 0) {
                free(c);
                return r;
        }
        (void) pthread_mutex_init(&c->lock, NULL);
        atomic_init(&c->state, VCONFIG_UNLOCKED);
        atomic_init(&c->power, 0);
        atomic_init(&c->master, VCONFIG_MASTER_YES);
        atomic_init(&c->wanted, config[PCI_COMMAND] & PCI_COMMAND_MASTER);
        c->settled = VCONFIG_UNLOCKED;
        vconfig_walk(c, config);
        *ret = c;
        return 0;
}

struct vconfig *vconfig_free(struct vconfig *c) {
        if (c) {
                pthread_mutex_destroy(&c->lock);
                free(c);
        }
        return NULL;
}
