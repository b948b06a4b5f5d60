/* SPDX-License-Identifier: GPL-2.0 */
/* Private copies of pages, made to change the text of one process. */
#ifndef _LINUX_PRIVATE_COPY_H
#define _LINUX_PRIVATE_COPY_H

#include <linux/types.h>

struct page;
struct vm_area_struct;

struct page *private_copy_own(struct vm_area_struct *vma, unsigned long addr);
bool private_copy_drop(struct vm_area_struct *vma, unsigned long addr);

#endif /* _LINUX_PRIVATE_COPY_H */
