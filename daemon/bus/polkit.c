/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The client of polkit. A check is made for one message: its answer is there while the method runs again, for the same question, and is
 * forgotten with that run. A method that needs two answers asks one after the other, and is run three times.
 */
#include "bus/polkit.h"

#include <inttypes.h>
#include <stdio.h>

#include "bus/bus.h"

#define AUTHORITY "org.freedesktop.PolicyKit1"
#define AUTHORITY_PATH "/org/freedesktop/PolicyKit1/Authority"
#define AUTHORITY_INTERFACE AUTHORITY ".Authority"
#define ALLOW_USER_INTERACTION 1u

/* What a method may ask one after the other; it is more only when the VM or function changes meanwhile. */
#define QUESTIONS_MAX 6

struct question {
        enum polkit_action action;
        char *details;
        int answer; /* 1, -EACCES, -EHOSTDOWN; 0: none yet */
        char why[POLKIT_WHY_MAX];
};

struct check {
        struct polkit *polkit;
        sd_bus_message *call;
        sd_bus_message_handler_t method;
        sd_bus_slot *slot;
        uid_t uid;
        uint64_t id, asked;
        bool interactive;
        struct question questions[QUESTIONS_MAX]; /* about this message; all but the last have been answered */
        size_t n_questions;
        struct check *next;
};

struct polkit {
        Manager *manager;
        struct check *pending;
        struct check *running; /* whose method runs again */
        uint64_t next_id, silent_until;
        bool said; /* that nobody answers */
};

static const char *const names[_POLKIT_ACTION_MAX] = {
        [POLKIT_INSPECT] = "org.tdid1.inspect",
        [POLKIT_MANAGE_OWN_VM] = "org.tdid1.manage-own-vm",
        [POLKIT_MANAGE_ANY_VM] = "org.tdid1.manage-any-vm",
        [POLKIT_CREATE_VM] = "org.tdid1.create-vm",
        [POLKIT_CREATE_ANY_VM] = "org.tdid1.create-any-vm",
        [POLKIT_CONNECT] = "org.tdid1.connect",
        [POLKIT_RESTORE] = "org.tdid1.restore",
        [POLKIT_RELOAD] = "org.tdid1.reload",
        [POLKIT_EVIDENCE] = "org.tdid1.evidence",
        [POLKIT_FORCE] = "org.tdid1.force",
};

const char *polkit_action_to_string(enum polkit_action action) {
        return action >= 0 && action < _POLKIT_ACTION_MAX ? names[action] : NULL;
}

enum polkit_action polkit_action_of_caller(enum polkit_action action, bool is_owner) {
        if (!is_owner)
                return action;
        return action == POLKIT_INSPECT ? _POLKIT_ACTION_INVALID : action == POLKIT_MANAGE_ANY_VM ? POLKIT_MANAGE_OWN_VM : action;
}

bool polkit_action_is_given(enum polkit_action action) {
        return action == POLKIT_MANAGE_OWN_VM;
}

struct polkit *polkit_new(Manager *m) {
        struct polkit *p = calloc(1, sizeof(*p));

        if (!p)
                log_oom();
        p->manager = m;
        return p;
}

static void check_free(struct check *c) {
        sd_bus_slot_unref(c->slot);
        sd_bus_message_unref(c->call);
        for (size_t i = 0; i < c->n_questions; i++)
                free(c->questions[i].details);
        free(c);
}

static void unlink_check(struct check *c) {
        struct check **p = &c->polkit->pending;

        while (*p != c)
                p = &(*p)->next;
        *p = c->next;
}

static void format_id(const struct check *c, char buf[static 32]) {
        snprintf(buf, 32, "tdid-%" PRIu64, c->id);
}

static struct question *last(struct check *c) {
        return c->questions + c->n_questions - 1;
}

/* A dialog goes away; polkit's answer to this is of no use. */
static void cancel(const struct check *c) {
        char id[32];

        format_id(c, id);
        (void) sd_bus_call_method_async(c->polkit->manager->bus, NULL, AUTHORITY, AUTHORITY_PATH, AUTHORITY_INTERFACE, "CancelCheckAuthorization",
                                        NULL, NULL, "s", id);
}

/* Whoever leaves the bus need not cancel: polkit sees that, and ends its dialogs. */
void polkit_free(struct polkit *p) {
        if (!p)
                return;
        while (p->pending) {
                struct check *c = p->pending;

                unlink_check(c);
                check_free(c);
        }
        free(p);
}

void polkit_name_changed(struct polkit *p, const char *name, bool has_owner) {
        struct check *next;

        if (has_owner && streq(name, AUTHORITY))
                p->silent_until = 0;
        if (has_owner)
                return;
        for (struct check *c = p->pending; c; c = next) {
                next = c->next;
                if (!streq(sd_bus_message_get_sender(c->call), name))
                        continue;
                unlink_check(c);
                cancel(c);
                check_free(c);
        }
}

/* ---- the answer ---- */

static void nobody_answers(struct check *c, const char *why) {
        struct question *q = last(c);
        struct polkit *p = c->polkit;

        q->answer = -EHOSTDOWN;
        snprintf(q->why, sizeof(q->why), "polkit does not answer: %s", why);
        json_clean_text(q->why);
        if (!p->said)
                log_warning("%s; until it does, root and the owners of VMs may do what they may without it, nobody else", q->why);
        p->said = true;
}

static int read_details(sd_bus_message *reply, bool *ret_dismissed) {
        const char *key, *value;
        bool dismissed = false;
        int r;

        r = sd_bus_message_enter_container(reply, 'a', "{ss}");
        while (r >= 0 && (r = sd_bus_message_read(reply, "{ss}", &key, &value)) > 0)
                dismissed |= streq(key, "polkit.dismissed") && !isempty(value);
        if (r >= 0)
                r = sd_bus_message_exit_container(reply);
        if (r >= 0)
                *ret_dismissed = dismissed;
        return r;
}

/* Of a no. */
static const char *reason(const struct check *c, bool challenge, bool dismissed) {
        if (dismissed)
                return "the dialog was dismissed";
        if (!challenge)
                return "polkit says no";
        return c->interactive ? "polkit wants authentication, and found no agent to ask for it" :
                                "polkit wants authentication, which the call does not allow (interactive authorization)";
}

static void read_answer(struct check *c, sd_bus_message *reply) {
        const sd_bus_error *error = sd_bus_message_get_error(reply);
        struct question *q = last(c);
        int authorised, challenge, r;
        bool dismissed = false;

        if (error) {
                bool late = now_monotonic() - c->asked >= (c->interactive ? POLKIT_DIALOG_USEC : POLKIT_PATIENCE_USEC);

                if (late) {
                        cancel(c);
                        /* A dialog that nobody has answered says nothing about polkit. */
                        if (!c->interactive)
                                c->polkit->silent_until = now_monotonic() + POLKIT_REST_USEC;
                }
                nobody_answers(c, late ? "the time limit has passed" : error->message ? error->message : strempty(error->name));
                return;
        }
        r = sd_bus_message_enter_container(reply, 'r', "bba{ss}");
        if (r >= 0)
                r = sd_bus_message_read(reply, "bb", &authorised, &challenge);
        if (r >= 0)
                r = read_details(reply, &dismissed);
        if (r < 0) {
                nobody_answers(c, "what came is no answer to CheckAuthorization");
                return;
        }
        c->polkit->said = false;
        q->answer = authorised ? 1 : -EACCES;
        if (!authorised)
                snprintf(q->why, sizeof(q->why), "%s", reason(c, challenge, dismissed));
        else if (!polkit_action_is_given(q->action))
                log_notice("uid %u: polkit allows %s (%s)", c->uid, names[q->action], q->details);
}

static int on_answer(sd_bus_message *reply, void *userdata, _unused_ sd_bus_error *e) {
        struct check *c = userdata;
        struct polkit *p = c->polkit;
        enum polkit_action action;

        unlink_check(c);
        read_answer(c, reply);
        /* The method may ask on, and its questions then go with the next check. */
        action = last(c)->action;
        p->running = c;
        bus_run_again(p->manager, c->call, c->method, polkit_action_to_string(action));
        p->running = NULL;
        check_free(c);
        return 0;
}

/* ---- the question ---- */

/* What is known in this run of the method: 1 and the errors of polkit_ask(), 0: nothing. */
static int known(const struct check *c, enum polkit_action action, const char *details, char ret_why[static POLKIT_WHY_MAX]) {
        for (size_t i = 0; i < c->n_questions; i++) {
                const struct question *q = c->questions + i;

                if (q->action != action || !streq(q->details, details))
                        continue;
                if (q->answer < 0)
                        memcpy(ret_why, q->why, POLKIT_WHY_MAX);
                return q->answer;
        }
        return 0;
}

/* What has been answered about a message goes on to its next question. Whoever always needs something else asks about what changes all the time. */
static int inherit(struct check *c, struct check *before) {
        if (before->n_questions >= QUESTIONS_MAX)
                return -ESTALE;
        memcpy(c->questions, before->questions, sizeof(c->questions));
        c->n_questions = before->n_questions;
        before->n_questions = 0;
        return 0;
}

static int append_details(sd_bus_message *m, const char *const *details) {
        int r;

        r = sd_bus_message_open_container(m, 'a', "{ss}");
        for (size_t i = 0; r >= 0 && details[i]; i += 2)
                r = sd_bus_message_append(m, "{ss}", details[i], details[i + 1]);
        return r < 0 ? r : sd_bus_message_close_container(m);
}

static int send_question(struct check *c, const char *const *details) {
        sd_bus *bus = c->polkit->manager->bus;
        sd_bus_message *m = NULL;
        char id[32];
        int r;

        format_id(c, id);
        r = sd_bus_message_new_method_call(bus, &m, AUTHORITY, AUTHORITY_PATH, AUTHORITY_INTERFACE, "CheckAuthorization");
        if (r >= 0)
                r = sd_bus_message_append(m, "(sa{sv})s", "system-bus-name", 1, "name", "s", sd_bus_message_get_sender(c->call), names[last(c)->action]);
        if (r >= 0)
                r = append_details(m, details);
        if (r >= 0)
                r = sd_bus_message_append(m, "us", c->interactive ? ALLOW_USER_INTERACTION : 0, id);
        if (r >= 0)
                r = sd_bus_call_async(bus, &c->slot, m, on_answer, c, c->interactive ? POLKIT_DIALOG_USEC : POLKIT_PATIENCE_USEC);
        sd_bus_message_unref(m);
        return r;
}

static char *join(const char *const *details) {
        char *text = strdup("");

        for (size_t i = 0; text && details[i]; i += 2) {
                char *longer = NULL;

                if (asprintf(&longer, "%s%s%s=%s", text, i > 0 ? ", " : "", details[i], details[i + 1]) < 0)
                        longer = NULL;
                free(text);
                text = longer;
        }
        if (!text)
                log_oom();
        return text;
}

static bool is_full(const struct polkit *p, uid_t uid) {
        unsigned all = 0, own = 0;

        for (const struct check *c = p->pending; c; c = c->next) {
                all++;
                own += c->uid == uid;
        }
        return all >= POLKIT_PENDING_MAX || own >= POLKIT_PENDING_PER_USER;
}

int polkit_ask(struct polkit *p, uid_t uid, enum polkit_action action, const char *const *details, sd_bus_message *call,
               sd_bus_message_handler_t method, char ret_why[static POLKIT_WHY_MAX]) {
        struct check *before = p->running && p->running->call == call ? p->running : NULL, *c;
        _cleanup_free_ char *text = join(details);
        int r;

        r = before ? known(before, action, text, ret_why) : 0;
        if (r != 0)
                return r;
        if (now_monotonic() < p->silent_until) {
                snprintf(ret_why, POLKIT_WHY_MAX, "polkit does not answer: the last time limit passed less than %llu s ago", POLKIT_REST_USEC / 1000000);
                return -EHOSTDOWN;
        }
        if (is_full(p, uid))
                return -ENOBUFS;
        c = calloc(1, sizeof(*c));
        if (!c)
                log_oom();
        *c = (struct check){ .polkit = p, .call = sd_bus_message_ref(call), .method = method, .uid = uid, .id = ++p->next_id, .asked = now_monotonic() };
        c->interactive = sd_bus_message_get_allow_interactive_authorization(call) > 0;
        r = before ? inherit(c, before) : 0;
        if (r >= 0) {
                c->questions[c->n_questions++] = (struct question){ .action = action, .details = TAKE_PTR(text) };
                r = send_question(c, details);
        }
        if (r < 0) {
                check_free(c);
                return r;
        }
        c->next = p->pending;
        p->pending = c;
        return 0;
}
