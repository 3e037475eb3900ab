/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Network interfaces: they come with their driver, with a name that is free, down and without address but for what the topology says. */
#include "sim/users.h"

#include <stdio.h>

#include "model/json.h"

#define IFF_UP 0x1

struct net {
        struct sim_function *fn;
        const struct topology_net *plan;
        char name[16], mac[20], upper[16];
        unsigned index, n_addresses;
        bool up, elsewhere, random;
        struct sim_node *node; /* NULL: in another network namespace */
        struct net *next;
};

struct nets {
        struct net *first;
        unsigned last_index;
};

static struct nets *nets_of(const struct sim_machine *m) {
        return m->interfaces;
}

#define NET(n) ((struct net *) (n)->data)
#define RO(name, ...)                                                                                                              \
        static ssize_t name##_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {                       \
                _unused_ const struct net *net = NET(n);                                                                            \
                return snprintf(buf, size, __VA_ARGS__);                                                                            \
        }                                                                                                                           \
        static const struct sim_node_ops name##_ops = { .show = name##_show };

RO(flags, "0x%x\n", 0x1002u | (net->up ? IFF_UP : 0))
RO(operstate, "%s\n", net->up ? "up" : "down")

/* An interface that is down has no carrier to tell of: carrier_show() */
static ssize_t carrier_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        return NET(n)->up ? snprintf(buf, size, "1\n") : -EINVAL;
}
static const struct sim_node_ops carrier_ops = { .show = carrier_show };

static ssize_t speed_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        return NET(n)->up ? snprintf(buf, size, "1000\n") : -EINVAL;
}
static const struct sim_node_ops speed_ops = { .show = speed_show };

static ssize_t duplex_show(_unused_ struct sim_call *c, struct sim_node *n, char *buf, size_t size) {
        return NET(n)->up ? snprintf(buf, size, "full\n") : -EINVAL;
}
static const struct sim_node_ops duplex_ops = { .show = duplex_show };

static void attributes(struct net *net, struct sim_node *n) {
        struct sim_node *statistics = sim_dir(n, "statistics"), *queues = sim_dir(n, "queues");

        sim_file_node(n, "flags", 0444, &flags_ops, net);
        sim_file_node(n, "operstate", 0444, &operstate_ops, net);
        sim_file_node(n, "carrier", 0444, &carrier_ops, net);
        sim_file_node(n, "speed", 0444, &speed_ops, net);
        sim_file_node(n, "duplex", 0444, &duplex_ops, net);
        sim_text(n, "address", "%s", net->mac);
        sim_text(n, "addr_assign_type", net->random ? "1" : "0");
        sim_text(n, "addr_len", "6");
        sim_text(n, "broadcast", "ff:ff:ff:ff:ff:ff");
        sim_text(n, "carrier_changes", "1");
        sim_text(n, "dev_id", "0x0");
        sim_text(n, "dev_port", "0");
        sim_text(n, "dormant", "0");
        sim_text(n, "ifalias", "%s", "");
        sim_text(n, "ifindex", "%u", net->index);
        sim_text(n, "iflink", "%u", net->index);
        sim_text(n, "link_mode", "0");
        sim_text(n, "mtu", "1500");
        sim_text(n, "name_assign_type", "1");
        sim_text(n, "netdev_group", "0");
        sim_text(n, "proto_down", "0");
        sim_text(n, "tx_queue_len", "1000");
        sim_text(n, "type", "1");
        sim_text(n, "uevent", "INTERFACE=%s\nIFINDEX=%u", net->name, net->index);
        sim_text(sim_dir(n, "power"), "runtime_status", "unsupported");
        sim_text(statistics, "rx_bytes", "0");
        sim_text(statistics, "rx_packets", "0");
        sim_text(statistics, "tx_bytes", "0");
        sim_text(statistics, "tx_packets", "0");
        sim_dir(queues, "rx-0");
        sim_dir(queues, "tx-0");
}

static void drop(struct sim_call *c, struct sim_node *dir, const char *name) {
        struct sim_node *n = dir ? sim_child(dir, name) : NULL;

        if (n)
                sim_remove(c, n, NULL);
}

/* What stands on it: a bridge, a bond, a VLAN. It is made with the first that it stands on. */
static void stack(struct sim_machine *m, struct net *net, const char *upper) {
        char path[64], link[32];
        struct sim_node *n;

        snprintf(net->upper, sizeof(net->upper), "%s", upper);
        if (!net->node)
                return;
        snprintf(path, sizeof(path), "sys/devices/virtual/net/%s", upper);
        n = sim_dirs(m->sim, path);
        if (!sim_child(n, "flags")) {
                sim_text(n, "flags", "0x1003");
                sim_link(sim_dirs(m->sim, "sys/class/net"), upper, n);
        }
        snprintf(link, sizeof(link), "upper_%s", upper);
        sim_link(net->node, link, n);
        snprintf(link, sizeof(link), "lower_%s", net->name);
        sim_link(n, link, net->node);
}

static void unstack(struct sim_call *c, struct sim_machine *m, struct net *net) {
        char path[64], link[32];
        struct sim_node *n;

        if (!*net->upper)
                return;
        snprintf(path, sizeof(path), "sys/devices/virtual/net/%s", net->upper);
        n = sim_dirs(m->sim, path);
        snprintf(link, sizeof(link), "lower_%s", net->name);
        drop(c, n, link);
        snprintf(link, sizeof(link), "upper_%s", net->upper);
        drop(c, net->node, link);
        net->upper[0] = '\0';
}

static struct net *find(const struct sim_machine *m, const char *name) {
        for (struct net *net = nets_of(m)->first; net; net = net->next)
                if (net->node && streq(net->name, name))
                        return net;
        return NULL;
}

/* dev_alloc_name() */
static void choose_name(const struct sim_machine *m, const char *pattern, char buf[16]) {
        const char *percent = strchr(pattern, '%');

        for (unsigned i = 0;; i++) {
                if (percent)
                        snprintf(buf, 16, "%.*s%u", (int) (percent - pattern), pattern, i);
                else if (i == 0)
                        snprintf(buf, 16, "%s", pattern);
                else /* a udev rule that would name two alike leaves the second as it was */
                        snprintf(buf, 16, "eth%u", i - 1);
                if (!find(m, buf))
                        return;
        }
}

void nets_probe(_unused_ struct sim_call *c, struct sim_function *fn) {
        const struct topology_function *p = fn_plan(fn);
        struct sim_machine *m = sim_machine(fn->sim);
        bool first = !((struct users *) fn->users)->seen;
        struct net *net = machine_alloc(sizeof(*net)), **last = &nets_of(m)->first;

        net->fn = fn;
        for (size_t i = 0; i < m->plan->n_nets; i++)
                if (streq(m->plan->nets[i].name, p->net))
                        net->plan = &m->plan->nets[i];
        choose_name(m, net->plan->interface, net->name);
        net->index = ++nets_of(m)->last_index;
        net->random = fn->physfn && !net->plan->mac;
        if (net->plan->mac && !p->number && !fn->physfn)
                snprintf(net->mac, sizeof(net->mac), "%s", net->plan->mac);
        else
                snprintf(net->mac, sizeof(net->mac), "52:54:%02x:%02x:%02x:%02x", fn->segment & 0xff, fn->bus, fn->devfn,
                         net->random ? net->index & 0xff : 0);
        net->up = first && net->plan->up;
        net->n_addresses = first ? (unsigned) net->plan->addresses.n : 0;
        net->elsewhere = first && net->plan->elsewhere;
        while (*last)
                last = &(*last)->next;
        *last = net;
        /* The folder is tagged with the namespace: from ours it looks empty. */
        sim_dir(fn->node, "net");
        if (net->elsewhere)
                return;
        net->node = sim_dir(sim_dir(fn->node, "net"), net->name);
        net->node->data = net;
        attributes(net, net->node);
        sim_link(net->node, "device", fn->node);
        sim_link(net->node, "subsystem", sim_dirs(m->sim, "sys/class/net"));
        sim_link(sim_dirs(m->sim, "sys/class/net"), net->name, net->node);
        if (first && net->plan->upper)
                stack(m, net, net->plan->upper);
        sim_uevent(m->sim, "add", "net", net->node);
}

void nets_remove(struct sim_call *c, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(fn->sim);
        struct net **p = &nets_of(m)->first, *net;

        while (*p && (*p)->fn != fn)
                p = &(*p)->next;
        net = *p;
        if (!net)
                return;
        *p = net->next;
        unstack(c, m, net);
        if (net->node) {
                drop(c, sim_dirs(m->sim, "sys/class/net"), net->name);
                sim_uevent(m->sim, "remove", "net", net->node);
                sim_remove(c, net->node, NULL);
        }
        drop(c, fn->node, "net");
        free(net);
}

int nets_change(struct sim_call *c, struct json_object *what) {
        struct sim_machine *m = sim_machine(c->sim);
        struct net *net = find(m, json_str_or(what, "net", ""));
        struct json_object *o;
        bool up;
        int r;

        if (!net)
                return -ENODEV;
        r = json_get_bool(what, "up", &up);
        if (r == -EBADMSG)
                return -EINVAL;
        if (r >= 0)
                net->up = up;
        r = json_get_array(what, "addresses", &o);
        if (r == -EBADMSG)
                return -EINVAL;
        if (r >= 0)
                net->n_addresses = (unsigned) json_object_array_length(o);
        if (json_object_object_get_ex(what, "upper", &o)) {
                const char *upper = o && json_object_is_type(o, json_type_string) ? json_object_get_string(o) : NULL;

                if (o && (!upper || !*upper || strlen(upper) > 15 || strpbrk(upper, "/ \t\n") || *upper == '.'))
                        return -EINVAL;
                if (upper && *net->upper)
                        return -EBUSY;
                if (upper)
                        stack(m, net, upper);
                else
                        unstack(c, m, net);
        }
        return 0;
}

int sim_users_address(struct sim_machine *m, const char *interface) {
        const struct net *net = find(m, interface);

        if (streq(interface, "lo"))
                return 1;
        return net ? net->n_addresses > 0 : -ENODEV;
}

void nets_init(struct sim_machine *m) {
        struct sim_node *lo = sim_dirs(m->sim, "sys/devices/virtual/net/lo");

        m->interfaces = machine_alloc(sizeof(struct nets));
        nets_of(m)->last_index = 1;
        sim_text(lo, "flags", "0x9");
        sim_text(lo, "ifindex", "1");
        sim_text(lo, "type", "772");
        sim_text(lo, "address", "00:00:00:00:00:00");
        sim_link(sim_dirs(m->sim, "sys/class/net"), "lo", lo);
}

void nets_free(struct sim_machine *m) {
        while (m->interfaces && nets_of(m)->first) {
                struct net *net = nets_of(m)->first;

                nets_of(m)->first = net->next;
                free(net);
        }
        free(m->interfaces);
        m->interfaces = NULL;
}
