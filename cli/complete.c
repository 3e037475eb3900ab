/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * `tdictl completion`: scripts for shells, which ask tdictl itself for words, so that they know each verb and option that it has; and the words.
 * Names are of the tdid that runs. None is started for that, nothing is said, and nobody waits for longer than a second.
 */
#include "complete.h"

#include <signal.h>
#include <stdio.h>
#include <sys/time.h>

#include "model.h"
#include "print.h"
#include "select.h"

static const char *const kinds[COMPLETES_MAX] = {
        [COMPLETES_NOTHING] = "nothing", [COMPLETES_CHOICE] = "choice", [COMPLETES_DEVICE] = "device",
        [COMPLETES_VM] = "vm", [COMPLETES_TSM] = "tsm", [COMPLETES_FILE] = "file",
};

static const struct {
        const char *word;
        enum completes kind;
} tokens[] = {
        { "BDF", COMPLETES_DEVICE }, { "VM", COMPLETES_VM }, { "TSM", COMPLETES_TSM }, { "PATH", COMPLETES_FILE }, { "DIR", COMPLETES_FILE },
        { "FILE", COMPLETES_FILE }, { "ANCHOR[,REFERENCES]", COMPLETES_FILE }, { "SHELL", COMPLETES_CHOICE },
        { "NAME", COMPLETES_NOTHING }, { "BAR", COMPLETES_NOTHING }, { "OFFSET", COMPLETES_NOTHING }, { "SIZE", COMPLETES_NOTHING },
        { "BUS", COMPLETES_NOTHING }, { "UUID", COMPLETES_NOTHING }, { "UID", COMPLETES_NOTHING }, { "GID", COMPLETES_NOTHING },
        { "LABEL", COMPLETES_NOTHING }, { "SECONDS", COMPLETES_NOTHING }, { "N", COMPLETES_NOTHING }, { "CLASSES", COMPLETES_NOTHING },
        { "HEX", COMPLETES_NOTHING }, { "VENDOR:DEVICE", COMPLETES_NOTHING }, { "CLASS", COMPLETES_NOTHING }, { "SERIAL", COMPLETES_NOTHING },
        { "DIGEST", COMPLETES_NOTHING }, { "DRIVER", COMPLETES_NOTHING }, { "HOST", COMPLETES_NOTHING },
};

#define SHELLS "bash|zsh"

const char *completes_to_string(enum completes kind) {
        return kind >= 0 && kind < COMPLETES_MAX ? kinds[kind] : NULL;
}

enum completes completes_token(const char *token, size_t length) {
        for (size_t i = 0; i < ARRAY_SIZE(tokens); i++)
                if (strlen(tokens[i].word) == length && strncmp(tokens[i].word, token, length) == 0)
                        return tokens[i].kind;
        return COMPLETES_UNKNOWN;
}

enum completes completes_option(const struct option_spec *o) {
        return o->type == OPTION_FLAG ? COMPLETES_NOTHING : o->type == OPTION_CHOICE ? COMPLETES_CHOICE : completes_token(o->value, strlen(o->value));
}

/* ---- candidates ---- */

struct completion {
        struct tdictl *t;
        json_object *words;    /* what there is */
        const char *typed;     /* the beginning that all of them have */
        char before[64];       /* put before each: "--vm=" */
        const struct verb *verb;
        const char *group;
        char *const *given;    /* all but the last */
        size_t n_given;
};

static void add(struct completion *c, const char *word, const char *after) {
        _cleanup_free_ char *text = NULL;

        if (!startswith(word, strempty(c->typed)) || asprintf(&text, "%s%s%s", c->before, word, after) < 0)
                return;
        for (size_t i = 0; i < json_object_array_length(c->words); i++)
                if (streq(json_object_get_string(json_object_array_get_idx(c->words, i)), text))
                        return;
        json_object_array_add(c->words, json_object_new_string(text));
}

static void add_choices(struct completion *c, const char *choices) {
        while (!isempty(choices)) {
                size_t n = strcspn(choices, "|");
                _cleanup_free_ char *one = strndup(choices, n);

                if (one)
                        add(c, one, "");
                choices += n + (choices[n] == '|');
        }
}

static bool is_given(const struct completion *c, const char *word) {
        for (size_t i = 0; i < c->n_given; i++)
                if (streq(c->given[i], word))
                        return true;
        return false;
}

/* What of a function makes it one for this verb. */
static bool fits(const struct verb *v, json_object *d) {
        bool attached = json_string(d, "vm_id"), quarantined = json_string(d, "quarantine"), bridge = startswith(strempty(json_string(d, "class")), "0x0604");

        if (streq(v->name, "detach") || streq(v->name, "bind") || streq(v->name, "unbind") || streq(v->name, "dmabuf export"))
                return attached;
        if (streq(v->name, "attach") || streq(v->name, "run"))
                return !attached && !quarantined && !bridge;
        if (streq(v->name, "device restore"))
                return quarantined;
        if (streq(v->name, "device disconnect"))
                return json_string(d, "tsm");
        return true;
}

/* As the user has begun to write it; in full when there is no beginning. */
static void add_device(struct completion *c, const char *bdf) {
        char label[TDI_BDF_MAX], text[TDI_BDF_MAX + 8];
        struct tdi_bdf parsed;

        if (is_given(c, bdf) || (startswith(bdf, "0000:") && is_given(c, bdf + 5)))
                return;
        add(c, bdf, "");
        if (!*c->typed || tdi_bdf_parse(bdf, &parsed) < 0)
                return;
        if (startswith(bdf, "0000:") && !startswith(bdf, c->typed))
                add(c, bdf + 5, "");
        snprintf(text, sizeof(text), "pci_%s", tdi_bdf_to_label(parsed, label));
        add(c, text, "");
}

static void on_alarm(_unused_ int number) {
        _exit(0);
}

/* Not by hanging, nor by an error. */
static json_object *ask_tdid(struct tdictl *t) {
        const struct itimerval second = { .it_value = { .tv_sec = 1 } };
        json_object *snapshot = NULL;

        if (t->selected)
                return t->selected;
        (void) signal(SIGALRM, on_alarm);
        (void) setitimer(ITIMER_REAL, &second, NULL);
        tdi_client_set_autostart(t->client, false);
        tdi_client_set_interactive(t->client, false);
        if (model_snapshot(t, &snapshot) >= 0)
                t->selected = snapshot;
        (void) setitimer(ITIMER_REAL, &(struct itimerval){}, NULL);
        return t->selected;
}

static void add_names(struct completion *c, enum completes kind) {
        json_object *list = json_member(ask_tdid(c->t), kind == COMPLETES_DEVICE ? "devices" : kind == COMPLETES_VM ? "vms" : "tsms");

        for (size_t i = 0; json_object_is_type(list, json_type_array) && i < json_object_array_length(list); i++) {
                json_object *o = json_object_array_get_idx(list, i);
                const char *name = strempty(json_string(o, kind == COMPLETES_DEVICE ? "bdf" : "name"));

                if (kind == COMPLETES_DEVICE && fits(c->verb, o))
                        add_device(c, name);
                else if (kind != COMPLETES_DEVICE && *name)
                        add(c, name, "");
        }
}

/* A line that no word can be: the shell knows better. */
#define FILES ":files"

static void add_kind(struct completion *c, enum completes kind, const char *choices) {
        if (kind == COMPLETES_CHOICE)
                add_choices(c, choices);
        else if (kind == COMPLETES_FILE) {
                c->typed = "";
                c->before[0] = 0;
                add(c, FILES, "");
        } else if (kind == COMPLETES_DEVICE || kind == COMPLETES_VM || kind == COMPLETES_TSM)
                add_names(c, kind);
}

static const struct option_spec *find_option(const struct completion *c, const char *name, size_t n) {
        const struct option_spec *const tables[] = { global_options, c->verb ? c->verb->options : NULL };

        for (size_t i = 0; i < ARRAY_SIZE(tables); i++)
                for (const struct option_spec *o = tables[i]; o && o->name; o++)
                        if (strlen(o->name) == n && strncmp(o->name, name, n) == 0)
                                return o;
        return NULL;
}

static void add_options(struct completion *c, const struct option_spec *table) {
        for (const struct option_spec *o = table; o && o->name; o++) {
                char text[64];

                snprintf(text, sizeof(text), "--%s", o->name);
                if (o->repeat || !is_given(c, text))
                        add(c, text, o->type == OPTION_FLAG ? "" : "=");
        }
}

/* Verbs, or of a group what comes after it. */
static void add_verbs(struct completion *c) {
        for (const struct verb *v = verbs; v->name; v++) {
                const char *name = v->name;
                _cleanup_free_ char *word = NULL;

                if (c->group && !(startswith(name, c->group) && name[strlen(c->group)] == ' '))
                        continue;
                if (c->group)
                        name += strlen(c->group) + 1;
                word = strndup(name, strcspn(name, " "));
                if (word)
                        add(c, word, "");
        }
}

/* A word that stands there already: a part of the verb? */
static bool take_verb_word(struct completion *c, const char *word) {
        size_t n = strlen(word);

        for (const struct verb *v = verbs; !c->verb && v->name; v++) {
                const char *rest = c->group && startswith(v->name, c->group) ? v->name + strlen(c->group) + 1 : c->group ? "" : v->name;

                if (streq(rest, word))
                        c->verb = v;
                else if (!c->group && startswith(v->name, word) && v->name[n] == ' ')
                        c->group = word;
        }
        return c->verb || c->group;
}

static void complete(struct completion *c, const char *last) {
        const struct option_spec *pending = NULL;
        const char *equals = strchr(last, '='), *token;
        size_t words = 0, length;

        for (size_t i = 0; i < c->n_given; i++) {
                const char *word = c->given[i];

                if (pending)
                        pending = NULL;
                else if (streq(word, "--"))
                        return; /* another program's */
                else if (startswith(word, "--")) {
                        pending = strchr(word, '=') ? NULL : find_option(c, word + 2, strlen(word + 2));
                        if (pending && pending->type == OPTION_FLAG)
                                pending = NULL;
                } else if (c->verb)
                        words++;
                else if (!take_verb_word(c, word))
                        return;
        }
        c->typed = last;
        if (!pending && startswith(last, "--") && equals) {
                pending = find_option(c, last + 2, (size_t) (equals - last - 2));
                snprintf(c->before, sizeof(c->before), "%.*s", (int) (equals - last + 1), last);
                c->typed = equals + 1;
                if (!pending)
                        return;
        }
        if (pending) {
                add_kind(c, completes_option(pending), pending->choices);
                return;
        }
        if (startswith(last, "-")) {
                add_options(c, c->verb ? c->verb->options : NULL);
                add_options(c, global_options);
        } else if (!c->verb)
                add_verbs(c);
        else {
                token = usage_token(c->verb, words, &length);
                if (token)
                        add_kind(c, completes_token(token, length), SHELLS);
                else if (c->verb->command)
                        add(c, "--", "");
        }
}

/* ---- scripts ---- */

static const char bash_script[] =
        "# bash completion for tdictl: 'tdictl completion bash' prints this. The words come from tdictl itself.\n"
        "_tdictl() {\n"
        "        local IFS=$' \\t\\n' line=${COMP_LINE:0:COMP_POINT} current='' before word\n"
        "        local -a given\n"
        "\n"
        "        # Not COMP_WORDS: bash breaks words at ':' and '=', of which BDFs and options have some.\n"
        "        read -ra given <<<\"$line\"\n"
        "        [[ $line == *[[:space:]] ]] || { current=${given[-1]}; unset 'given[-1]'; }\n"
        "        before=${current%\"${current##*[:=]}\"}\n"
        "        COMPREPLY=()\n"
        "        while read -r word; do\n"
        "                if [[ $word == :files ]]; then\n"
        "                        compopt -o filenames 2>/dev/null\n"
        "                        mapfile -t COMPREPLY < <(compgen -f -- \"${current#*=}\")\n"
        "                        return\n"
        "                fi\n"
        "                [[ $word != *= ]] || compopt -o nospace 2>/dev/null\n"
        "                COMPREPLY+=(\"${word#\"$before\"}\")\n"
        "        done < <(\"${given[0]}\" completion words -- \"${given[@]:1}\" \"$current\" 2>/dev/null)\n"
        "}\n"
        "complete -F _tdictl tdictl\n";

static const char zsh_script[] =
        "#compdef tdictl\n"
        "# zsh completion for tdictl: 'tdictl completion zsh' prints this. The words come from tdictl itself.\n"
        "_tdictl() {\n"
        "        local -a found open\n"
        "\n"
        "        found=(${(f)\"$(\"$words[1]\" completion words -- \"${(@)words[2,CURRENT]}\" 2>/dev/null)\"})\n"
        "        if [[ $found[1] == :files ]]; then\n"
        "                [[ $words[CURRENT] != --*=* ]] || compset -P '*='\n"
        "                _files\n"
        "                return\n"
        "        fi\n"
        "        open=(${(M)found:#*=})\n"
        "        found=(${found:#*=})\n"
        "        (( ! $#open )) || compadd -S '' -a open\n"
        "        (( ! $#found )) || compadd -a found\n"
        "}\n"
        "# Sourced, or autoloaded by compinit.\n"
        "if [[ $funcstack[1] == _tdictl ]]; then _tdictl \"$@\"; else compdef _tdictl tdictl; fi\n";

static int print_script(struct tdictl *t, const char *shell, const char *script) {
        _cleanup_(json_object_putp) json_object *model = NULL, *o = NULL;
        int r;

        if (!t->json) {
                fputs(script, stdout);
                return 0;
        }
        r = model_new(t, &model);
        if (r < 0)
                return r;
        o = json_object_new_object();
        if (!o || json_put_string(o, "shell", shell) < 0 || json_put_string(o, "script", script) < 0 || json_put(model, "completion", TAKE_PTR(o)) < 0)
                return fail_oom(t);
        return print_model(t, model, NULL);
}

static int print_words(struct tdictl *t) {
        _cleanup_(json_object_putp) json_object *model = NULL, *words = json_object_new_array();
        struct completion c = { .t = t, .words = words, .typed = "", .given = t->arguments.command };
        int r;

        if (!words)
                return fail_oom(t);
        while (c.given && c.given[c.n_given])
                c.n_given++;
        if (c.n_given > 0) {
                c.n_given--;
                complete(&c, c.given[c.n_given]);
        }
        for (size_t i = 0; !t->json && i < json_object_array_length(words); i++)
                puts(json_object_get_string(json_object_array_get_idx(words, i)));
        if (!t->json)
                return 0;
        r = model_new(t, &model);
        if (r < 0)
                return r;
        return json_put(model, "words", TAKE_PTR(words)) < 0 ? fail_oom(t) : print_model(t, model, NULL);
}

int verb_completion(struct tdictl *t) {
        const char *what = t->arguments.words[0];

        if (streq(what, "words"))
                return print_words(t);
        if (streq(what, "bash"))
                return print_script(t, what, bash_script);
        if (streq(what, "zsh"))
                return print_script(t, what, zsh_script);
        return fail_usage(t, "There are completions for bash and zsh, and none for '%s'.", what);
}
