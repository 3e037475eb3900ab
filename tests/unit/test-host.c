/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The seam on this kernel: text files and their limits, listings, links, and kernel events. */
#include <limits.h>
#include <linux/netlink.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "host/host.h"
#include "test.h"

static TdiHost *host;
static char dir[64];

static const char *at(const char *name) {
        static char paths[4][160];
        static unsigned next;
        char *p = paths[next++ % 4];

        snprintf(p, sizeof(paths[0]), "%s/%s", dir, name);
        return p;
}

static void test_new(void) {
        static const char *const wrong[] = { "", "Linux", "linux ", "sim", "sim:", "linux:" };
        TdiHost *h = NULL;

        for (size_t i = 0; i < ARRAY_SIZE(wrong); i++) {
                test_about("--host=%s", wrong[i]);
                check_int(tdi_host_new(wrong[i], &h), -EINVAL);
                check(!h);
        }
        check(!tdi_host_free(NULL));
        check(!host_names_free(NULL));
        check_str(host->ops->name, "linux");
}

static void test_read_text(void) {
        static const struct {
                const char *content, *expected;
        } cases[] = {
                { "vfio-pci\n", "vfio-pci" }, { "0x8086", "0x8086" }, { "", "" }, { "\n", "" }, { "a\nb\n", "a\nb" }, { " a ", " a " },
        };
        char buf[16];

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                test_about("\"%s\"", cases[i].content);
                test_write_file(at("f"), cases[i].content, strlen(cases[i].content));
                check_int(host_read_text(host, at("f"), buf, sizeof(buf)), strlen(cases[i].expected));
                check_str(buf, cases[i].expected);
        }
        for (size_t n = sizeof(buf) - 2; n <= sizeof(buf) + 1; n++) {
                test_about("%zu bytes into %zu", n, sizeof(buf));
                test_write_file(at("f"), "0123456789abcdefghij", n);
                check_int(host_read_text(host, at("f"), buf, sizeof(buf)), n < sizeof(buf) ? (ssize_t) n : -E2BIG);
        }
        test_about("%s", "no file");
        check_int(host_read_text(host, at("absent"), buf, sizeof(buf)), -ENOENT);
        check_int(host_read_text(host, dir, buf, sizeof(buf)), -EISDIR);
        check_int(host_read_text(host, at("f/x"), buf, sizeof(buf)), -ENOTDIR);
}

static void test_read_file(void) {
        _cleanup_free_ char *content = malloc(100001);

        require(content);
        for (size_t i = 0; i <= 100000; i++)
                content[i] = (char) ('a' + i % 26);
        for (size_t n = 0; n <= 100000; n = n * 2 + 1) {
                char *got = NULL;
                size_t size = 0;

                test_about("%zu bytes", n);
                test_write_file(at("f"), content, n);
                if (check_int(host_read_file(host, at("f"), n, &got, &size), 0)) {
                        check_int(size, n);
                        check(memcmp(got, content, n) == 0 && got[n] == '\0');
                }
                free(TAKE_PTR(got));
                check_int(host_read_file(host, at("f"), n + 1, &got, NULL), 0);
                free(TAKE_PTR(got));
                if (n > 0) {
                        check_int(host_read_file(host, at("f"), n - 1, &got, &size), -E2BIG);
                        check(!got);
                }
        }
        test_about("%s", "a file without a size, and none");
        {
                char *got = NULL;

                check_int(host_read_file(host, "/proc/self/mountinfo", 16 << 20, &got, NULL), 0);
                check(got && strlen(got) > 0);
                free(TAKE_PTR(got));
                check_int(host_read_file(host, at("absent"), 10, &got, NULL), -ENOENT);
                check_int(host_read_file(host, dir, 10, &got, NULL), -EISDIR);
        }
}

static void test_read_u64(void) {
        static const struct {
                const char *content;
                bool right;
                uint64_t expected;
        } cases[] = {
                { "0\n", true, 0 }, { "12", true, 12 }, { "0x1A\n", true, 0x1a }, { "0x0", true, 0 }, { "010", true, 8 },
                { "18446744073709551615\n", true, UINT64_MAX }, { "0xffffffffffffffff", true, UINT64_MAX },
                { "18446744073709551616", false, 0 }, { "", false, 0 }, { "\n", false, 0 }, { "x", false, 0 }, { "1x", false, 0 }, { "1 2", false, 0 },
                { "0x", false, 0 }, { "1.5", false, 0 }, { "09", false, 0 },
                /* -1 is what sysfs shows for "none", and no unsigned number. */
                { "-1\n", false, 0 }, { "-0x1", false, 0 },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                uint64_t v = 42;

                test_about("\"%s\"", cases[i].content);
                test_write_file(at("f"), cases[i].content, strlen(cases[i].content));
                check_int(host_read_u64(host, at("f"), &v), cases[i].right ? 0 : -EBADMSG);
                check(v == (cases[i].right ? cases[i].expected : 42));
        }
}

static void test_write_text(void) {
        char buf[32];

        test_about("%s", "write");
        test_write_file(at("f"), "0123456789", 10);
        check_int(host_write_text(host, at("f"), "abc"), 0);
        check_int(host_read_text(host, at("f"), buf, sizeof(buf)), 10);
        check_str(buf, "abc3456789");
        check_int(host_write_text(host, at("absent"), "abc"), -ENOENT);
        check(access(at("absent"), F_OK) < 0);
        check_int(host_write_text(host, dir, "abc"), -EISDIR);
}

static void test_list(void) {
        static const char *const names[] = { "zz", "a", "B", "a.b", "10", "9", ".hidden", "-" };
        static const char *const sorted[] = { "-", ".hidden", "10", "9", "B", "a", "a.b", "zz" };
        char **got = NULL;
        size_t n = 0;

        test_about("%s", "list");
        require(mkdir(at("list"), 0700) == 0);
        check_int(host_list(host, at("list"), &got), 0);
        check(got && !got[0]);
        got = host_names_free(got);
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                char name[32];

                snprintf(name, sizeof(name), "list/%s", names[i]);
                test_write_file(at(name), "", 0);
        }
        check_int(host_list(host, at("list"), &got), 0);
        for (; got && got[n]; n++)
                if (n < ARRAY_SIZE(sorted))
                        check_str(got[n], sorted[n]);
        check_int(n, ARRAY_SIZE(sorted));
        got = host_names_free(got);

        /* more than one allocation's worth */
        for (unsigned i = 0; i < 100; i++) {
                char name[32];

                snprintf(name, sizeof(name), "list/n%02u", i);
                test_write_file(at(name), "", 0);
        }
        check_int(host_list(host, at("list"), &got), 0);
        for (n = 0; got && got[n]; n++)
                check(n == 0 || strcmp(got[n - 1], got[n]) < 0);
        check_int(n, ARRAY_SIZE(sorted) + 100);
        host_names_free(TAKE_PTR(got));
        check_int(host_list(host, at("absent"), &got), -ENOENT);
        check_int(host_list(host, at("f"), &got), -ENOTDIR);
        check(!got);
}

static void test_links(void) {
        char buf[16], small[10];

        test_about("%s", "links");
        require(symlink("../../drivers/vfio-pci", at("driver")) == 0 && symlink("flat", at("flat")) == 0 && symlink("a/", at("slash")) == 0);
        check_int(host_readlink(host, at("flat"), buf, sizeof(buf)), 4);
        check_str(buf, "flat");
        check_int(host_readlink(host, at("flat"), buf, 5), 4);
        check_int(host_readlink(host, at("flat"), buf, 4), -ENAMETOOLONG);
        check_int(host_readlink(host, at("driver"), buf, sizeof(buf)), -ENAMETOOLONG);
        check_int(host_readlink(host, at("absent"), buf, sizeof(buf)), -ENOENT);
        check_int(host_readlink(host, at("f"), buf, sizeof(buf)), -EINVAL);

        check_int(host_read_link_name(host, at("driver"), buf, sizeof(buf)), 0);
        check_str(buf, "vfio-pci");
        check_int(host_read_link_name(host, at("flat"), buf, sizeof(buf)), 0);
        check_str(buf, "flat");
        check_int(host_read_link_name(host, at("slash"), buf, sizeof(buf)), 0);
        check_str(buf, "");
        check_int(host_read_link_name(host, at("driver"), small, 9), 0);
        check_int(host_read_link_name(host, at("driver"), small, 8), -ENAMETOOLONG);
        check_int(host_read_link_name(host, at("absent"), buf, sizeof(buf)), -ENOENT);
}

static void test_open(void) {
        int fd, left = 0;

        test_about("%s", "open");
        test_write_file(at("f"), "", 0);
        fd = host_open(host, at("f"), O_RDWR);
        check(fd >= 0 && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
        check_int(host_pwrite(host, fd, "hello", 5, 3), 5);
        check_int(host_pread(host, fd, (char[8]){}, 8, 6), 2);
        check_int(host_ioctl(host, fd, FIONREAD, &left), 0);
        check_int(left, 8);
        check_int(host_close(host, fd), 0);
        check_int(host_close(host, fd), -EBADF);
        check_int(host_pread(host, fd, (char[8]){}, 8, 0), -EBADF);
        check_int(host_pwrite(host, fd, "x", 1, 0), -EBADF);
        check_int(host_ioctl(host, fd, FIONREAD, &left), -EBADF);
        check_int(host_open(host, at("absent"), O_RDONLY), -ENOENT);
}

static void test_network(void) {
        test_about("%s", "network");
        check_int(host_address_present(host, "no-such-name"), 0);
        check_int(host_address_present(host, ""), 0);
        check(host_address_present(host, "lo") >= 0);
}

static void test_uevents(void) {
        static const char forged[] = "add@/devices/x\0ACTION=add\0DEVPATH=/devices/x\0SUBSYSTEM=pci\0SEQNUM=1";
        struct sockaddr_nl to = { .nl_family = AF_NETLINK };
        struct tdi_uevent ev = { .action = "kept" };
        socklen_t len = sizeof(to);
        int fd, forger, r;

        test_about("%s", "uevents");
        fd = host_uevent_open(host);
        if (fd < 0) {
                fprintf(stderr, "no uevents here: %s\n", strerror(-fd));
                return;
        }
        check((fcntl(fd, F_GETFD) & FD_CLOEXEC) && (fcntl(fd, F_GETFL) & O_NONBLOCK));
        while ((r = host_uevent_read(host, fd, &ev)) >= 0)
                ;
        check_int(r, -EAGAIN);
        /* Only the kernel is believed: what a process sends is not even seen. */
        snprintf(ev.action, sizeof(ev.action), "kept");
        forger = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT);
        if (forger >= 0 && getsockname(fd, (struct sockaddr *) &to, &len) == 0 &&
            sendto(forger, forged, sizeof(forged), 0, (struct sockaddr *) &to, sizeof(to)) > 0) {
                do
                        r = host_uevent_read(host, fd, &ev);
                while (r >= 0 && !streq(ev.devpath, "/devices/x"));
                check_int(r, -EAGAIN);
        }
        close_fd(forger);
        close_fd(fd);
}

int main(void) {
        unsigned before;

        require(tdi_host_new("linux", &host) == 0);
        test_make_dir(dir);
        before = test_count_fds();
        test_new();
        test_read_text();
        test_read_file();
        test_read_u64();
        test_write_text();
        test_list();
        test_links();
        test_open();
        test_network();
        test_uevents();
        test_about("%s", "");
        check_int(test_count_fds(), before);
        test_remove_dir(dir);
        tdi_host_free(host);
        return test_end();
}
