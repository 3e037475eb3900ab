/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * tdid-hook: libvirt's hook for domains whose functions tdid has. libvirt calls it as /etc/libvirt/hooks/qemu.d/NAME with the words
 * DOMAIN OPERATION SUB-OPERATION EXTRA and the domain's XML on standard input. Nothing is ever written to standard output: for some
 * operations libvirt would take it for another XML.
 */
#include <getopt.h>
#include <stdio.h>

#include "hook.h"
#include "util/util.h"

#define STATE "/run/tdid-hook"
#define XML_MAX (16U << 20)

static int usage(void) {
        fputs("tdid-hook: libvirt calls this program, with DOMAIN OPERATION SUB-OPERATION EXTRA and the domain's XML on standard input; see tdid-hook(8)\n", stderr);
        return 2;
}

/* All of standard input, which libvirt writes before it waits for us. */
static int read_all(char **ret, size_t *ret_size) {
        _cleanup_free_ char *text = NULL;
        size_t size = 0, room = 0;
        ssize_t n;

        do {
                if (size == room) {
                        char *more;

                        room = room ? 2 * room : 65536;
                        if (room > XML_MAX)
                                return -EFBIG;
                        more = realloc(text, room);
                        if (!more)
                                return -ENOMEM;
                        (void) TAKE_PTR(text);
                        text = more;
                }
                n = read(STDIN_FILENO, text + size, room - size);
                if (n < 0 && errno != EINTR)
                        return -errno;
                size += n > 0 ? (size_t) n : 0;
        } while (n != 0);
        *ret = TAKE_PTR(text);
        *ret_size = size;
        return 0;
}

int main(int argc, char *argv[]) {
        static const struct option options[] = {
                { "bus", required_argument, NULL, 'b' },
                { "state", required_argument, NULL, 's' },
                { "version", no_argument, NULL, 'v' },
                { "help", no_argument, NULL, 'h' },
                {},
        };
        struct hook hook = { .state = STATE };
        _cleanup_free_ char *xml = NULL;
        size_t size = 0;
        int c, r;

        while ((c = getopt_long(argc, argv, "+", options, NULL)) >= 0)
                switch (c) {
                case 'b':
                        hook.bus = optarg;
                        break;
                case 's':
                        hook.state = optarg;
                        break;
                case 'v':
                        puts("tdid-hook " TDID_VERSION);
                        return 0;
                case 'h':
                        puts("tdid-hook [--bus=BUS] [--state=DIR] DOMAIN OPERATION SUB-OPERATION EXTRA <DOMAIN.xml\n\n"
                             "Called by libvirt, when it is linked to from /etc/libvirt/hooks/qemu.d/. See tdid-hook(8).");
                        return 0;
                default:
                        return usage();
                }
        if (argc - optind < 3)
                return usage();
        hook.domain = argv[optind];
        hook.operation = argv[optind + 1];
        hook.suboperation = argv[optind + 2];
        r = read_all(&xml, &size);
        if (r < 0) {
                fprintf(stderr, "tdid-hook: domain %s: its XML could not be read from standard input: %s\n", hook.domain, strerror(-r));
                return 1;
        }
        return hook_run(&hook, xml, size) < 0 ? 1 : 0;
}
