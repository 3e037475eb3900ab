/* SPDX-License-Identifier: LGPL-2.1-or-later */
/* The algorithms of SPDM that are known here (DSP0274, "NEGOTIATE_ALGORITHMS request message format"), best first. */
#include "evidence/spdm.h"

const struct spdm_hash spdm_hashes[] = {
        { 0x04, 0x08, "sha512", 64 },
        { 0x02, 0x04, "sha384", 48 },
        { 0x01, 0x02, "sha256", 32 },
};
const size_t spdm_n_hashes = ARRAY_SIZE(spdm_hashes);

const struct spdm_asym spdm_asyms[] = {
        { 0x100, "ecdsa-p521", SPDM_ECDSA, 521, "secp521r1", 132 },
        { 0x080, "ecdsa-p384", SPDM_ECDSA, 384, "secp384r1", 96 },
        { 0x010, "ecdsa-p256", SPDM_ECDSA, 256, "prime256v1", 64 },
        { 0x040, "rsapss-4096", SPDM_RSAPSS, 4096, NULL, 512 },
        { 0x008, "rsapss-3072", SPDM_RSAPSS, 3072, NULL, 384 },
        { 0x002, "rsapss-2048", SPDM_RSAPSS, 2048, NULL, 256 },
        { 0x020, "rsassa-4096", SPDM_RSASSA, 4096, NULL, 512 },
        { 0x004, "rsassa-3072", SPDM_RSASSA, 3072, NULL, 384 },
        { 0x001, "rsassa-2048", SPDM_RSASSA, 2048, NULL, 256 },
};
const size_t spdm_n_asyms = ARRAY_SIZE(spdm_asyms);

const struct spdm_hash *spdm_hash_of(uint32_t bit) {
        for (size_t i = 0; i < spdm_n_hashes; i++)
                if (spdm_hashes[i].bit == bit)
                        return &spdm_hashes[i];
        return NULL;
}

const struct spdm_hash *spdm_measurement_hash_of(uint32_t bit) {
        for (size_t i = 0; i < spdm_n_hashes; i++)
                if (spdm_hashes[i].measurement_bit == bit)
                        return &spdm_hashes[i];
        return NULL;
}

const struct spdm_asym *spdm_asym_of(uint32_t bit) {
        for (size_t i = 0; i < spdm_n_asyms; i++)
                if (spdm_asyms[i].bit == bit)
                        return &spdm_asyms[i];
        return NULL;
}
