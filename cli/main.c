/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* tdictl's entry. Everything is in the static library, where tests find it. */
#include "tdictl.h"

int main(int argc, char *argv[]) {
        return tdictl_main(argc, argv);
}
