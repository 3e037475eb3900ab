/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Placeholders: what is one, what stands for it, what is refused and what is then said. */
#include <stdio.h>

#include "substitute.h"
#include "util/util.h"

static unsigned failures;
static unsigned asked;
static char space[] = " ", nothing[] = "";

/* What was asked for, in angle brackets; the function 00:00.7 fails. */
static int value(enum placeholder what, struct tdi_bdf bdf, void *userdata, const char **ret, char **ret_error) {
        static char text[64];
        char name[TDI_BDF_MAX];

        asked++;
        if (tdi_bdf_number(bdf) == 7) {
                *ret_error = strdup("no such thing");
                return -EUSERS;
        }
        snprintf(text, sizeof(text), "<%s%s%s>", what == PLACEHOLDER_SOCKET ? "s" : what == PLACEHOLDER_VFIO ? "v" : "i", (const char *) userdata,
                 what == PLACEHOLDER_IOMMUFD ? "" : tdi_bdf_format(bdf, name));
        *ret = text;
        return 0;
}

static const struct {
        const char *word, *expected; /* "!…": refused with a text that has this */
} cases[] = {
        { "", "" },
        { "-m", "-m" },
        { "@socket:0000:01:00.0@", "<s 0000:01:00.0>" },
        { "@socket:01:00.0@", "<s 0000:01:00.0>" },
        { "@socket:pci_0000_01_00_0@", "<s 0000:01:00.0>" },
        { "@vfio:abcd:FF:1f.6@", "<v abcd:ff:1f.6>" },
        { "@iommufd@", "<i >" },
        { "a@iommufd@b", "a<i >b" },
        { "{\"path\":\"@socket:01:00.0@\",\"fd\":@vfio:02:00.1@}", "{\"path\":\"<s 0000:01:00.0>\",\"fd\":<v 0000:02:00.1>}" },
        { "@iommufd@@iommufd@", "<i ><i >" },
        { "@@", "@" },
        { "@@@@", "@@" },
        { "me@@host", "me@host" },
        { "@@socket:01:00.0@@", "@socket:01:00.0@" },
        { "@@@iommufd@@@", "@<i >@" },
        { "@@iommufd", "@iommufd" },
        { "@", "@" },
        { "@@@", "@@" },
        { "\"$@\"", "\"$@\"" },
        { "me@host", "me@host" },
        { "me@host:/x you@host:/y", "me@host:/x you@host:/y" },
        { "pool/vm@today-1", "pool/vm@today-1" },
        { "@ @", "@ @" },
        { "@.@iommufd@", "@.<i >" },
        { "@:01:00.0@", "@:01:00.0@" },
        { "@iommufds", "@iommufds" },
        { "me@iommufd", "!@iommufd is not closed" },
        { "@iommufd ", "!@iommufd is not closed" },
        { "@socket:01:00.0", "!@socket:01:00.0 is not closed" },
        { "@socket:01:00.0,fd=@iommufd@", "!@socket:01:00.0 is not closed" },
        { "@vfio: 01:00.0@", "!@vfio: is not closed" },
        { "@vfio:01:00.0 @", "!@vfio:01:00.0 is not closed" },
        { "@sockets:01:00.0@", "!@sockets:01:00.0@ is no placeholder" },
        { "@Socket:01:00.0@", "!@Socket:01:00.0@ is no placeholder" },
        { "@socket@", "!@socket@ is no placeholder" },
        { "@iommufd:01:00.0@", "!@iommufd:01:00.0@ is no placeholder" },
        { "@iommufd:@", "!is no placeholder" },
        { "@iommufds@", "!is no placeholder" },
        { "a@b@c", "!@b@ is no placeholder" },
        { "@socket:@", "!'' is no PCI function" },
        { "@socket:1@", "!'1' is no PCI function" },
        { "@vfio:01:00.8@", "!is no PCI function" },
        { "@vfio:0000:01:00.00000000000000000000000000000000000000000000000000000000000000000000000000@", "!is no PCI function" },
        { "x@@y@no@z", "!'x@@y@no@z': @no@ is no placeholder" },
        { "@socket:01:00.0@@vfio:00:00.7@", "!no such thing" },
};

int main(void) {
        _cleanup_free_ char *long_word = NULL, *long_result = NULL, *no_error = NULL;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                bool refused = cases[i].expected[0] == '!';
                _cleanup_free_ char *text = NULL, *error = NULL;
                int r = substitute(cases[i].word, value, space, &text, &error);
                bool as_expected;

                if (refused)
                        as_expected = (r == -EINVAL || r == -EUSERS) && !text && error && strstr(error, cases[i].expected + 1);
                else
                        as_expected = r == 0 && !error && text && streq(text, cases[i].expected);
                if (as_expected)
                        continue;
                fprintf(stderr, "'%s': %d '%s' '%s', not '%s'\n", cases[i].word, r, strempty(text), strempty(error), cases[i].expected);
                failures++;
        }

        /* Nothing is cut off, and what is wrong with a long word can be told. */
        long_word = calloc(1, 100001);
        if (!long_word)
                return 1;
        memset(long_word, 'x', 100000);
        memcpy(long_word + 50000, "@iommufd@", 9);
        if (substitute(long_word, value, nothing, &long_result, &no_error) < 0 || strlen(long_result) != 100000 - 9 + 3) {
                fprintf(stderr, "a long word was not substituted\n");
                failures++;
        }
        long_word[99999] = '@';
        memset(long_word + 50000, 'y', 9);
        long_word[0] = '@';
        if (substitute(long_word, value, nothing, &long_result, &no_error) != -EINVAL || !no_error) {
                fprintf(stderr, "a long word was not refused\n");
                failures++;
        }
        if (asked < 10)
                failures++;
        return failures > 0;
}
