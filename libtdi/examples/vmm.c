/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * A VMM up to the point where it has its devices: usage: vmm BUS VM BDF…
 *
 * It joins the VM if somebody (a hook of libvirt) has prepared one of that name, and prepares it else; keeps it alive by a lease;
 * connects to the vPCI socket of each function; and reads its vendor and device number. It ends with its input, or with the VM.
 *
 *     cc vmm.c $(pkg-config --cflags --libs libtdi)
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <tdi/client.h>

/* vfio-user, as docs/interop/vfio-user.rst of QEMU has it: a header, and behind it what the command is about. */
struct header { uint16_t id, command; uint32_t size, flags, error; };
struct version { struct header header; uint16_t major, minor; char capabilities[4]; };
struct region { uint64_t offset; uint32_t index, count; };
struct read { struct header header; struct region region; };
struct answer {
        struct header header;
        union {
                struct { uint16_t major, minor; } version;
                struct { struct region region; uint16_t ids[2]; } read;
        } body;
};
enum { VERSION = 1, REGION_READ = 9, REPLY = 1, ERROR = 1 << 5, CONFIG_REGION = 7 };

/* Sends a message and waits for its answer, whose first bytes are kept. A VMM has its own way to do that. */
static int ask(int fd, const struct header *message, struct answer *answer) {
        char rest[4096];
        size_t size;

        if (send(fd, message, message->size, MSG_NOSIGNAL) != (ssize_t) message->size ||
            recv(fd, &answer->header, sizeof(answer->header), MSG_WAITALL) != sizeof(answer->header) ||
            answer->header.size < sizeof(answer->header) || answer->header.size - sizeof(answer->header) > sizeof(rest))
                return -1;
        size = answer->header.size - sizeof(answer->header);
        if (size > 0 && recv(fd, rest, size, MSG_WAITALL) != (ssize_t) size)
                return -1;
        memcpy(&answer->body, rest, size < sizeof(answer->body) ? size : sizeof(answer->body));
        return answer->header.id == message->id && answer->header.flags == REPLY ? 0 : -1;
}

/* Connects to a function and asks it what it is. Returns the connection, which keeps the VM alive as well, or -1. */
static int open_function(const char *path) {
        const struct version version = { { 1, VERSION, sizeof(version), 0, 0 }, 0, 0, "{}" };
        const struct read read = { { 2, REGION_READ, sizeof(read), 0, 0 }, { 0, CONFIG_REGION, 4 } };
        struct sockaddr_un address = { .sun_family = AF_UNIX };
        struct answer answer;
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        strncpy(address.sun_path, path, sizeof(address.sun_path) - 1);
        if (fd < 0 || connect(fd, (const struct sockaddr *) &address, sizeof(address)) < 0) {
                perror(path);
                return -1;
        }
        if (ask(fd, &version.header, &answer) < 0) {
                fprintf(stderr, "%s: no agreement on a version\n", path);
                return -1;
        }
        printf("%s: vfio-user %u.%u", strrchr(path, '/') + 1, answer.body.version.major, answer.body.version.minor);
        if (ask(fd, &read.header, &answer) < 0) {
                fprintf(stderr, "%s: config space cannot be read\n", path);
                return -1;
        }
        printf(", vendor %04x, device %04x\n", answer.body.read.ids[0], answer.body.read.ids[1]);
        return fd;
}

static int fail(struct tdi_client *client, const char *what) {
        fprintf(stderr, "%s: %s\n", what, tdi_client_error(client, NULL));
        tdi_client_free(client);
        return 1;
}

int main(int argc, char *argv[]) {
        struct tdi_function functions[16];
        size_t n = argc > 3 ? (size_t) argc - 3 : 0;
        struct tdi_client *client;
        char *id, *path;
        int lease;

        if (n < 1 || n > 16) {
                fprintf(stderr, "usage: %s BUS VM BDF…\n", argv[0]);
                return 2;
        }
        memset(functions, 0, sizeof(functions));
        for (size_t i = 0; i < n; i++) {
                functions[i].size = sizeof(functions[i]);
                if (tdi_bdf_parse(argv[3 + i], &functions[i].bdf) < 0) {
                        fprintf(stderr, "%s is no PCI function\n", argv[3 + i]);
                        return 2;
                }
        }

        if (tdi_client_new(&client) < 0)
                return 1;
        if (tdi_client_connect(client, argv[1]) < 0)
                return fail(client, "connect");
        /* All of it or nothing: when one function cannot be had, the others have their drivers back. */
        if (tdi_client_find_vm(client, argv[2], &id) == 0) {
                if (tdi_client_hold(client, id, "vmm", &lease) < 0)
                        return fail(client, "hold");
                printf("joined VM %s\n", argv[2]);
        } else if (tdi_client_prepare_vm(client, argv[2], NULL, functions, n, &id, &lease) < 0)
                return fail(client, "prepare");
        else
                printf("prepared VM %s\n", argv[2]);

        /* tdid finds the KVM VM among this process's descriptors when it connects. Who has several calls tdi_client_set_kvm() before. */
        for (size_t i = 0; i < n; i++) {
                if (tdi_client_vpci_socket(client, id, functions[i].bdf, &path) < 0)
                        return fail(client, argv[3 + i]);
                if (open_function(path) < 0)
                        return fail(client, path);
                free(path);
        }
        /* From here on the lease and the connections are all that is needed; here a guest would run. */
        free(id);
        tdi_client_free(client);
        fflush(stdout);
        for (;;) {
                struct pollfd fds[] = { { .fd = STDIN_FILENO, .events = POLLIN }, { .fd = lease } };
                char text[64];

                if (poll(fds, 2, -1) < 0)
                        return 1;
                if (fds[1].revents) {
                        printf("the VM was closed\n");
                        return 0;
                }
                if (fds[0].revents && read(STDIN_FILENO, text, sizeof(text)) <= 0)
                        break;
        }
        /* With this process go its lease and its connections, the VM's last keepers: tdid closes it and gives the functions back. */
        printf("the end\n");
        return 0;
}
