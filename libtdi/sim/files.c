/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Files that a topology adds, or says the text of: what no model here has an opinion about, as the kernel's configuration, or /proc of a process. */
#include "sim/files.h"

#include <json-c/json.h>

/* The folder that a path is in, made as far as it is not there. NULL: something on the way is no folder. */
static struct sim_node *folder_of(struct sim_machine *m, const char *path, char *name, size_t size) {
        struct sim_node *n = sim_dirs(m->sim, "/");

        for (path++;;) {
                size_t len = strcspn(path, "/");
                struct sim_node *next;

                if (len >= size)
                        return NULL;
                memcpy(name, path, len);
                name[len] = '\0';
                path += len;
                if (!*path)
                        return n;
                path++;
                next = sim_child(n, name);
                if (next && next->type != SIM_DIR)
                        return NULL;
                n = next ? next : sim_dir(n, name);
        }
}

int sim_files_init(struct sim_machine *m, struct topology_why *why) {
        struct topology_at top = { NULL, "files", 0 };

        if (!m->plan->files)
                return 0;
        json_object_object_foreach(m->plan->files, path, o) {
                bool link = json_object_is_type(o, json_type_object);
                struct topology_at at = { &top, path, 0 };
                struct json_object *target = NULL;
                struct sim_node *dir, *there;
                char name[256];

                if (streq(path, "about"))
                        continue;
                dir = folder_of(m, path, name, sizeof(name));
                if (!dir)
                        return topology_bad(why, &at, "something on the way to it is no folder");
                there = sim_child(dir, name);
                if (there && (there->type == SIM_DIR || there->type == SIM_DEVICE_NODE || (there->type == SIM_LINK) != link))
                        return topology_bad(why, &at, "is there, and nothing that could be replaced by this");
                if (link && json_object_object_get_ex(o, "link", &target))
                        (void) sim_link_text(dir, name, json_object_get_string(target));
                else
                        (void) sim_text(dir, name, "%s", json_object_get_string(o));
        }
        return 0;
}
