/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Memory cgroups, by /proc. */
#include "worker/cgroup.h"

#include <limits.h>
#include <stdio.h>

#define PROC_FILE_MAX (1024UL * 1024)

/* Two text fields at most are asked for: cuts the n-th word out of a line. */
static bool word(const char *line, unsigned n, char *buf, size_t size) {
        size_t length;

        for (; n > 0; n--) {
                line += strcspn(line, " \n");
                line += strspn(line, " ");
        }
        length = strcspn(line, " \n");
        if (length == 0 || length >= size)
                return false;
        memcpy(buf, line, length);
        buf[length] = '\0';
        return true;
}

static bool has_item(const char *list, const char *item) {
        size_t n = strlen(item);

        for (const char *s = list; *s; s += strcspn(s, ",") + (s[strcspn(s, ",")] == ','))
                if (strcspn(s, ",") == n && strncmp(s, item, n) == 0)
                        return true;
        return false;
}

unsigned cgroup_find_path(const char *text, char *path, size_t size) {
        const char *v2 = NULL;

        for (const char *line = text; *line; line += strcspn(line, "\n") + (line[strcspn(line, "\n")] == '\n')) {
                const char *list = strchr(line, ':'), *end = list ? strchr(list + 1, ':') : NULL;
                char controllers[256];
                size_t n;

                if (!end || end > line + strcspn(line, "\n"))
                        continue;
                n = (size_t) (end - list - 1);
                if (n == 0 && startswith(line, "0:"))
                        v2 = end + 1;
                if (n == 0 || n >= sizeof(controllers))
                        continue;
                memcpy(controllers, list + 1, n);
                controllers[n] = '\0';
                if (has_item(controllers, "memory"))
                        return snprintf(path, size, "%.*s", (int) strcspn(end + 1, "\n"), end + 1) < (int) size ? 1 : 0;
        }
        return v2 && snprintf(path, size, "%.*s", (int) strcspn(v2, "\n"), v2) < (int) size ? 2 : 0;
}

bool cgroup_find_mount(const char *text, unsigned version, char *root, char *point, size_t size) {
        for (const char *line = text; *line; line += strcspn(line, "\n") + (line[strcspn(line, "\n")] == '\n')) {
                const char *dash = strstr(line, " - ");
                char type[32], options[1024];

                if (!dash || dash > line + strcspn(line, "\n") || !word(dash + 3, 0, type, sizeof(type)))
                        continue;
                if (version == 2 ? !streq(type, "cgroup2") : !streq(type, "cgroup") || !word(dash + 3, 2, options, sizeof(options)) ||
                    !has_item(options, "memory"))
                        continue;
                /* A space in it is written \040: nobody mounts cgroups there. */
                if (word(line, 3, root, size) && word(line, 4, point, size) && *root == '/' && *point == '/' && !strchr(point, '\\'))
                        return true;
        }
        return false;
}

/* A threaded cgroup takes threads, and its memory is its domain's (cgroup-v2, "Threads"): the next one above that is a domain. */
static void leave_threaded(TdiHost *machine, char *folder, size_t top) {
        for (;;) {
                char path[PATH_MAX + 64], type[64], *slash = strrchr(folder + top, '/');

                snprintf(path, sizeof(path), "%s/cgroup.type", folder);
                if (!slash || host_read_text(machine, path, type, sizeof(type)) < 0 || !streq(type, "threaded"))
                        return;
                *slash = '\0';
        }
}

const char *cgroup_procs_of(TdiHost *machine, pid_t pid, char *file, size_t size) {
        _cleanup_free_ char *mine = NULL, *mounts = NULL;
        char name[64], path[PATH_MAX], root[PATH_MAX], point[PATH_MAX], controllers[PATH_MAX + 64], text[512];
        unsigned version;
        size_t skip;

        snprintf(name, sizeof(name), "/proc/%d/cgroup", (int) pid);
        if (host_read_file(machine, name, PROC_FILE_MAX, &mine, NULL) < 0 ||
            host_read_file(machine, "/proc/self/mountinfo", PROC_FILE_MAX, &mounts, NULL) < 0)
                return "its cgroup cannot be read";
        version = cgroup_find_path(mine, path, sizeof(path));
        if (version == 0)
                return "it is in no cgroup";
        /* Outside of our cgroup namespace, or removed. */
        if (startswith(path, "/..") || strstr(path, " (deleted)"))
                return "its cgroup cannot be reached";
        if (!cgroup_find_mount(mounts, version, root, point, sizeof(point)))
                return "cgroups are not mounted";
        if (version == 2) {
                snprintf(controllers, sizeof(controllers), "%s/cgroup.controllers", point);
                if (host_read_text(machine, controllers, text, sizeof(text)) < 0 || !strstr(text, "memory"))
                        return "this kernel's cgroups account for no memory";
        }
        /* Of a mount that shows only a part. */
        skip = streq(root, "/") ? 0 : strlen(root);
        if (skip > 0 && (!startswith(path, root) || (path[skip] && path[skip] != '/')))
                return "its cgroup is not mounted";
        if (snprintf(file, size, "%s%s", point, path + skip) >= (int) size - (int) sizeof("/cgroup.procs"))
                return "the path of its cgroup is too long";
        if (version == 2)
                leave_threaded(machine, file, strlen(point));
        strcat(file, "/cgroup.procs"); /* NOLINT(clang-analyzer-security.insecureAPI.strcpy): there is room */
        return NULL;
}
