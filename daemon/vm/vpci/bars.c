/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Where the guest has the function's BARs, for peer-to-peer: read from the config space as the guest sees it, since a virtual function's
 * own COMMAND.MEM means nothing (PCIe 6, 9.3.4.1.3), after each write that could have changed it.
 */
#include <fcntl.h>
#include <linux/pci_regs.h>

#include "vm/vpci/function.h"
#include "vm/vpci/ranges.h"

static uint32_t dword(const uint8_t *p) {
        return p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16 | (uint32_t) p[3] << 24;
}

/* The whole BAR as one range, which is what an IOAS takes. Why not, else: there is no P2PDMA, or the BAR is not the function's to give. */
static int export(struct function *f, unsigned bar, uint64_t size) {
        const struct tdi_vfio_device_feature_dma_buf buffer = { .region_index = bar, .open_flags = O_RDWR | O_CLOEXEC, .nr_ranges = 1 };
        const struct tdi_vfio_region_dma_range range = { .length = size };
        union {
                struct tdi_vfio_device_feature feature;
                uint8_t room[sizeof(struct tdi_vfio_device_feature) + sizeof(buffer) + sizeof(range)];
        } get = {};

        get.feature.argsz = sizeof(get);
        get.feature.flags = TDI_VFIO_DEVICE_FEATURE_GET | TDI_VFIO_DEVICE_FEATURE_DMA_BUF;
        memcpy(get.feature.data, &buffer, sizeof(buffer));
        memcpy(get.feature.data + sizeof(buffer), &range, sizeof(range));
        return host_ioctl(f->host, f->device, TDI_VFIO_DEVICE_FEATURE, &get);
}

void function_place_bars(struct function *f, bool revoked) {
        struct dma_place places[DMA_BARS] = {};
        uint8_t config[PCI_STD_HEADER_SIZEOF];

        if (!f->peer_to_peer)
                return;
        if (vconfig_read(f->config, config, sizeof(config), 0) != sizeof(config) || !(config[PCI_COMMAND] & PCI_COMMAND_MEMORY)) {
                dma_client_place_bars(f->dma, places, revoked);
                return;
        }
        for (size_t i = 0; i < DMA_BARS; i++) {
                uint32_t low = dword(config + PCI_BASE_ADDRESS_0 + 4 * i);
                uint64_t size = f->regions[i].size, iova = low & ~0xfu;

                /* Less than a page is the business of those who trap it, which is everybody. */
                if (size == 0 || size % RANGE_PAGE || low & PCI_BASE_ADDRESS_SPACE_IO)
                        continue;
                if ((low & PCI_BASE_ADDRESS_MEM_TYPE_MASK) == PCI_BASE_ADDRESS_MEM_TYPE_64 && i + 1 < DMA_BARS)
                        iova |= (uint64_t) dword(config + PCI_BASE_ADDRESS_0 + 4 * (i + 1)) << 32;
                if (iova == 0 || iova % RANGE_PAGE || iova + (size - 1) < iova)
                        continue;
                if (!dma_client_has_bar(f->dma, (unsigned) i))
                        dma_client_give_bar(f->dma, (unsigned) i, export(f, (unsigned) i, size));
                places[i] = (struct dma_place){ iova, size };
        }
        dma_client_place_bars(f->dma, places, revoked);
}

void function_withdraw_bars(struct function *f) {
        if (f->peer_to_peer)
                dma_client_place_bars(f->dma, (const struct dma_place[DMA_BARS]){}, false);
}
