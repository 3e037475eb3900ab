/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Runs a fuzz target over the files it is given, or those in folders: what once was found stays found without libFuzzer too. */
#include <dirent.h>

#include "fuzz.h"

static unsigned count;

static void run(const char *path) {
        static uint8_t buffer[1 << 20];
        FILE *f = fopen(path, "re");
        uint8_t *data;
        size_t size;

        must(f);
        size = fread(buffer, 1, sizeof(buffer), f);
        must(size < sizeof(buffer) && !ferror(f));
        (void) fclose(f);
        /* Of exactly the size, so that sanitizers see a byte read too many. */
        data = malloc(size + !size);
        must(data);
        memcpy(data, buffer, size);
        (void) LLVMFuzzerTestOneInput(data, size);
        free(data);
        count++;
}

static void run_folder(const char *path, DIR *d) {
        const struct dirent *e;

        while ((e = readdir(d))) {
                char file[4096];

                if (e->d_name[0] == '.')
                        continue;
                must(snprintf(file, sizeof(file), "%s/%s", path, e->d_name) < (int) sizeof(file));
                run(file);
        }
}

int main(int argc, char *argv[]) {
        for (int i = 1; i < argc; i++) {
                DIR *d = opendir(argv[i]);

                if (d) {
                        run_folder(argv[i], d);
                        closedir(d);
                } else
                        run(argv[i]);
        }
        printf("%u inputs\n", count);
        return count == 0;
}
