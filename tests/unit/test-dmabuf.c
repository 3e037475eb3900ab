/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* Classes and importers of dma-bufs: names, and every cell of what is offered × who imports × what is accepted. */
#include <limits.h>
#include <tdi/dmabuf.h>

#include "test.h"

#define P TDI_DMABUF_SET(TDI_DMABUF_PINNED)
#define R TDI_DMABUF_SET(TDI_DMABUF_REVOCABLE)
#define D TDI_DMABUF_SET(TDI_DMABUF_DYNAMIC)

static const char *const class_names[] = { "pinned", "revocable", "dynamic" };
static const char *const importer_names[] = { "kvm", "iommufd", "rdma", "gpu", "any" };
/* As the design has them. */
static const unsigned takes[] = { P | R | D, P | R, P | D, P | D, 0 };

static void test_names(void) {
        check_int(ARRAY_SIZE(class_names), TDI_DMABUF_CLASS_MAX);
        for (int i = 0; i < TDI_DMABUF_CLASS_MAX; i++) {
                check_str(tdi_dmabuf_class_to_string(i), class_names[i]);
                check_int(tdi_dmabuf_class_from_string(class_names[i]), i);
        }
        check_int(ARRAY_SIZE(importer_names), TDI_IMPORTER_MAX);
        for (int i = 0; i < TDI_IMPORTER_MAX; i++) {
                check_str(tdi_importer_to_string(i), importer_names[i]);
                check_int(tdi_importer_from_string(importer_names[i]), i);
                check_int(tdi_importer_classes(i), takes[i]);
        }
        for (int i = -30; i < 64; i++) {
                if (i < 0 || i >= TDI_DMABUF_CLASS_MAX)
                        check_str(tdi_dmabuf_class_to_string(i), NULL);
                if (i < 0 || i >= TDI_IMPORTER_MAX) {
                        check_str(tdi_importer_to_string(i), NULL);
                        check_int(tdi_importer_classes(i), 0);
                }
        }
        check_int(TDI_DMABUF_CLASS_INVALID, -EINVAL);
        check_int(tdi_dmabuf_class_from_string("Pinned"), TDI_DMABUF_CLASS_INVALID);
        check_int(tdi_dmabuf_class_from_string(NULL), TDI_DMABUF_CLASS_INVALID);
        check_int(tdi_importer_from_string("vfio"), TDI_IMPORTER_INVALID);
        check_int(tdi_importer_from_string(NULL), TDI_IMPORTER_INVALID);
}

static void test_sets(void) {
        static const struct {
                unsigned set;
                const char *text;
        } sets[] = {
                { 0, "nothing" }, { P, "pinned" }, { R, "revocable" }, { D, "dynamic" }, { P | R, "pinned or revocable" },
                { P | D, "pinned or dynamic" }, { R | D, "revocable or dynamic" }, { P | R | D, "pinned, revocable or dynamic" },
                { ~(P | R | D), "nothing" }, { ~0u, "pinned, revocable or dynamic" },
        };

        for (size_t i = 0; i < ARRAY_SIZE(sets); i++) {
                char *exact = malloc(40);

                require(exact);
                check_str(tdi_dmabuf_set_format(sets[i].set, exact, 40), sets[i].text);
                for (size_t k = 1; k < 40; k++) {
                        tdi_dmabuf_set_format(sets[i].set, exact, k);
                        check(strlen(exact) < k && startswith(sets[i].text, exact));
                }
                free(exact);
        }
}

/* What comes of one cell, said in another way than the library does. */
static int expect(unsigned offered, int importer, unsigned accept, int *ret) {
        unsigned can;

        if (importer < 0 || importer >= TDI_IMPORTER_MAX || offered < 1 || offered > 7 || accept > 7)
                return -EINVAL;
        if (importer == TDI_IMPORTER_ANY && accept == 0)
                return -EINVAL;
        can = importer == TDI_IMPORTER_ANY ? accept : takes[importer];
        for (int i = 0; i < 3; i++)
                if (accept & 1u << i && !(can & 1u << i))
                        return -EINVAL;
        for (int i = 0; i < 3; i++)
                if (offered & 1u << i && can & 1u << i && (accept == 0 || accept & 1u << i)) {
                        *ret = i;
                        return 0;
                }
        return -EPROTONOSUPPORT;
}

static void test_negotiation(void) {
        unsigned agreed = 0, refused = 0;

        for (unsigned offered = 0; offered < 10; offered++)
                for (int importer = -2; importer < TDI_IMPORTER_MAX + 2; importer++)
                        for (unsigned accept = 0; accept < 10; accept++) {
                                enum tdi_dmabuf_class got = TDI_DMABUF_CLASS_INVALID;
                                char *reason = malloc(TDI_DMABUF_REASON_MAX);
                                int class = -1, r = expect(offered, importer, accept, &class);

                                require(reason);
                                strcpy(reason, "untouched");
                                test_about("offered %u, importer %d, accept %u", offered, importer, accept);
                                check_int(tdi_dmabuf_negotiate(offered, importer, accept, &got, reason), r);
                                check_int(got, r == 0 ? class : TDI_DMABUF_CLASS_INVALID);
                                check(streq(reason, "untouched") == (r == 0));
                                /* A refusal says what there is, and what is wanted. */
                                if (r == -EPROTONOSUPPORT) {
                                        char set[40];

                                        check(strstr(reason, tdi_dmabuf_set_format(offered, set, sizeof(set))));
                                        check(strstr(reason, tdi_dmabuf_set_format(accept ? accept : takes[importer], set, sizeof(set))));
                                        check(strlen(reason) < TDI_DMABUF_REASON_MAX - 1);
                                }
                                check_int(tdi_dmabuf_negotiate(offered, importer, accept, &got, NULL), r);
                                agreed += r == 0;
                                refused += r == -EPROTONOSUPPORT;
                                free(reason);
                        }
        test_about("all");
        check(agreed > 50 && refused > 20);
}

/* The cells that people will meet, spelled out. */
static void test_known(void) {
        static const struct {
                unsigned offered;
                enum tdi_importer importer;
                int r, class;
        } cells[] = {
                { R, TDI_IMPORTER_KVM, 0, TDI_DMABUF_REVOCABLE },
                { R, TDI_IMPORTER_IOMMUFD, 0, TDI_DMABUF_REVOCABLE },
                { R, TDI_IMPORTER_RDMA, -EPROTONOSUPPORT, -1 },
                { R, TDI_IMPORTER_GPU, -EPROTONOSUPPORT, -1 },
                { P, TDI_IMPORTER_KVM, 0, TDI_DMABUF_PINNED },
                { P, TDI_IMPORTER_IOMMUFD, 0, TDI_DMABUF_PINNED },
                { P, TDI_IMPORTER_RDMA, 0, TDI_DMABUF_PINNED },
                { P, TDI_IMPORTER_GPU, 0, TDI_DMABUF_PINNED },
                { D, TDI_IMPORTER_KVM, 0, TDI_DMABUF_DYNAMIC },
                { D, TDI_IMPORTER_IOMMUFD, -EPROTONOSUPPORT, -1 },
                { D, TDI_IMPORTER_RDMA, 0, TDI_DMABUF_DYNAMIC },
                { D, TDI_IMPORTER_GPU, 0, TDI_DMABUF_DYNAMIC },
                /* A source that can do both gives the better promise. */
                { P | D, TDI_IMPORTER_GPU, 0, TDI_DMABUF_PINNED },
                { R | D, TDI_IMPORTER_GPU, 0, TDI_DMABUF_DYNAMIC },
        };

        for (size_t i = 0; i < ARRAY_SIZE(cells); i++) {
                enum tdi_dmabuf_class got = (enum tdi_dmabuf_class) -1;

                test_about("cell %zu", i);
                check_int(tdi_dmabuf_negotiate(cells[i].offered, cells[i].importer, 0, &got, NULL), cells[i].r);
                check_int((int) got, cells[i].class);
        }
}

int main(void) {
        test_names();
        test_sets();
        test_negotiation();
        test_known();
        return test_end();
}
