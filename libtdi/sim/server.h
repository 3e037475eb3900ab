/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The core's own insides, shared by its files only: the simulation's state, calls in flight, sockets. The rooms of the model
 * include kernel.h and nothing of this; tests and fuzz targets that run a simulation inside themselves need the first part.
 *
 *      kernel.c     threads, sleeping, files
 *      tree.c       nodes and paths; attribute.c: open files of the tree
 *      server.c     the loop; socket.c: sockets of files, connections; packet.c: what comes in; uevent.c: listeners
 *      serve.c      what each call does
 *      stuck.c      processes that cannot die
 *      fault.c      rules; trace.c: the log of calls
 *      control.c    commands; ask.c: the client's side of them; look.c: those that show much of the tree at once
 */
#ifndef TDI_SIM_SERVER_H
#define TDI_SIM_SERVER_H

#include <stdio.h>
#include <sys/queue.h>
#include <sys/socket.h>

#include "kernel.h"
#include "protocol.h"

/* ---- running one ---- */

/* A simulation without a machine. There may be several in a process. */
int sim_new(struct sim **ret);
/* Hangs up on everybody and waits for what runs; false when something sleeps on: then nothing may be freed. */
bool sim_stop(struct sim *sim);
/* After sim_stop() said true, and the machine was freed. */
struct sim *sim_free(struct sim *sim);
DEFINE_CLEANUP(struct sim *, sim_free);
/* The big lock, for whoever is not in a call: booting, tests. */
void sim_lock(struct sim *sim);
void sim_unlock(struct sim *sim);
/* Listens at a path; a stale socket there is replaced. -EADDRINUSE when somebody listens. */
int sim_listen(struct sim *sim, const char *path);
/* A connection that was made in another way: one end of a SOCK_SEQPACKET pair, taken also on failure. */
int sim_connect_take_fd(struct sim *sim, int fd);
/* One round: waits for at most timeout milliseconds (-1: no limit), takes what came. 0; 1 when the simulation was asked to end; -errno. */
int sim_round(struct sim *sim, int timeout);
/* What is still open, a line each, to a stream; how many files and calls. */
size_t sim_print_open(struct sim *sim, FILE *to);
/* Adds the rules of an array ("faults" of a topology). -EINVAL with the place: "faults[2].nth: …". */
int sim_faults_load(struct sim *sim, struct json_object *rules, char *ret_why, size_t size);

/* ---- state ---- */

#define CALLS_PER_PEER 1024u   /* in flight, of one process */
#define CONNECTIONS_PER_PEER 1024u
#define FDS_SPARE 1024u        /* descriptors kept free for calls in flight */
#define ENDPOINT_BUCKETS 16384u
#define PEER_BUCKETS 256u
#define RING_ENTRIES 1024u
#define COMM_BUCKETS 64u

/* What the loop listens to. First member of what follows. */
enum source_type { SOURCE_LISTENER, SOURCE_WAKE, SOURCE_TIMER, SOURCE_SIGNAL, SOURCE_CONNECTION, SOURCE_ENDPOINT, SOURCE_CALL };

struct source {
        enum source_type type;
        int fd;
        bool ready; /* is in the round's list of what can be read */
};

/* What one process has: for limits. */
struct peer {
        pid_t pid;
        unsigned files, calls, connections;
        struct peer *next;
};

struct connection {
        struct source source;
        unsigned refs; /* the loop's and one for each call */
        pid_t pid;
        char *answer; /* of the last control command */
        size_t answer_size;
        LIST_ENTRY(connection) link;
};

/* Our end of a file's socket. Holds one reference of the file. */
struct endpoint {
        struct source source;
        struct sim_file *file;
        uint64_t inode; /* of the client's end */
        struct endpoint *next;
};

/* A file as the core knows it; the model sees the first member. */
struct open_file {
        struct sim_file f;
        bool tree; /* of the tree: its release never sleeps */
        struct endpoint *endpoint; /* the last that was made of it, or NULL */
        TAILQ_ENTRY(open_file) link;
};

/* The copies of a process' sockets that are kept while it cannot die. */
struct stuck {
        pid_t pid;
        int pidfd;
        unsigned users; /* calls that sleep */
        bool dead;      /* so what we have is all that there will be */
        uint64_t next_scan;
        struct { int fd; uint64_t inode; } *held;
        size_t n, room;
        LIST_ENTRY(stuck) link;
};

/* Work on a thread of the pool: a client's call, or the simulation's own (run() is not serve_call() then). */
struct call {
        struct source source;      /* of the answer's socket, listened to once the call sleeps; fd negative: nobody waits */
        struct sim_call c;
        void (*run)(struct call *k);
        void (*func)(struct sim_call *c, void *data); /* sim_run() */
        void *data;

        uint32_t op;
        uint64_t a, b;
        uint8_t *payload;          /* terminated */
        size_t size;
        int fds[SIM_FDS_MAX];
        unsigned n_fds;
        struct connection *connection; /* a reference, or NULL */
        struct sim_file *file;         /* a reference, or NULL */
        struct peer *peer;

        char name[256];            /* of the ioctl, the path */
        char device[16];
        char comm[16];
        uint64_t sequence, started; /* µs */
        pid_t kills;               /* by a fault, when it has been executed */
        bool kill_after, silent, quits;

        pthread_cond_t *cond;      /* sleeps on this */
        bool interruptible, watched, closing /* waits for the closer's byte */, unsettled;
        uint64_t stuck_since;      /* µs; 0: has not slept uninterruptibly */
        struct stuck *stuck;
        TAILQ_ENTRY(call) link, queue;
};
TAILQ_HEAD(call_list, call);
TAILQ_HEAD(fault_list, fault);
LIST_HEAD(worker_list, worker);
LIST_HEAD(connection_list, connection);
LIST_HEAD(stuck_list, stuck);
LIST_HEAD(listener_list, listener);
TAILQ_HEAD(file_list, open_file);

struct fault;
struct listener;

struct trace_entry {
        uint64_t sequence;
        pid_t pid;
        int64_t r;
        char op[12], name[104], device[16];
};

struct sim {
        pthread_mutex_t lock;
        struct sim_machine *machine;
        uint64_t born;             /* µs */

        struct call_list queue;    /* wait for a thread */
        struct call_list calls;    /* have one */
        struct call_list done;     /* were listened to: freed by the loop, which may still have an event of theirs */
        struct worker_list idle;  /* the one that was busy last is first */
        pthread_cond_t ended, settled;
        unsigned n_threads, n_idle, n_queued, n_sleeping, n_unsettled;
        bool ending;

        struct file_list files;
        size_t n_files;
        struct endpoint *endpoints[ENDPOINT_BUCKETS];
        size_t n_endpoints;
        struct connection_list connections;
        size_t n_connections;
        struct peer *peers[PEER_BUCKETS];
        size_t fd_limit;
        int reserve;               /* a descriptor to give up when there is none left for a connection to be refused with */

        struct sim_node *root;
        size_t n_nodes;
        pthread_cond_t drained;

        int epoll;
        struct source listener, wake, timer, signals;
        char *path;                /* of the listening socket */
        struct epoll_event *events;
        size_t events_room;
        size_t n_sources;
        uint64_t timer_at;         /* µs; 0: not armed */
        bool quit;
        uint8_t *packet;
        uint64_t sequence, served;

        struct stuck_list stuck;
        bool stuck_refused;
        struct listener_list listeners;

        struct fault_list faults;
        unsigned next_fault;
        int trace;                 /* -1: none */
        struct trace_entry *ring;
        uint64_t ring_n;
        struct { pid_t pid; uint64_t until; char comm[16]; } comms[COMM_BUCKETS];
};

uint64_t sim_now_us(void);

/* ---- kernel.c ---- */
struct call *call_new(struct sim *sim, void (*run)(struct call *k));
/* Gives a call to the pool; its run() is called with the lock held. The call is freed at its end. */
void call_submit(struct call *k);
/* For calls that were never submitted, too. */
struct call *call_free(struct call *k);
/* Sleeps on a condition in the name of this thread's call. absolute: µs, 0: no end. -EINTR, -ETIMEDOUT. */
int call_sleep(struct sim_call *c, pthread_cond_t *cond, bool interruptible, uint64_t absolute);
struct call *call_current(void); /* of this thread; NULL outside the pool */
/* The call is no longer what the loop waits for. */
void call_settle(struct call *k);
void threads_end(struct sim *sim); /* no call is left: waits until no thread is */

/* ---- tree.c ---- */
struct sim_node *node_get(struct sim_node *n);
void node_put(struct sim_node *n);
struct sim *node_sim(struct sim_node *n);
const char *node_device(const struct sim_node *n); /* "" for none */
void node_path(const struct sim_node *n, char *buf, size_t size);
bool node_enter(struct sim_node *n); /* kernfs_get_active() */
void node_leave(struct sim_node *n);
void tree_init(struct sim *sim);
void tree_free(struct sim *sim);

/* ---- attribute.c ---- */
int tree_open(struct sim_call *c, const char *path, int flags, struct sim_file **ret);
ssize_t tree_readlink(struct sim *sim, const char *path, char *buf, size_t size);

/* ---- socket.c ---- */
int endpoint_new(struct sim_file *f, int *ret_client); /* takes a reference of the file on success */
struct endpoint *endpoint_find(struct sim *sim, uint64_t inode);
/* What /proc/PID/fdinfo shows of its file (fdinfo.c). -ENOENT for what is no dma-buf. */
int fdinfo_open(struct sim_call *c, struct endpoint *e, struct sim_file **ret);
void endpoint_drop(struct sim *sim, struct endpoint *e); /* returns when the file is released, or its release sleeps */
struct sim_file *file_of_fd(struct sim *sim, int fd); /* borrowed; NULL for a descriptor that is none of ours */
struct peer *peer_get(struct sim *sim, pid_t pid); /* made if it is not there; NULL: no memory */
void peer_put(struct sim *sim, struct peer *p);    /* freed when it has nothing */
void connections_accept(struct sim *sim);
void connection_drop(struct sim *sim, struct connection *connection);
struct connection *connection_unref(struct sim *sim, struct connection *connection);

/* ---- server.c ---- */
int source_add(struct sim *sim, struct source *s, uint32_t events);
int source_change(struct sim *sim, struct source *s, uint32_t events);
void source_remove(struct sim *sim, struct source *s);
void server_wake(struct sim *sim);
void server_timer(struct sim *sim, uint64_t ms); /* the loop looks at stuck processes again after this */
void call_watch(struct call *k);

/* ---- packet.c ---- */
/*
 * Takes what a connection or a file's socket has to say; calls are put at the end of the list. hung_up: until there is nothing more.
 * False: it is to be closed.
 */
bool packet_receive(struct sim *sim, struct source *s, bool hung_up, struct call_list *calls);
/* A closer said its byte (or died: then the call is freed). */
void packet_close_ready(struct sim *sim, struct call *k, struct call_list *calls);
void packet_refuse(int answer, int64_t r);

/* ---- serve.c ---- */
void serve_call(struct call *k);
const char *op_name(uint32_t op); /* "?" */

/* ---- uevent.c ---- */
int uevent_open(struct sim_call *c, struct sim_file **ret);
void uevent_flush(struct sim_file *f); /* its socket has room again */
void uevent_attach(struct sim_file *f, struct endpoint *e);
bool uevent_is(const struct sim_file *f);

/* ---- stuck.c ---- */
void stuck_sleep(struct call *k, bool at_once);
void stuck_end(struct call *k);
void stuck_tick(struct sim *sim);
void stuck_new_fd(struct sim *sim, pid_t pid, int fd, uint64_t inode); /* borrowed */
void stuck_closed(struct sim *sim, uint64_t inode); /* somebody closed a copy on purpose: was it one of a live process? */

/* ---- fault.c ---- */
/* Before a call is executed: 0 to go on, a negative errno to answer, 1: its caller was killed, there is nobody to answer. */
int fault_before(struct call *k);
void fault_after(struct call *k);
bool fault_any(struct sim *sim);
int fault_add(struct sim *sim, struct json_object *rule, unsigned *ret_id, char *ret_why, size_t size);
struct json_object *fault_list(struct sim *sim);
/* Removes a rule (0: all) or only lets its sleepers go. -ENOENT. */
int fault_clear(struct sim *sim, unsigned id);
int fault_release(struct sim *sim, unsigned id);

/* ---- trace.c ---- */
void trace_call(struct call *k, int64_t r);
void trace_release(struct sim_call *c, struct sim_file *f);
const char *trace_comm(struct call *k);
int trace_start(struct sim *sim, const char *path); /* NULL: stops */
int trace_mark(struct sim *sim, const char *text);
struct json_object *trace_ring(struct sim *sim);
bool trace_on(struct sim *sim);

/* ---- look.c ---- */

mode_t node_mode(const struct sim_node *n); /* st_mode */
/* Everything below a folder, and what files say. What is returned is the caller's; look_read() may sleep, as reads do. -E2BIG: too many paths. */
int look_tree(struct sim *sim, const char *path, struct json_object **ret);
int look_read(struct sim_call *c, struct json_object *paths, struct json_object **ret);

/* ---- control.c ---- */
/* Executes a command; the answer as text, the caller's. 0 or a negative errno, with the reason in the answer. */
int control_run(struct call *k, const char *text, size_t size, char **ret_answer, size_t *ret_size);
struct json_object *control_open(struct sim *sim);

/* ---- ask.c ---- */
int control_client(const char *socket_path, const char *command, char **ret_answer);

#endif
