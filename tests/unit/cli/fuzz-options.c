/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Fuzz target of tdictl's command-line parser: the input is the arguments, each ended by a NUL. Built with -fsanitize=fuzzer
 * and -DFUZZER it is libFuzzer's; else it runs words of the grammar in random order, or the files it is given.
 */
#include <stddef.h>
#include <stdio.h>

#include "options.h"
#include "tdictl.h"
#include "util/util.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
        char name[] = "tdictl", *argv[66] = { name };
        _cleanup_free_ char *text = malloc(size + 1), *error = NULL;
        _cleanup_(arguments_done) struct arguments a = {};
        int argc = 1, r;

        if (!text)
                return 0;
        memcpy(text, data, size);
        text[size] = 0;
        for (size_t at = 0; at < size && argc < 65; at += strlen(text + at) + 1)
                argv[argc++] = text + at;
        r = arguments_parse(verbs, argc, argv, &a, &error);
        /* A success names a verb, a group or a global wish; an error says something. */
        if (r == 0 ? !a.verb && !arguments_has(&a, "help") && !arguments_has(&a, "version") : r == -EINVAL && isempty(error))
                abort();
        return 0;
}

#ifndef FUZZER
static unsigned next(uint32_t *state) {
        *state = *state * 1664525U + 1013904223U;
        return *state >> 16;
}

static size_t make_input(uint32_t *state, uint8_t *to, size_t n) {
        size_t used = 0, words = next(state) % 10;

        for (size_t i = 0; i < words; i++) {
                const struct verb *v = verbs;
                const struct option_spec *o;
                char word[128];

                for (unsigned skip = next(state) % 20; skip > 0 && v[1].name; skip--)
                        v++;
                o = v->options && next(state) % 2 ? v->options : global_options;
                for (unsigned skip = next(state) % 10; skip > 0 && o[1].name; skip--)
                        o++;
                switch (next(state) % 6) {
                case 0:
                        snprintf(word, sizeof(word), "%s", v->name);
                        break;
                case 1:
                        snprintf(word, sizeof(word), "--%s", o->name);
                        break;
                case 2:
                        snprintf(word, sizeof(word), "--%s=%u", o->name, next(state));
                        break;
                case 3:
                        snprintf(word, sizeof(word), "%s", o->value ? o->value : "--");
                        break;
                case 4:
                        snprintf(word, sizeof(word), "%s", "6ba7b810-9dad-11d1-80b4-00c04fd430c8");
                        break;
                default:
                        for (size_t j = 0; j < 8; j++)
                                word[j] = (char) next(state);
                        word[8] = 0;
                }
                /* Half of the verbs come in their two words. */
                if (next(state) % 2 && strchr(word, ' '))
                        *strchr(word, ' ') = 0;
                if (next(state) % 8 == 0)
                        word[next(state) % (strlen(word) + 1)] = (char) next(state);
                if (used + strlen(word) + 1 > n)
                        break;
                memcpy(to + used, word, strlen(word) + 1);
                used += strlen(word) + 1;
        }
        return used;
}

int main(int argc, char *argv[]) {
        static uint8_t input[65536];
        uint32_t state = 1;

        for (int i = 1; i < argc; i++) {
                FILE *f = fopen(argv[i], "re");

                if (!f)
                        return 1;
                (void) LLVMFuzzerTestOneInput(input, fread(input, 1, sizeof(input), f));
                (void) fclose(f);
        }
        for (int i = 0; argc == 1 && i < 50000; i++)
                (void) LLVMFuzzerTestOneInput(input, make_input(&state, input, 1024));
        return 0;
}
#endif
