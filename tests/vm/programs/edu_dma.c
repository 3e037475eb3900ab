/* SPDX-License-Identifier: LGPL-2.1-or-later */
/*
 * Proof that a VM's address space works: QEMU's edu device copies memory into itself and out again through it.
 *
 *      edu_dma [--host=HOST] PID BDF IOAS
 *
 * PID is the process that holds the VM's descriptors: its open device node of BDF and its /dev/iommu are duplicated from
 * it, memory is mapped in IOAS at an address that edu can reach (28 bits), copied both ways, compared, and unmapped.
 */
#include <sys/mman.h>
#include <sys/syscall.h>

#include "host/abi/iommufd.h"
#include "vfio.h"

/* Registers in BAR 0: QEMU, docs/specs/edu.rst. */
#define EDU_ID 0x00
#define EDU_DMA_SOURCE 0x80
#define EDU_DMA_TARGET 0x88
#define EDU_DMA_COUNT 0x90
#define EDU_DMA_COMMAND 0x98
#define EDU_BUFFER 0x40000
#define EDU_DMA_START 1u
#define EDU_DMA_TO_MEMORY 2u

#define PCI_COMMAND_MEMORY 2
#define PCI_COMMAND_MASTER 4

#define IOVA UINT64_C(0x8000000)
#define SIZE 0x10000
#define CHUNK 2048

static int pidfd_open_(pid_t pid) {
        return (int) syscall(SYS_pidfd_open, pid, 0);
}

static int pidfd_getfd_(int pidfd, int fd) {
        return (int) syscall(SYS_pidfd_getfd, pidfd, fd, 0);
}

/* A duplicate of the descriptor that a process has of a path. */
static int take(pid_t pid, const char *wanted) {
        _cleanup_(host_names_freep) char **names = NULL;
        char path[64], link[330], target[128];
        int pidfd, fd = -1;

        pidfd = pidfd_open_(pid);
        if (pidfd < 0)
                err(1, "pidfd_open %d", (int) pid);
        snprintf(path, sizeof(path), "/proc/%d/fd", (int) pid);
        need(host_list(host, path, &names), "%s", path);
        for (char **n = names; fd < 0 && *n; n++) {
                snprintf(link, sizeof(link), "%s/%s", path, *n);
                if (host_readlink(host, link, target, sizeof(target)) < 0)
                        continue;
                /* Opened in another mount namespace, it is seen without the /dev that it stands in. */
                if (strcmp(target, wanted) != 0 && strcmp(target, wanted + strlen("/dev")) != 0)
                        continue;
                fd = pidfd_getfd_(pidfd, atoi(*n));
                if (fd < 0)
                        err(1, "pidfd_getfd of %s (%s)", link, wanted);
        }
        close(pidfd);
        if (fd < 0)
                errx(1, "process %d has no descriptor of %s", (int) pid, wanted);
        return fd;
}

static void copy(int device, uint64_t bar, uint64_t source, uint64_t target, uint32_t command) {
        /* Addresses fit in 32 bits; a 32-bit write sets the whole register. */
        write32(device, bar + EDU_DMA_SOURCE, (uint32_t) source);
        write32(device, bar + EDU_DMA_TARGET, (uint32_t) target);
        write32(device, bar + EDU_DMA_COUNT, CHUNK);
        write32(device, bar + EDU_DMA_COMMAND, command | EDU_DMA_START);
        /* edu waits 100 ms of its own before each copy. */
        for (int i = 0; i < 10000; i++) {
                if (!(read32(device, bar + EDU_DMA_COMMAND) & EDU_DMA_START))
                        return;
                usleep(1000);
        }
        errx(1, "edu's DMA does not end");
}

int main(int argc, char **argv) {
        struct tdi_iommu_ioas_map_file map = {
                .size = sizeof(map),
                .flags = TDI_IOMMU_IOAS_MAP_FIXED_IOVA | TDI_IOMMU_IOAS_MAP_READABLE | TDI_IOMMU_IOAS_MAP_WRITEABLE,
                .length = SIZE,
                .iova = IOVA,
        };
        struct tdi_iommu_ioas_unmap unmap = { .size = sizeof(unmap), .iova = IOVA, .length = SIZE };
        int device, iommufd, memory;
        char node[64];
        uint8_t *ram;
        uint64_t bar;
        pid_t pid;

        take_host(&argc, &argv);
        if (argc != 4) {
                fprintf(stderr, "usage: edu_dma [--host=HOST] PID BDF IOAS\n");
                return 2;
        }
        pid = (pid_t) atoi(argv[1]);
        vfio_node(argv[2], node, sizeof(node));
        device = take(pid, node);
        iommufd = take(pid, "/dev/iommu");

        memory = memfd_create("edu", MFD_CLOEXEC);
        if (memory < 0 || ftruncate(memory, SIZE) < 0)
                err(1, "memfd");
        ram = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
        if (ram == MAP_FAILED)
                err(1, "mmap");
        for (size_t i = 0; i < SIZE; i++)
                ram[i] = (uint8_t) (i * 7 + i / 256 + (unsigned) pid);

        map.ioas_id = unmap.ioas_id = (uint32_t) strtoul(argv[3], NULL, 0);
        map.fd = memory;
        need(host_ioctl(host, iommufd, TDI_IOMMU_IOAS_MAP_FILE, &map), "IOMMU_IOAS_MAP_FILE in IOAS %u", map.ioas_id);
        bar = region_offset(device, TDI_VFIO_PCI_BAR0_REGION_INDEX);
        (void) set_command(device, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
        if ((read32(device, bar + EDU_ID) & 0xff) != 0xed)
                errx(1, "%s is no edu device: its first register reads %#x", argv[2], read32(device, bar + EDU_ID));

        /* From page 1 into the device, from there to page 9: not a byte of it may come from anywhere else. */
        copy(device, bar, IOVA + 0x1000, EDU_BUFFER, 0);
        copy(device, bar, EDU_BUFFER, IOVA + 0x9000, EDU_DMA_TO_MEMORY);
        if (memcmp(ram + 0x1000, ram + 0x9000, CHUNK) != 0)
                errx(1, "what edu copied back differs");
        for (size_t i = 0; i < CHUNK; i++)
                if (ram[0x9000 + CHUNK + i] != (uint8_t) ((0x9000 + CHUNK + i) * 7 + (0x9000 + CHUNK + i) / 256 + (unsigned) pid))
                        errx(1, "edu wrote beyond the end");

        need(host_ioctl(host, iommufd, TDI_IOMMU_IOAS_UNMAP, &unmap), "IOMMU_IOAS_UNMAP");
        need(host_close(host, device), "close %s", node);
        need(host_close(host, iommufd), "close /dev/iommu");
        printf("%s copied %d bytes through IOAS %u\n", argv[2], CHUNK, map.ioas_id);
        tdi_host_free(host);
        return 0;
}
