// SPDX-License-Identifier: GPL-2.0
/*
 * QEMU's edu device (docs/specs/edu.rst) for user space, as a UIO device: for the guests of the VM tests, whose program
 * drives the device by itself. Nothing of the host's tests loads it.
 *
 *	/dev/uioN	map 0 is BAR 0, map 1 is a page of memory for DMA; a read waits for the next interrupt
 *	dma_address	(of the PCI function) where the device finds that page: edu reaches 28 bits
 *	interrupt	(the same) "msi" or "intx"
 *
 * With the parameter `intx` it does without MSI. The handler acknowledges what the device raised: one register read and,
 * where the interrupt was edu's, one write.
 */
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/slab.h>
#include <linux/uio_driver.h>

#define EDU_IRQ_STATUS	0x24
#define EDU_IRQ_ACK	0x64
#define EDU_BAR_SIZE	0x100000
#define EDU_DMA_BITS	28

static bool intx;
module_param(intx, bool, 0444);
MODULE_PARM_DESC(intx, "use the interrupt pin, not MSI");

struct edu_guest {
	struct uio_info info;
	void __iomem *bar;
	void *memory;
	dma_addr_t dma;
};

static irqreturn_t edu_handler(int irq, struct uio_info *info)
{
	struct edu_guest *edu = info->priv;
	u32 status = readl(edu->bar + EDU_IRQ_STATUS);

	/* All ones: it is being reset. */
	if (!status || status == U32_MAX)
		return IRQ_NONE;
	writel(status, edu->bar + EDU_IRQ_ACK);
	return IRQ_HANDLED;
}

static ssize_t dma_address_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	struct edu_guest *edu = dev_get_drvdata(dev);

	return sysfs_emit(buf, "%pad\n", &edu->dma);
}
static DEVICE_ATTR_RO(dma_address);

static ssize_t interrupt_show(struct device *dev, struct device_attribute *attr, char *buf)
{
	return sysfs_emit(buf, "%s\n", to_pci_dev(dev)->msi_enabled ? "msi" : "intx");
}
static DEVICE_ATTR_RO(interrupt);

static struct attribute *edu_attrs[] = {
	&dev_attr_dma_address.attr,
	&dev_attr_interrupt.attr,
	NULL,
};
ATTRIBUTE_GROUPS(edu);

static void edu_free_vectors(void *pdev)
{
	pci_free_irq_vectors(pdev);
}

static int edu_probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct edu_guest *edu;
	int rc;

	edu = devm_kzalloc(&pdev->dev, sizeof(*edu), GFP_KERNEL);
	if (!edu)
		return -ENOMEM;
	rc = pcim_enable_device(pdev);
	if (rc)
		return rc;
	rc = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(EDU_DMA_BITS));
	if (rc)
		return rc;
	if (pci_resource_len(pdev, 0) != EDU_BAR_SIZE)
		return dev_err_probe(&pdev->dev, -ENODEV, "BAR 0 has %#llx bytes\n", (u64)pci_resource_len(pdev, 0));
	edu->bar = pcim_iomap_region(pdev, 0, KBUILD_MODNAME);
	if (IS_ERR(edu->bar))
		return PTR_ERR(edu->bar);
	edu->memory = dmam_alloc_coherent(&pdev->dev, PAGE_SIZE, &edu->dma, GFP_KERNEL);
	if (!edu->memory)
		return -ENOMEM;
	pci_set_master(pdev);
	rc = pci_alloc_irq_vectors(pdev, 1, 1, intx ? PCI_IRQ_INTX : PCI_IRQ_MSI);
	if (rc < 0)
		return dev_err_probe(&pdev->dev, rc, "no interrupt\n");
	rc = devm_add_action_or_reset(&pdev->dev, edu_free_vectors, pdev);
	if (rc)
		return rc;
	/* What somebody before us left raised. */
	writel(readl(edu->bar + EDU_IRQ_STATUS), edu->bar + EDU_IRQ_ACK);

	pci_set_drvdata(pdev, edu);
	edu->info = (struct uio_info) {
		.name = KBUILD_MODNAME,
		.version = "1",
		.mem[0] = {
			.name = "bar0",
			.memtype = UIO_MEM_PHYS,
			.addr = pci_resource_start(pdev, 0),
			.size = EDU_BAR_SIZE,
		},
		.mem[1] = {
			.name = "memory",
			.memtype = UIO_MEM_DMA_COHERENT,
			.addr = (phys_addr_t)edu->memory,
			.dma_addr = edu->dma,
			.dma_device = &pdev->dev,
			.size = PAGE_SIZE,
		},
		.irq = pci_irq_vector(pdev, 0),
		.irq_flags = intx ? IRQF_SHARED : 0,
		.handler = edu_handler,
		.priv = edu,
	};
	return devm_uio_register_device(&pdev->dev, &edu->info);
}

static const struct pci_device_id edu_ids[] = {
	{ PCI_DEVICE(0x1234, 0x11e8) },
	{ }
};
MODULE_DEVICE_TABLE(pci, edu_ids);

static struct pci_driver edu_driver = {
	.name = KBUILD_MODNAME,
	.id_table = edu_ids,
	.probe = edu_probe,
	.dev_groups = edu_groups,
};
module_pci_driver(edu_driver);

MODULE_DESCRIPTION("QEMU's edu device for a program in user space");
MODULE_LICENSE("GPL");
