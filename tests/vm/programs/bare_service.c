/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * The smallest service that sd-bus can make: one object with one string property, and nothing behind it. The D-Bus bench
 * compares tdid's answers with this one's over the same bus, and calls both with the same client, which is here too.
 *
 *      bare_service serve ADDRESS
 *      bare_service call ADDRESS NAME PATH INTERFACE PROPERTY COUNT
 *
 * "call" prints one line of JSON: the number of calls, their median, 99th percentile and maximum in microseconds.
 */
#include <err.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <systemd/sd-bus.h>

#define NAME "org.tdid1.Bench"
#define PATH "/org/tdid1/bench"

static const char *version = "0.1.0";

static const sd_bus_vtable vtable[] = {
        SD_BUS_VTABLE_START(0),
        SD_BUS_PROPERTY("Version", "s", NULL, 0, SD_BUS_VTABLE_PROPERTY_CONST),
        SD_BUS_VTABLE_END,
};

static sd_bus *connect_to(const char *address) {
        sd_bus *bus = NULL;
        int r;

        r = sd_bus_new(&bus);
        if (r >= 0)
                r = sd_bus_set_address(bus, address);
        if (r >= 0)
                r = sd_bus_set_bus_client(bus, 1);
        if (r >= 0)
                r = sd_bus_start(bus);
        if (r < 0)
                errx(1, "%s: %s", address, strerror(-r));
        return bus;
}

static int serve(const char *address) {
        sd_bus *bus = connect_to(address);
        int r;

        r = sd_bus_add_object_vtable(bus, NULL, PATH, NAME, vtable, &version);
        if (r >= 0)
                r = sd_bus_request_name(bus, NAME, 0);
        while (r >= 0) {
                r = sd_bus_process(bus, NULL);
                if (r == 0)
                        r = sd_bus_wait(bus, UINT64_MAX);
        }
        sd_bus_unref(bus);
        return r == -ENOTCONN || r == -ECONNRESET ? 0 : 1;
}

static uint64_t now_nsec(void) {
        struct timespec ts;

        clock_gettime(CLOCK_MONOTONIC, &ts);
        return (uint64_t) ts.tv_sec * 1000000000u + (uint64_t) ts.tv_nsec;
}

static int ascending(const void *a, const void *b) {
        uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

        return (x > y) - (x < y);
}

static int call(char **argv) {
        sd_bus *bus = connect_to(argv[2]);
        size_t count = strtoul(argv[7], NULL, 10);
        uint64_t *took = calloc(count + 1, sizeof(*took)), median, p99;

        if (!took || count == 0)
                errx(2, "COUNT is a positive number");
        for (size_t i = 0; i < count; i++) {
                sd_bus_error error = SD_BUS_ERROR_NULL;
                uint64_t begin = now_nsec();
                char *value = NULL;
                int r;

                r = sd_bus_get_property_string(bus, argv[3], argv[4], argv[5], argv[6], &error, &value);
                took[i] = now_nsec() - begin;
                if (r < 0)
                        errx(1, "%s.%s: %s", argv[5], argv[6], error.message ? error.message : strerror(-r));
                free(value);
        }
        qsort(took, count, sizeof(*took), ascending);
        median = took[count / 2];
        p99 = took[count * 99 / 100];
        printf("{\"count\": %zu, \"median\": %.3f, \"p99\": %.3f, \"max\": %.3f}\n", count, (double) median / 1e3,
               (double) p99 / 1e3, (double) took[count - 1] / 1e3);
        free(took);
        sd_bus_unref(bus);
        return 0;
}

int main(int argc, char **argv) {
        if (argc == 3 && strcmp(argv[1], "serve") == 0)
                return serve(argv[2]);
        if (argc == 8 && strcmp(argv[1], "call") == 0)
                return call(argv);
        fprintf(stderr, "usage: bare_service serve ADDRESS | call ADDRESS NAME PATH INTERFACE PROPERTY COUNT\n");
        return 2;
}
