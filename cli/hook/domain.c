/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * See domain.h. libvirt has checked and written this text itself (virDomainDefFormat), and keeps what it finds in <metadata> as it is,
 * but for one thing: of several elements of one namespace it keeps the first (virXMLNodeSanitizeNamespaces). So ours is one element.
 */
#include "domain.h"

#include <ctype.h>
#include <grp.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>

#define AWAIT_DEFAULT 600 /* seconds: memory that is allocated in advance takes a VMM minutes, and the domain's end does not wait for this */
#define AWAIT_MAX 600

#define X(s) ((const xmlChar *) (s))
#define C(s) ((const char *) (s))

static void xml_freep(xmlChar **p) {
        if (*p)
                xmlFree(*p);
}

static void doc_freep(xmlDoc **p) {
        if (*p)
                xmlFreeDoc(*p);
}

#define _cleanup_xml_ _cleanup_(xml_freep)

static int complain(char **ret_error, const char *format, ...) _printf_(2, 3);
static int complain(char **ret_error, const char *format, ...) {
        va_list ap;

        va_start(ap, format);
        if (vasprintf(ret_error, format, ap) < 0)
                *ret_error = NULL;
        va_end(ap);
        return -EINVAL;
}

void domain_done(struct domain *d) {
        for (size_t i = 0; i < d->n_functions; i++) {
                freep(&d->functions[i].bind);
                freep(&d->functions[i].vf_token);
        }
        free(d->functions);
        free(d->name);
        free(d->uuid);
        free(d->vm_name);
        free(d->platform);
        free(d->bind);
        free(d->vmm_user);
        free(d->vmm_group);
        free(d->dac_label);
        free(d->seclabel);
        *d = (struct domain){};
}

/* ---- walking ---- */

/* The first element at or behind a node; NULL: none. */
static xmlNode *element(xmlNode *n) {
        while (n && n->type != XML_ELEMENT_NODE)
                n = n->next;
        return n;
}

static bool is_ours(const xmlNode *n) {
        return n->ns && n->ns->href && startswith(C(n->ns->href), DOMAIN_NAMESPACE_PREFIX);
}

/* libvirt's own elements have no namespace. */
static bool is_plain(const xmlNode *n, const char *name) {
        return !n->ns && streq(C(n->name), name);
}

static xmlNode *child(xmlNode *parent, const char *name) {
        xmlNode *n = parent ? element(parent->children) : NULL;

        while (n && !is_plain(n, name))
                n = element(n->next);
        return n;
}

/* NULL: it is not there, or there is no memory, which for the few bytes of these texts is no case of its own. */
static xmlChar *attribute(xmlNode *n, const char *name) {
        return n ? xmlGetNoNsProp(n, X(name)) : NULL;
}

static bool attribute_is(xmlNode *n, const char *name, const char *value) {
        _cleanup_xml_ xmlChar *text = attribute(n, name);

        return text && streq(C(text), value);
}

static int copy_text(xmlNode *n, char **ret) {
        _cleanup_xml_ xmlChar *text = n ? xmlNodeGetContent(n) : NULL;

        return free_and_strdup(ret, text && *text ? C(text) : NULL);
}

/* ---- values ---- */

static int read_bool(const char *text, const char *what, bool *ret, char **ret_error) {
        if (!streq(text, "yes") && !streq(text, "no"))
                return complain(ret_error, "%s is 'yes' or 'no', not '%.64s'", what, text);
        *ret = streq(text, "yes");
        return 0;
}

static int read_number(const char *text, const char *what, uint32_t max, uint32_t *ret, char **ret_error) {
        bool hex = startswith(text, "0x");
        const char *digits = hex ? text + 2 : text;
        unsigned long n;
        char *end;

        errno = 0;
        n = strtoul(digits, &end, hex ? 16 : 10);
        if (!isxdigit((unsigned char) *digits) || *end || errno != 0 || n > max)
                return complain(ret_error, "%s is a number from 0 to %u, not '%.64s'", what, max, text);
        *ret = (uint32_t) n;
        return 0;
}

static int read_late_or_early(const char *text, char **ret_error) {
        return streq(text, "late") || streq(text, "early") ? 0 : complain(ret_error, "bind is 'late' or 'early', not '%.64s'", text);
}

/* The same as tdid wants it (org.tdid1.Manager.CreateVM), but found before anything is made. */
static bool is_vm_name(const char *name) {
        if (!isalnum((unsigned char) *name))
                return false;
        for (; *name; name++)
                if (!isalnum((unsigned char) *name) && !strchr("._-+:@", *name))
                        return false;
        return true;
}

/* ---- our elements ---- */

static int read_device_attribute(struct tdi_function *f, bool *has_bdf, const char *name, const char *value, char **ret_error) {
        bool yes = false;
        int r = 0;

        if (streq(name, "bdf")) {
                *has_bdf = true;
                if (tdi_bdf_parse(value, &f->bdf) < 0)
                        return complain(ret_error, "bdf='%.64s' is no PCI function; write it as 0000:01:00.0", value);
        } else if (streq(name, "guest_rid")) {
                f->flags |= TDI_ATTACH_GUEST_RID;
                r = read_number(value, "guest_rid", UINT16_MAX, &f->guest_rid, ret_error);
        } else if (streq(name, "bind")) {
                r = read_late_or_early(value, ret_error);
                if (r >= 0 && !(f->bind = strdup(value)))
                        r = -ENOMEM;
        } else if (streq(name, "vf_token")) {
                if (!(f->vf_token = strdup(value)))
                        r = -ENOMEM;
        } else if (streq(name, "force")) {
                r = read_bool(value, "force", &yes, ret_error);
                f->flags |= yes ? TDI_ATTACH_FORCE : 0;
        } else if (streq(name, "connect")) {
                r = read_bool(value, "connect", &yes, ret_error);
                f->flags |= yes ? 0 : TDI_ATTACH_NO_CONNECT;
        } else
                r = complain(ret_error, "<tdid:device> has no attribute '%.64s'", name);
        return r;
}

static int read_vm_attribute(struct domain *d, const char *name, const char *value, char **ret_error) {
        if (streq(name, "name")) {
                if (!is_vm_name(value))
                        return complain(ret_error, "name='%.64s': a VM's name has letters, digits and ._-+:@ and starts with a letter or digit", value);
                return free_and_strdup(&d->vm_name, value);
        }
        if (streq(name, "platform"))
                return free_and_strdup(&d->platform, value);
        if (streq(name, "bind")) {
                int r = read_late_or_early(value, ret_error);

                return r < 0 ? r : free_and_strdup(&d->bind, value);
        }
        if (streq(name, "hotplug"))
                return read_bool(value, "hotplug", &d->hotplug, ret_error);
        if (streq(name, "peer_to_peer"))
                return read_bool(value, "peer_to_peer", &d->peer_to_peer, ret_error);
        if (streq(name, "await_vmm")) {
                int r = read_number(value, "await_vmm", AWAIT_MAX, &d->await_vmm, ret_error);

                if (r >= 0 && d->await_vmm == 0)
                        r = complain(ret_error, "await_vmm='0' waits for nothing: QEMU is started after the VM is made");
                return r;
        }
        if (streq(name, "vmm_user"))
                return free_and_strdup(&d->vmm_user, value);
        if (streq(name, "vmm_group"))
                return free_and_strdup(&d->vmm_group, value);
        return complain(ret_error, "<tdid:vm> has no attribute '%.64s'", name);
}

/* Calls one() with each attribute's name and value. */
#define FOREACH_ATTRIBUTE(a, node) for (const xmlAttr *a = (node)->properties; a; a = a->next)

static int read_device(struct domain *d, xmlNode *node, char **ret_error) {
        struct tdi_function *f = &d->functions[d->n_functions++];
        bool has_bdf = false;
        int r;

        *f = (struct tdi_function){ .size = sizeof(*f) };
        FOREACH_ATTRIBUTE(a, node) {
                _cleanup_xml_ xmlChar *value = xmlNodeGetContent((const xmlNode *) a);

                if (!value)
                        return -ENOMEM;
                r = read_device_attribute(f, &has_bdf, C(a->name), C(value), ret_error);
                if (r < 0)
                        return r;
        }
        if (!has_bdf)
                return complain(ret_error, "a <tdid:device> has no bdf");
        if (element(node->children))
                return complain(ret_error, "a <tdid:device> has no elements of its own, such as <%.64s>", C(element(node->children)->name));
        for (size_t i = 0; i + 1 < d->n_functions; i++) {
                char text[TDI_BDF_MAX];

                if (tdi_bdf_number(d->functions[i].bdf) == tdi_bdf_number(f->bdf))
                        return complain(ret_error, "%s is there twice", tdi_bdf_format(f->bdf, text));
        }
        return 0;
}

static int read_vm(struct domain *d, xmlNode *vm, char **ret_error) {
        size_t n = 0;
        int r;

        d->await_vmm = AWAIT_DEFAULT;
        FOREACH_ATTRIBUTE(a, vm) {
                _cleanup_xml_ xmlChar *value = xmlNodeGetContent((const xmlNode *) a);

                r = value ? read_vm_attribute(d, C(a->name), C(value), ret_error) : -ENOMEM;
                if (r < 0)
                        return r;
        }
        for (const xmlNode *e = element(vm->children); e; e = element(e->next))
                n++;
        if (n > DOMAIN_FUNCTIONS_MAX)
                return complain(ret_error, "there are %zu functions, and a VM has at most %d", n, DOMAIN_FUNCTIONS_MAX);
        if (n == 0 && !d->hotplug)
                return complain(ret_error, "<tdid:vm> has no <tdid:device>");
        d->functions = calloc(n ? n : 1, sizeof(*d->functions));
        if (!d->functions)
                return -ENOMEM;
        for (xmlNode *e = element(vm->children); e; e = element(e->next)) {
                if (!is_ours(e) || !streq(C(e->ns->href), DOMAIN_NAMESPACE) || !streq(C(e->name), "device"))
                        return complain(ret_error, "<tdid:vm> has elements <tdid:device>, none called <%.64s>", C(e->name));
                r = read_device(d, e, ret_error);
                if (r < 0)
                        return r;
        }
        return 0;
}

/* The first element of ours at or behind a node; NULL: none. */
static xmlNode *find_ours(xmlNode *n) {
        n = element(n);
        while (n && !is_ours(n))
                n = element(n->next);
        return n;
}

static int read_ours(struct domain *d, xmlNode *ours, char **ret_error) {
        if (!streq(C(ours->ns->href), DOMAIN_NAMESPACE))
                return complain(ret_error, "the metadata has an element of the namespace %.64s, and this hook knows %s", C(ours->ns->href), DOMAIN_NAMESPACE);
        if (streq(C(ours->name), "device"))
                return complain(ret_error, "<tdid:device> belongs into one <tdid:vm>: of several elements in <metadata> libvirt keeps the first");
        if (!streq(C(ours->name), "vm"))
                return complain(ret_error, "the metadata's element is <tdid:vm>, not <tdid:%.64s>", C(ours->name));
        return read_vm(d, ours, ret_error);
}

/* ---- libvirt's own ---- */

static int read_labels(struct domain *d, xmlNode *root) {
        int r = 0;

        for (xmlNode *e = element(root->children); e && r >= 0; e = element(e->next)) {
                if (!is_plain(e, "seclabel") || attribute_is(e, "type", "none"))
                        continue;
                if (attribute_is(e, "model", "dac"))
                        r = copy_text(child(e, "label"), &d->dac_label);
                else if (!d->seclabel)
                        r = copy_text(child(e, "label"), &d->seclabel);
        }
        return r;
}

/* Said in one of libvirt's ways, or to QEMU itself. */
static bool is_shared(xmlNode *root) {
        xmlNode *numa = child(child(root, "cpu"), "numa");

        if (attribute_is(child(child(root, "memoryBacking"), "access"), "mode", "shared"))
                return true;
        for (xmlNode *cell = numa ? element(numa->children) : NULL; cell; cell = element(cell->next))
                if (attribute_is(cell, "memAccess", "shared"))
                        return true;
        for (xmlNode *e = element(root->children); e; e = element(e->next)) {
                if (!e->ns || !streq(C(e->name), "commandline"))
                        continue;
                for (xmlNode *arg = element(e->children); arg; arg = element(arg->next)) {
                        _cleanup_xml_ xmlChar *value = attribute(arg, "value");

                        if (value && (strstr(C(value), "share=on") || strstr(C(value), "\"share\":true")))
                                return true;
                }
        }
        return false;
}

static bool contains(const char *text, size_t size, const char *what) {
        return memmem(text, size, what, strlen(what)) != NULL;
}

static void quiet(_unused_ void *userdata, _unused_ const char *format, ...) {
}

/* It becomes part of a file's name. */
static bool is_uuid(const char *text) {
        return strlen(text) == 36 && strspn(text, "0123456789abcdefABCDEF-") == 36;
}

static int read_all(struct domain *d, xmlNode *root, xmlNode *ours, char **ret_error) {
        int r;

        if (find_ours(ours->next))
                return complain(ret_error, "the metadata has several elements of ours: put every <tdid:device> into one <tdid:vm>");
        r = read_ours(d, ours, ret_error);
        if (r < 0)
                return r;
        if (!d->vm_name && !is_vm_name(d->name))
                return complain(ret_error, "a VM of tdid cannot be called as the domain is: a name has letters, digits and ._-+:@ and starts with a letter or "
                                           "digit; give one with <tdid:vm name='…'>");
        d->shared = is_shared(root);
        return read_labels(d, root);
}

int domain_read(const char *xml, size_t size, enum domain_part part, struct domain *ret, char **ret_error) {
        _cleanup_(doc_freep) xmlDoc *doc = NULL;
        _cleanup_(domain_done) struct domain d = {};
        xmlNode *root, *metadata, *ours;
        int r;

        *ret_error = NULL;
        if (!contains(xml, size, DOMAIN_NAMESPACE_PREFIX)) {
                *ret = (struct domain){};
                return 0;
        }
        /* Neither files nor the network are looked at, whatever the text names. */
        xmlSetGenericErrorFunc(NULL, quiet);
        doc = xmlReadMemory(xml, size > INT32_MAX ? INT32_MAX : (int) size, "domain", NULL, XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
        root = doc ? xmlDocGetRootElement(doc) : NULL;
        if (!root || !is_plain(root, "domain"))
                return complain(ret_error, "the domain's XML is not what libvirt gives its hooks");
        metadata = child(root, "metadata");
        ours = metadata ? find_ours(metadata->children) : NULL;
        if (!ours) {
                /* The name is somewhere else, in a title perhaps. */
                *ret = (struct domain){};
                return 0;
        }
        d.ours = true;
        r = copy_text(child(root, "name"), &d.name);
        if (r >= 0)
                r = copy_text(child(root, "uuid"), &d.uuid);
        if (r >= 0 && (!d.name || !d.uuid || !is_uuid(d.uuid)))
                return complain(ret_error, "the domain's XML has no name or no UUID");
        if (r >= 0 && part == DOMAIN_ALL)
                r = read_all(&d, root, ours, ret_error);
        if (r < 0)
                return r;
        *ret = d;
        d = (struct domain){};
        return 0;
}

/* ---- users ---- */

/* "+1000" is a number, "1000" one that no user has as name, as libvirt reads them (virGetUserID). */
static int read_id(const char *text, bool group, uint32_t *ret, char **ret_error) {
        const char *digits = *text == '+' ? text + 1 : text;
        const struct passwd *user = NULL;
        const struct group *g = NULL;
        char *end;
        unsigned long n;

        if (*text != '+') {
                errno = 0;
                if (group)
                        g = getgrnam(text);
                else
                        user = getpwnam(text);
                if (g || user) {
                        *ret = g ? g->gr_gid : user->pw_uid;
                        return 0;
                }
        }
        errno = 0;
        n = strtoul(digits, &end, 10);
        if (!isdigit((unsigned char) *digits) || *end || errno != 0 || n >= UINT32_MAX)
                return complain(ret_error, "there is no %s '%.64s'", group ? "group" : "user", text);
        *ret = (uint32_t) n;
        return 0;
}

int domain_ids(const struct domain *d, uid_t *ret_uid, gid_t *ret_gid, char **ret_error) {
        _cleanup_free_ char *label = d->dac_label ? strdup(d->dac_label) : NULL;
        const char *user, *group;
        uint32_t uid = 0, gid = 0;
        char *colon;
        int r;

        *ret_error = NULL;
        if (d->dac_label && !label)
                return -ENOMEM;
        colon = label ? strchr(label, ':') : NULL;
        if (colon)
                *colon = '\0';
        user = d->vmm_user ? d->vmm_user : label;
        group = d->vmm_group ? d->vmm_group : colon ? colon + 1 : NULL;
        if (!user || !group)
                return complain(ret_error, "libvirt does not say which user and group QEMU will run as (it has no <seclabel model='dac'>): "
                                           "say it with <tdid:vm vmm_user='…' vmm_group='…'>");
        r = read_id(user, false, &uid, ret_error);
        if (r >= 0)
                r = read_id(group, true, &gid, ret_error);
        if (r < 0)
                return r;
        *ret_uid = uid;
        *ret_gid = gid;
        return 0;
}
