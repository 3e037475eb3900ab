/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * polkit, asked without waiting: may the caller of a method do what it asks for? One action a risk. access.c decides who is asked about; what
 * is here knows neither VMs nor functions.
 */
#ifndef TDID_BUS_POLKIT_H
#define TDID_BUS_POLKIT_H

#include "manager.h"

enum polkit_action {
        POLKIT_INSPECT,       /* see what only the owner sees */
        POLKIT_MANAGE_OWN_VM, /* whoever owns the VM has this, unless polkit takes it away */
        POLKIT_MANAGE_ANY_VM,
        POLKIT_CREATE_VM,     /* for oneself */
        POLKIT_CREATE_ANY_VM, /* for somebody else, for another's VMM, or with a chosen UUID */
        POLKIT_CONNECT,       /* a device to a TSM, and from it */
        POLKIT_RESTORE,       /* try again to give a quarantined function back */
        POLKIT_RELOAD,        /* the policy */
        POLKIT_EVIDENCE,      /* have a device prove what it is */
        POLKIT_FORCE,         /* past what protects the host */
        _POLKIT_ACTION_MAX,
        _POLKIT_ACTION_INVALID = -1,
};

/* "org.tdid1.inspect" */
const char *polkit_action_to_string(enum polkit_action action);
/*
 * What a caller needs where somebody who is not the owner needs @action: an owner sees everything of its VM (_POLKIT_ACTION_INVALID: nothing
 * is needed), and manages it as its own; what concerns the host it needs as everybody.
 */
enum polkit_action polkit_action_of_caller(enum polkit_action action, bool is_owner);
/* What a caller has where polkit does not answer. */
bool polkit_action_is_given(enum polkit_action action);

/*
 * Of one uid, so that nobody takes all; in all fewer than dbus-daemon lets a connection wait for (128): what it refuses would look like a
 * polkit that is not there.
 */
#define POLKIT_PENDING_PER_USER 8
#define POLKIT_PENDING_MAX 64
/* A polkit that is asked without a dialog has this long, and is not asked again for as long as the second says. */
#define POLKIT_PATIENCE_USEC (10 * 1000000ULL)
#define POLKIT_REST_USEC (30 * 1000000ULL)
/* Somebody has to find a password. */
#define POLKIT_DIALOG_USEC (120 * 1000000ULL)
#define POLKIT_WHY_MAX 256

struct polkit;

struct polkit *polkit_new(Manager *m);
void polkit_free(struct polkit *p);

/*
 * May the caller of @call, who is @uid, do this? @details are keys and values in turn, up to NULL, which polkit's rules see. 1: it may; 0: polkit
 * has been asked, the method is run again from its start when it has answered, and finds the answer if it asks the same then. -EACCES: it may
 * not, for @ret_why; -EHOSTDOWN: nobody answers, for @ret_why; -ENOBUFS: too many wait for an answer; -ESTALE: it asks something else each
 * time; another errno.
 */
int polkit_ask(struct polkit *p, uid_t uid, enum polkit_action action, const char *const *details, sd_bus_message *call,
               sd_bus_message_handler_t method, char ret_why[static POLKIT_WHY_MAX]);

/* A bus name has another owner, or none: checks of a caller who has left are cancelled. */
void polkit_name_changed(struct polkit *p, const char *name, bool has_owner);

#endif
