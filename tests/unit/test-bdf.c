/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* PCI addresses: the three forms, what is refused, and random texts against a regular expression. */
#include <regex.h>
#include <tdi/bdf.h>

#include "test.h"

static int parse(const char *text, struct tdi_bdf *ret) {
        char *copy = test_copy(text, strlen(text) + 1);
        int r = tdi_bdf_parse(copy, ret);

        free(copy);
        return r;
}

static void refuses(const char *text) {
        static const struct tdi_bdf untouched = { 0x1234, 0x56, 0x78 };
        struct tdi_bdf bdf = untouched;

        test_about("\"%s\"", text);
        check_int(parse(text, &bdf), -EINVAL);
        check_int(tdi_bdf_number(bdf), tdi_bdf_number(untouched));
}

static void accepts(const char *text, uint32_t number) {
        struct tdi_bdf bdf = {};

        test_about("\"%s\"", text);
        if (check_int(parse(text, &bdf), 0))
                check_int(tdi_bdf_number(bdf), number);
}

static void test_accepted(void) {
        accepts("0000:01:00.0", 0x100);
        accepts("01:00.0", 0x100);
        accepts("pci_0000_01_00_0", 0x100);
        accepts("00:00.0", 0);
        accepts("0000:00:00.0", 0);
        accepts("ffff:ff:1f.7", 0xffffffff);
        accepts("FFFF:FF:1F.7", 0xffffffff);
        accepts("pci_FFFF_fF_1f_7", 0xffffffff);
        accepts("aBcD:eF:10.1", 0xabcdef81);
        accepts("fe:1F.3", 0xfefb);
        accepts("1000:00:00.0", 0x10000000);
}

static void test_refused(void) {
        static const char *const texts[] = {
                "", " ", "0", ":", ".", "pci_", "pci", "x", "0000", "0000:", "1:0.0", "1:00.0", "01:0.0", "01:00.", "01:00", "01:00:0",
                "01.00.0", "01:00.00", "01:00.8", "01:00.f", "01:20.0", "01:ff.0", "0000:01:20.0", "0000:01:00.8", "000:01:00.0",
                "00000:01:00.0", "10000:01:00.0", "0000:001:00.0", "0000:01:000.0", "0000.01.00.0", "0000:01.00.0", "0000-01-00.0",
                "0000_01_00_0", "01_00_0", "pci_01_00_0", "pci_0000:01:00.0", "pci_0000_01_00.0", "pci_0000_01:00_0", "PCI_0000_01_00_0",
                "pci_pci_0000_01_00_0", "pci:0000:01:00.0", "0x00:01:00.0", "+000:01:00.0", "-000:01:00.0", "0g:00.0", "g0:00.0",
                " 01:00.0", "01:00.0 ", "01:00.0\n", "0000:01:00.0\n", "0000:01:00.0.0", "0000:01:00.0 x", "pci_0000_01_00_0_", "01:00.0:",
                "::::.", "0000::01:00.0", ":01:00.0", "01::00.0", "01: 0.0", "0000:0000:01:00.0", "@0:00.0", "`0:00.0", "/0:00.0",
        };

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
                refuses(texts[i]);
        test_about("%s", "NULL");
        check_int(tdi_bdf_parse(NULL, &(struct tdi_bdf){}), -EINVAL);
}

static void test_cut_and_changed(void) {
        static const char *const texts[] = { "0000:01:1f.7", "01:1f.7", "pci_0000_01_1f_7" };

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                size_t n = strlen(texts[i]);
                char text[32];

                for (size_t k = 0; k < n; k++) {
                        snprintf(text, sizeof(text), "%.*s", (int) k, texts[i]);
                        /* What is left of the long form after its domain is the short form, but nothing cut short is. */
                        refuses(text);
                        for (const char *c = "gG: ._-/\t\x7f\xff"; *c; c++) {
                                snprintf(text, sizeof(text), "%s", texts[i]);
                                if (text[k] == *c)
                                        continue;
                                text[k] = *c;
                                refuses(text);
                        }
                        snprintf(text, sizeof(text), "%.*s0%s", (int) k, texts[i], texts[i] + k);
                        refuses(text);
                }
                for (unsigned c = 1; c < 256; c++) {
                        snprintf(text, sizeof(text), "%s%c", texts[i], (int) c);
                        refuses(text);
                }
        }
}

static void test_round_trips(void) {
        char text[TDI_BDF_MAX], label[TDI_BDF_MAX], form[32];

        for (uint32_t i = 0; i < 200000; i++) {
                uint32_t n = i < 70000 ? i : test_random();
                struct tdi_bdf bdf = { (uint16_t) (n >> 16), (uint8_t) (n >> 8), (uint8_t) n };

                test_about("%#x", n);
                check(tdi_bdf_number(bdf) == n);
                check(tdi_bdf_format(bdf, text) == text && tdi_bdf_to_label(bdf, label) == label);
                if (strlen(text) != TDI_BDF_MAX - 1 || strlen(label) != TDI_BDF_MAX - 1)
                        test_fail(__FILE__, __LINE__, "\"%s\" and \"%s\"", text, label);
                accepts(text, n);
                snprintf(form, sizeof(form), "pci_%s", label);
                accepts(form, n);
                if (n < 0x10000)
                        accepts(text + 5, n);
        }
        check_str(tdi_bdf_format((struct tdi_bdf){ 0xabc, 0xd, 0xff }, text), "0abc:0d:1f.7");
        check_str(tdi_bdf_to_label((struct tdi_bdf){ 0xabc, 0xd, 0xff }, text), "0abc_0d_1f_7");
}

static void test_random_texts(void) {
        static const char letters[] = "0001fF7:.:._pci g";
        unsigned accepted = 0;
        regex_t form;

        require(regcomp(&form,
                        "^(([0-9a-fA-F]{4}:)?[0-9a-fA-F]{2}:[01][0-9a-fA-F]\\.[0-7]|pci_[0-9a-fA-F]{4}_[0-9a-fA-F]{2}_[01][0-9a-fA-F]_[0-7])$",
                        REG_EXTENDED | REG_NOSUB) == 0);
        for (unsigned i = 0; i < 200000; i++) {
                static const char *const starts[] = { "0000:01:00.0", "fe:1f.7", "pci_0000_01_00_0" };
                char text[40];
                bool right;
                size_t n;

                snprintf(text, sizeof(text), "%s", starts[test_random() % 3]);
                n = strlen(text);
                for (unsigned k = test_random() % 4; k > 0; k--)
                        text[test_random() % n] = letters[test_random() % (sizeof(letters) - 1)];
                if (test_random() % 8 == 0)
                        text[test_random() % n] = '\0';
                right = regexec(&form, text, 0, NULL, 0) == 0;
                test_about("\"%s\"", text);
                check_int(parse(text, &(struct tdi_bdf){}), right ? 0 : -EINVAL);
                accepted += right;
        }
        regfree(&form);
        test_about("%s", "");
        check(accepted > 1000);
}

int main(void) {
        test_accepted();
        test_refused();
        test_cut_and_changed();
        test_round_trips();
        test_random_texts();
        return test_end();
}
