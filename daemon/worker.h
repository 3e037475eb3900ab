/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tdid's end of a worker process: one command at a time, the answer as a callback. A worker that is let go ends by itself,
 * as soon as the kernel lets it.
 *
 * A few spare processes wait for work, as a start takes as long as many a step: a worker whose work has ended well rests, and
 * is handed out again once it has proved that it holds no descriptor of that work any more.
 */
#ifndef TDID_WORKER_H
#define TDID_WORKER_H

#include "ipc.h"
#include "manager.h"

/*
 * r is the operation's result, or -ECONNRESET when the process died. The text describes a failure. values and fds are the
 * callback's to read; it may take descriptors out. The worker is idle again when the callback runs, and may be freed by it.
 */
typedef void (*worker_done)(Worker *w, int r, const char *text, struct json_object *values, struct ipc_fds *fds, void *userdata);

/*
 * Before the first worker, with libexec_dir known: opens the program that all of them will execute, whatever is there later. While a package is
 * replaced, the tdid before it must not start workers of the one after it: what the two say to each other is no protocol between versions.
 * Once for each manager, which owns the descriptor. 0, or a negative errno.
 */
int worker_open_program(Manager *m);

/*
 * A process, spare or new; -EAGAIN when as many as the limit work on functions. The open file behind @lock (a copy is the
 * caller's) goes to it with the first command, and so stays locked until the process has really ended, or rests.
 */
int worker_new(Manager *m, int lock, Worker **ret);
/* Lets it end. */
Worker *worker_free(Worker *w);
DEFINE_CLEANUP(Worker *, worker_free);
/* Its work is over: it rests if all of it went well and a spare one is wanted, and ends otherwise. Returns NULL. */
Worker *worker_rest(Worker *w);

/* @args is borrowed, the descriptors are duplicated into the message. */
int worker_call(Worker *w, const char *op, const char *verb, struct json_object *args, const int *fds, size_t n_fds, worker_done done,
                void *userdata);
/* Several operations that need no descriptors, one after the other up to the first that fails. */
int worker_call_all(Worker *w, const char *const *ops, size_t n_ops, const char *verb, struct json_object *args, worker_done done,
                    void *userdata);
/* How many operations of the last command went well; 0 when the process died, and nobody knows. */
size_t worker_ran(const Worker *w);
/* After an answer with descriptors: the worker may close its copies and take the next command. */
int worker_acknowledge(Worker *w);
bool worker_busy(const Worker *w);
/* Ends the process, if the kernel lets it: only for readers, which leave nothing half done. */
void worker_kill(Worker *w);
/* Its process still is there, as far as we have heard. */
bool worker_alive(const Worker *w);
/* The last copy of a descriptor goes to a worker, which closes it and ends: nobody waits. The caller's copy is closed. */
void worker_close_fd(Manager *m, int fd);

/* Processes that are not spare: at work, or on their way out. */
unsigned worker_count(const Manager *m);
/* From now on there are spare ones. */
void worker_keep_spares(Manager *m);
void worker_free_spares(Manager *m);

#endif
