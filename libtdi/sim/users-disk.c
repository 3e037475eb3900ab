/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Disks: NVMe controllers with their namespaces (also below a virtual subsystem, as native multipath has them) and plain ones, partitions,
 * block device nodes, and who claims them. A disk that is in use when its function goes stays in mind: its numbers are not given out again.
 */
#include "sim/users.h"

#include <stdio.h>

#include "model/json.h"

#define MAJOR_EXTENDED 259u
#define SECTOR 512u
#define WRITTEN_MAX 65536 /* sectors of one disk that may be written */

struct written {
        uint64_t sector;
        uint8_t data[SECTOR];
        struct written *next;
};

/* A whole disk or a partition: struct block_device. */
struct block {
        struct sim_disk *disk;
        char name[48];
        unsigned minor;
        uint64_t start, sectors;
        char *mount, *holder;
        bool swap;
        unsigned exclusive; /* opens with O_EXCL: at most one */
        struct sim_node *node;
};

struct sim_disk {
        struct sim_machine *m;
        struct sim_function *fn; /* NULL: the function went */
        const struct topology_disk *plan;
        char label[48];
        bool nvme, hidden_path;
        unsigned instance;
        struct block *blocks; /* the first is the whole disk */
        size_t n_blocks;
        unsigned opens;
        struct written *written;
        size_t n_written;
        struct sim_disk *next;
};

struct disks {
        struct sim_disk *first;
        unsigned sequence;
};

static struct disks *disks_of(const struct sim_machine *m) {
        return m->disks;
}

/* ---- claims: bd_may_claim() ---- */

static bool is_claimed(const struct block *b) {
        return b->mount || b->holder || b->swap || b->exclusive > 0;
}

static bool may_claim(const struct block *b) {
        const struct sim_disk *d = b->disk;

        if (is_claimed(b) || (b != d->blocks && is_claimed(d->blocks)))
                return false;
        for (size_t i = 1; i < d->n_blocks && b == d->blocks; i++)
                if (is_claimed(&d->blocks[i]))
                        return false;
        return true;
}

static bool is_used(const struct sim_disk *d) {
        if (d->opens > 0)
                return true;
        for (size_t i = 0; i < d->n_blocks; i++)
                if (is_claimed(&d->blocks[i]))
                        return true;
        return false;
}

static void disk_free(struct sim_disk *d) {
        for (size_t i = 0; i < d->n_blocks; i++) {
                free(d->blocks[i].mount);
                free(d->blocks[i].holder);
        }
        while (d->written) {
                struct written *w = d->written;

                d->written = w->next;
                free(w);
        }
        free(d->blocks);
        free(d);
}

/* The last user of a disk whose function went: its numbers are free. */
static void forget(struct sim_disk *d) {
        if (d->fn || is_used(d))
                return;
        for (struct sim_disk **p = &disks_of(d->m)->first; *p; p = &(*p)->next)
                if (*p == d) {
                        *p = d->next;
                        break;
                }
        disk_free(d);
}

/* ---- contents ---- */

static struct written *find_written(const struct sim_disk *d, uint64_t sector) {
        for (struct written *w = d->written; w; w = w->next)
                if (w->sector == sector)
                        return w;
        return NULL;
}

/* "tdid DISK sector N" and a newline, over and over. */
static void read_sector(const struct sim_disk *d, uint64_t sector, uint8_t buf[SECTOR]) {
        const struct written *w = find_written(d, sector);
        char line[96];
        size_t n;

        if (w) {
                memcpy(buf, w->data, SECTOR);
                return;
        }
        n = (size_t) snprintf(line, sizeof(line), "tdid %s sector %llu\n", d->label, (unsigned long long) sector);
        for (size_t i = 0; i < SECTOR; i++)
                buf[i] = (uint8_t) line[i % n];
}

static ssize_t block_pread(_unused_ struct sim_call *c, struct sim_file *f, void *buf, size_t size, uint64_t offset) {
        const struct block *b = f->data;
        uint64_t end = b->sectors * SECTOR;
        size_t done = 0;

        if ((f->flags & O_ACCMODE) == O_WRONLY)
                return -EBADF;
        if (!b->disk->fn)
                return -EIO;
        if (offset >= end)
                return 0;
        if (size > end - offset)
                size = (size_t) (end - offset);
        while (done < size) {
                uint64_t at = offset + done;
                size_t in = (size_t) (at % SECTOR), n = SECTOR - in < size - done ? SECTOR - in : size - done;
                uint8_t sector[SECTOR];

                read_sector(b->disk, b->start + at / SECTOR, sector);
                memcpy((uint8_t *) buf + done, sector + in, n);
                done += n;
        }
        return (ssize_t) done;
}

static ssize_t block_pwrite(_unused_ struct sim_call *c, struct sim_file *f, const void *buf, size_t size, uint64_t offset) {
        const struct block *b = f->data;
        struct sim_disk *d = b->disk;
        uint64_t end = b->sectors * SECTOR;
        size_t done = 0;

        if ((f->flags & O_ACCMODE) == O_RDONLY)
                return -EBADF;
        if (!d->fn)
                return -EIO;
        if (offset >= end)
                return size ? -ENOSPC : 0;
        if (size > end - offset)
                size = (size_t) (end - offset);
        while (done < size) {
                uint64_t at = offset + done, number = b->start + at / SECTOR;
                size_t in = (size_t) (at % SECTOR), n = SECTOR - in < size - done ? SECTOR - in : size - done;
                struct written *w = find_written(d, number);

                if (!w) {
                        if (d->n_written >= WRITTEN_MAX)
                                return done ? (ssize_t) done : -EIO;
                        w = machine_alloc(sizeof(*w));
                        w->sector = number;
                        read_sector(d, number, w->data);
                        w->next = d->written;
                        d->written = w;
                        d->n_written++;
                }
                memcpy(w->data + in, (const uint8_t *) buf + done, n);
                done += n;
        }
        return (ssize_t) done;
}

static void block_release(_unused_ struct sim_call *c, struct sim_file *f) {
        struct block *b = f->data;

        if (f->flags & O_EXCL)
                b->exclusive--;
        b->disk->opens--;
        forget(b->disk);
}

static const struct sim_file_ops block_file_ops = { .kind = "block", .pread = block_pread, .pwrite = block_pwrite,
                                                   .release = block_release };

static int block_open(_unused_ struct sim_call *c, struct sim_node *n, struct sim_file *f) {
        struct block *b = n->data;

        if ((f->flags & O_EXCL) && !may_claim(b))
                return -EBUSY;
        if (f->flags & O_EXCL)
                b->exclusive++;
        b->disk->opens++;
        f->ops = &block_file_ops;
        f->data = b;
        return 0;
}

static const struct sim_node_ops block_node_ops = { .open = block_open };

/* ---- sysfs ---- */

static void block_attributes(struct block *b, bool is_partition, bool hidden) {
        struct sim_node *n = b->node;

        sim_text(n, "size", "%llu", (unsigned long long) b->sectors);
        sim_text(n, "ro", "0");
        sim_text(n, "stat", "0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0");
        sim_text(n, "inflight", "       0        0");
        sim_text(n, "alignment_offset", "0");
        sim_text(n, "discard_alignment", "0");
        sim_dir(n, "holders");
        sim_text(sim_dir(n, "power"), "runtime_status", "unsupported");
        if (!hidden)
                sim_text(n, "dev", "%u:%u", MAJOR_EXTENDED, b->minor);
        if (is_partition) {
                sim_text(n, "partition", "%u", (unsigned) (b - b->disk->blocks));
                sim_text(n, "start", "%llu", (unsigned long long) b->start);
                sim_text(n, "uevent", "MAJOR=%u\nMINOR=%u\nDEVNAME=%s\nDEVTYPE=partition\nDISKSEQ=%u\nPARTN=%u", MAJOR_EXTENDED, b->minor,
                         b->name,
                         disks_of(b->disk->m)->sequence, (unsigned) (b - b->disk->blocks));
        } else {
                struct sim_node *queue = sim_dir(n, "queue");

                sim_dir(n, "slaves");
                sim_text(n, "removable", "0");
                sim_text(n, "range", "0");
                sim_text(n, "ext_range", "256");
                sim_text(n, "capability", "0");
                sim_text(n, "hidden", hidden ? "1" : "0");
                sim_text(n, "diskseq", "%u", disks_of(b->disk->m)->sequence);
                sim_text(n, "uevent", "MAJOR=%u\nMINOR=%u\nDEVNAME=%s\nDEVTYPE=disk\nDISKSEQ=%u", hidden ? 0 : MAJOR_EXTENDED, b->minor,
                         b->name,
                         disks_of(b->disk->m)->sequence);
                sim_text(queue, "logical_block_size", "512");
                sim_text(queue, "physical_block_size", "512");
                sim_text(queue, "rotational", "0");
                sim_text(queue, "read_only", "0");
                if (b->disk->nvme) {
                        sim_text(n, "nsid", "1");
                        sim_text(n, "wwid", "nvme.1b36-%s-514d4555-00000001", b->disk->label);
                }
        }
        sim_link(n, "subsystem", sim_dirs(b->disk->m->sim, "sys/class/block"));
        sim_link(sim_dirs(b->disk->m->sim, "sys/class/block"), b->name, n);
        if (!is_partition)
                sim_link(sim_dirs(b->disk->m->sim, "sys/block"), b->name, n);
}

/* A device on top of it: holders/ here, slaves/ there. */
static void stack(struct block *b, const char *holder) {
        struct sim *sim = b->disk->m->sim;
        struct sim_node *n;
        char path[96];

        snprintf(path, sizeof(path), "sys/devices/virtual/block/%s", holder);
        n = sim_dirs(sim, path);
        if (!sim_child(n, "size")) {
                sim_text(n, "size", "%llu", (unsigned long long) b->sectors);
                sim_text(n, "dev", "253:%s", startswith(holder, "dm-") ? holder + 3 : "0");
                sim_dir(n, "holders");
                sim_link(sim_dirs(sim, "sys/class/block"), holder, n);
        }
        sim_link(sim_dir(n, "slaves"), b->name, b->node);
        sim_link(sim_dir(b->node, "holders"), holder, n);
}

static void drop(struct sim_call *c, struct sim_node *dir, const char *name) {
        struct sim_node *n = dir ? sim_child(dir, name) : NULL;

        if (n)
                sim_remove(c, n, NULL);
}

static void unstack(struct sim_call *c, struct block *b) {
        char path[128];
        int r;
        struct sim_node *slaves;

        if (!b->holder)
                return;
        if (b->node)
                drop(c, sim_dir(b->node, "holders"), b->holder);
        snprintf(path, sizeof(path), "/sys/devices/virtual/block/%s/slaves", b->holder);
        slaves = sim_lookup(b->disk->m->sim, path, true, &r);
        drop(c, slaves, b->name);
        if (!slaves || slaves->n_children > 0)
                return;
        drop(c, sim_dirs(b->disk->m->sim, "sys/class/block"), b->holder);
        drop(c, slaves->parent->parent, b->holder);
}

/* ---- numbers ---- */

static unsigned free_minor(const struct sim_machine *m) {
        for (unsigned minor = 0;; minor++) {
                bool taken = false;

                for (const struct sim_disk *d = disks_of(m)->first; d && !taken; d = d->next)
                        for (size_t i = 0; i < d->n_blocks && !taken; i++)
                                taken = d->blocks[i].node != NULL || is_used(d) ? d->blocks[i].minor == minor : false;
                if (!taken)
                        return minor;
        }
}

/* ida_alloc(): the lowest that no disk has, nor one that went and is still in use. */
static unsigned free_instance(const struct sim_machine *m, bool nvme) {
        for (unsigned i = 0;; i++) {
                bool taken = false;

                for (const struct sim_disk *d = disks_of(m)->first; d && !taken; d = d->next)
                        taken = d->nvme == nvme && d->instance == i;
                if (!taken)
                        return i;
        }
}

/* ---- coming ---- */

static struct sim_node *create_controller(struct sim_function *fn, unsigned instance, const char *label) {
        struct sim_machine *m = sim_machine(fn->sim);
        struct sim_node *n, *subsystem;
        char name[24], path[96];

        snprintf(name, sizeof(name), "nvme%u", instance);
        n = sim_dir(sim_dir(fn->node, "nvme"), name);
        sim_link(n, "device", fn->node);
        sim_link(n, "subsystem", sim_dirs(m->sim, "sys/class/nvme"));
        sim_link(sim_dirs(m->sim, "sys/class/nvme"), name, n);
        sim_text(n, "address", "%s", fn->bdf);
        sim_text(n, "cntlid", "0");
        sim_text(n, "dev", "241:%u", instance);
        sim_text(n, "firmware_rev", "1.0");
        sim_text(n, "model", "QEMU NVMe Ctrl");
        sim_text(n, "numa_node", "-1");
        sim_text(n, "serial", "%s", label);
        sim_text(n, "state", "live");
        sim_text(n, "subsysnqn", "nqn.2019-08.org.qemu:%s", label);
        sim_text(n, "transport", "pcie");
        sim_text(n, "uevent", "MAJOR=241\nMINOR=%u\nDEVNAME=%s\nNVME_TRTYPE=pcie", instance, name);
        sim_text(sim_dir(n, "power"), "runtime_status", "unsupported");
        snprintf(path, sizeof(path), "sys/devices/virtual/nvme-subsystem/nvme-subsys%u", instance);
        subsystem = sim_dirs(m->sim, path);
        snprintf(path, sizeof(path), "nvme-subsys%u", instance);
        sim_link(sim_dirs(m->sim, "sys/class/nvme-subsystem"), path, subsystem);
        sim_link(subsystem, name, n);
        sim_link(subsystem, "subsystem", sim_dirs(m->sim, "sys/class/nvme-subsystem"));
        sim_text(subsystem, "subsysnqn", "nqn.2019-08.org.qemu:%s", label);
        sim_text(subsystem, "serial", "%s", label);
        sim_text(subsystem, "model", "QEMU NVMe Ctrl");
        sim_uevent(m->sim, "add", "nvme", n);
        return n;
}

static void create_blocks(struct sim_disk *d, struct sim_node *parent, bool first) {
        struct sim_machine *m = d->m;
        uint64_t start = 0;
        char whole[48];

        memcpy(whole, d->blocks[0].name, sizeof(whole));
        for (size_t i = 0; i < d->n_blocks; i++) {
                const struct topology_part *p = i ? &d->plan->parts[i - 1] : &d->plan->whole;
                struct block *b = &d->blocks[i];

                b->disk = d;
                b->minor = free_minor(m);
                b->sectors = p->sectors;
                b->start = start;
                if (i) {
                        snprintf(b->name, sizeof(b->name), "%.30s%s%u", whole, d->nvme ? "p" : "", (unsigned) i);
                        start += p->sectors;
                }
                if (first) {
                        b->mount = p->mount ? machine_strdup(p->mount) : NULL;
                        b->holder = p->holder ? machine_strdup(p->holder) : NULL;
                        b->swap = p->swap;
                }
                b->node = sim_dir(i ? d->blocks[0].node : parent, b->name);
                b->node->data = b;
                block_attributes(b, i > 0, false);
                if (!i)
                        sim_link(b->node, "device", parent);
                sim_device_node(sim_dirs(m->sim, "dev"), b->name, &block_node_ops, b)->device = d->fn->bdf;
                if (b->holder)
                        stack(b, b->holder);
                sim_uevent(m->sim, "add", "block", b->node);
        }
}

/* The namespace of one path stands beside the head, which hangs off the subsystem (nvme_mpath_alloc_disk()). */
static struct sim_node *create_path(struct sim_disk *d, struct sim_node *controller, unsigned namespace) {
        struct block path = { .disk = d, .sectors = d->plan->whole.sectors };
        char text[96];

        snprintf(path.name, sizeof(path.name), "nvme%uc%un%u", d->instance, d->instance, namespace);
        path.node = sim_dir(controller, path.name);
        block_attributes(&path, false, true);
        d->hidden_path = true;
        snprintf(text, sizeof(text), "sys/devices/virtual/nvme-subsystem/nvme-subsys%u", d->instance);
        return sim_dirs(d->m->sim, text);
}

void disks_probe(_unused_ struct sim_call *c, struct sim_function *fn) {
        const struct topology_function *p = fn_plan(fn);
        struct sim_machine *m = sim_machine(fn->sim);
        bool nvme = streq(fn->driver->name, "nvme"), first = !((struct users *) fn->users)->seen;
        unsigned instance = 0;
        struct sim_node *parent = NULL;

        for (size_t i = 0; i < p->disks.n; i++) {
                struct sim_disk *d = machine_alloc(sizeof(*d)), **last = &disks_of(m)->first;

                d->m = m;
                d->fn = fn;
                d->nvme = nvme;
                for (size_t k = 0; k < m->plan->n_disks; k++)
                        if (streq(m->plan->disks[k].name, p->disks.names[i]))
                                d->plan = &m->plan->disks[k];
                if (p->number || fn->physfn)
                        snprintf(d->label, sizeof(d->label), "%s%u", d->plan->name, fn->physfn ? fn->vf_index : p->number);
                else
                        snprintf(d->label, sizeof(d->label), "%s", d->plan->name);
                if (!nvme || i == 0)
                        instance = free_instance(m, nvme);
                d->instance = instance;
                d->n_blocks = d->plan->n_parts + 1;
                d->blocks = machine_alloc(d->n_blocks * sizeof(*d->blocks));
                if (nvme) {
                        snprintf(d->blocks[0].name, sizeof(d->blocks[0].name), "nvme%un%zu", instance, i + 1);
                        if (i == 0)
                                parent = create_controller(fn, instance, d->label);
                } else {
                        /* sda … sdz, sdaa … */
                        unsigned n = instance;

                        snprintf(d->blocks[0].name, sizeof(d->blocks[0].name), n < 26 ? "sd%c" : "sd%c%c",
                                 n < 26 ? 'a' + (int) n : 'a' + (int) (n / 26 - 1) % 26,
                                 'a' + (int) (n % 26));
                        parent = sim_dir(fn->node, "block");
                }
                disks_of(m)->sequence++;
                create_blocks(d, nvme && d->plan->multipath ? create_path(d, parent, (unsigned) i + 1) : parent, first);
                while (*last)
                        last = &(*last)->next;
                *last = d;
        }
}

/* ---- going ---- */

static void remove_disk(struct sim_call *c, struct sim_disk *d) {
        struct sim *sim = d->m->sim;
        struct sim_node *class = sim_dirs(sim, "sys/class/block"), *dev = sim_dirs(sim, "dev");

        d->fn = NULL;
        for (size_t i = d->n_blocks; i-- > 0;) {
                struct block *b = &d->blocks[i];
                char name[48];

                memcpy(name, b->name, sizeof(name));
                if (b->holder)
                        unstack(c, b);
                sim_uevent(sim, "remove", "block", b->node);
                drop(c, dev, name);
                drop(c, class, name);
                if (i == 0)
                        drop(c, sim_dirs(sim, "sys/block"), name);
                sim_remove(c, TAKE_PTR(b->node), NULL);
        }
        if (d->hidden_path) {
                char name[48];

                snprintf(name, sizeof(name), "nvme%uc%un%s", d->instance, d->instance, strrchr(d->blocks[0].name, 'n') + 1);
                drop(c, class, name);
                drop(c, sim_dirs(sim, "sys/block"), name);
        }
}

static void remove_controller(struct sim_call *c, struct sim_function *fn, unsigned instance) {
        struct sim *sim = fn->sim;
        struct sim_node *folder = sim_child(fn->node, "nvme"), *n;
        char name[32];

        snprintf(name, sizeof(name), "nvme-subsys%u", instance);
        drop(c, sim_dirs(sim, "sys/class/nvme-subsystem"), name);
        drop(c, sim_dirs(sim, "sys/devices/virtual/nvme-subsystem"), name);
        snprintf(name, sizeof(name), "nvme%u", instance);
        drop(c, sim_dirs(sim, "sys/class/nvme"), name);
        n = folder ? sim_child(folder, name) : NULL;
        if (n)
                sim_uevent(sim, "remove", "nvme", n);
        if (folder)
                sim_remove(c, folder, NULL);
}

void disks_remove(struct sim_call *c, struct sim_function *fn) {
        struct sim_machine *m = sim_machine(fn->sim);
        bool found = false, nvme = false;
        unsigned instance = 0;

        for (struct sim_disk *d = disks_of(m)->first, *next; d; d = next) {
                next = d->next;
                if (d->fn != fn)
                        continue;
                found = true;
                nvme = d->nvme;
                instance = d->instance;
                remove_disk(c, d);
                /* It slept: others may have gone meanwhile. */
                forget(d);
                next = disks_of(m)->first;
        }
        if (found && nvme)
                remove_controller(c, fn, instance);
        else if (found)
                drop(c, fn->node, "block");
}

/* ---- what is asked for from outside ---- */

static struct block *find_block(struct sim_machine *m, const char *name) {
        for (struct sim_disk *d = disks_of(m)->first; d; d = d->next)
                for (size_t i = 0; i < d->n_blocks; i++)
                        if (streq(d->blocks[i].name, name))
                                return &d->blocks[i];
        return NULL;
}

static int change_name(struct block *b, struct json_object *what, const char *key, char **member) {
        struct json_object *o;

        if (!json_object_object_get_ex(what, key, &o))
                return 0;
        if (o && !json_object_is_type(o, json_type_string))
                return -EINVAL;
        if (o && (!*json_object_get_string(o) || strpbrk(json_object_get_string(o), " \t\n\\") || strlen(json_object_get_string(o)) > 200 ||
                  (member == &b->holder && (strchr(json_object_get_string(o), '/') || *json_object_get_string(o) == '.'))))
                return -EINVAL;
        if (o && !may_claim(b))
                return -EBUSY;
        free(*member);
        *member = o ? machine_strdup(json_object_get_string(o)) : NULL;
        return 0;
}

int disks_change(struct sim_call *c, struct json_object *what) {
        struct block *b = find_block(sim_machine(c->sim), json_str_or(what, "disk", ""));
        struct json_object *holder;
        bool swap;
        int r;

        if (!b)
                return -ENODEV;
        r = change_name(b, what, "mount", &b->mount);
        if (r < 0)
                return r;
        r = json_get_bool(what, "swap", &swap);
        if (r == -EBADMSG)
                return -EINVAL;
        if (r >= 0 && swap && !b->swap && !may_claim(b))
                return -EBUSY;
        if (r >= 0)
                b->swap = swap;
        if (json_object_object_get_ex(what, "holder", &holder)) {
                if (!holder && b->holder)
                        unstack(c, b);
                r = change_name(b, what, "holder", &b->holder);
                if (r < 0)
                        return r;
                if (b->holder && b->node)
                        stack(b, b->holder);
        }
        forget(b->disk);
        return 0;
}

/* ---- /proc ---- */

size_t disks_mountinfo(struct sim_machine *m, char *buf, size_t size) {
        unsigned id = 30;
        size_t at = 0;

        for (const struct sim_disk *d = disks_of(m)->first; d; d = d->next)
                for (size_t i = 0; i < d->n_blocks; i++) {
                        const struct block *b = &d->blocks[i];

                        if (!b->mount || size - at < 512)
                                continue;
                        at += (size_t) snprintf(buf + at, size - at, "%u 1 %u:%u / %s rw,relatime shared:%u - ext4 /dev/%s rw\n", id,
                                                MAJOR_EXTENDED, b->minor,
                                                b->mount, id, b->name);
                        id++;
                }
        return at;
}

size_t disks_swaps(struct sim_machine *m, char *buf, size_t size) {
        size_t at = 0;

        for (const struct sim_disk *d = disks_of(m)->first; d; d = d->next)
                for (size_t i = 0; i < d->n_blocks; i++)
                        if (d->blocks[i].swap && size - at >= 256)
                                at += (size_t) snprintf(buf + at, size - at, "/dev/%-34s partition\t%llu\t\t0\t\t-2\n", d->blocks[i].name,
                                                        (unsigned long long) d->blocks[i].sectors / 2 - 4);
        return at;
}

void disks_init(struct sim_machine *m) {
        m->disks = machine_alloc(sizeof(struct disks));
        sim_dirs(m->sim, "sys/class/block");
        sim_dirs(m->sim, "sys/block");
        sim_dirs(m->sim, "dev");
}

void disks_free(struct sim_machine *m) {
        while (m->disks && disks_of(m)->first) {
                struct sim_disk *d = disks_of(m)->first;

                disks_of(m)->first = d->next;
                disk_free(d);
        }
        free(m->disks);
        m->disks = NULL;
}
