/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Placeholders in the words of a VMM's command line: @socket:BDF@, @vfio:BDF@, @iommufd@, and @@ for an @. What looks like one and is
 * none, @word@ or @word:…@, is refused, and so is one that is not closed: a mistyped placeholder never reaches the VMM as it stands.
 * Any other @ stays, as that of "$@" or me@host.
 */
#ifndef TDICTL_SUBSTITUTE_H
#define TDICTL_SUBSTITUTE_H

#include <tdi/bdf.h>

enum placeholder {
        PLACEHOLDER_SOCKET,  /* of a function */
        PLACEHOLDER_VFIO,    /* of a function */
        PLACEHOLDER_IOMMUFD, /* without one: @bdf is all zeros */
};

/* Sets *ret to what stands for it, borrowed until the word is done; or fails, with a text for people that is the caller's. */
typedef int (*substitute_value)(enum placeholder what, struct tdi_bdf bdf, void *userdata, const char **ret, char **ret_error);

/**
 * substitute() - a word with its placeholders replaced
 * @ret: the result, the caller's
 * @ret_error: a text for people, the caller's; on -EINVAL, and as @value sets it
 *
 * Return: 0, -EINVAL for what is no placeholder, -ENOMEM, or what @value failed with.
 */
int substitute(const char *word, substitute_value value, void *userdata, char **ret, char **ret_error);

#endif
