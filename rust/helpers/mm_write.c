// SPDX-License-Identifier: GPL-2.0

#include <linux/cacheflush.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/pagemap.h>
#include <linux/userfaultfd_k.h>

__rust_helper int rust_helper_mmap_write_lock_killable(struct mm_struct *mm)
{
	return mmap_write_lock_killable(mm);
}

__rust_helper void rust_helper_mmap_write_lock(struct mm_struct *mm)
{
	mmap_write_lock(mm);
}

__rust_helper void rust_helper_mmap_write_unlock(struct mm_struct *mm)
{
	mmap_write_unlock(mm);
}

__rust_helper void rust_helper_vma_start_write(struct vm_area_struct *vma)
{
	vma_start_write(vma);
}

__rust_helper void rust_helper_vm_flags_clear(struct vm_area_struct *vma,
					      vm_flags_t flags)
{
	vm_flags_clear(vma, flags);
}

__rust_helper void rust_helper_vm_flags_set(struct vm_area_struct *vma,
					    vm_flags_t flags)
{
	vm_flags_set(vma, flags);
}

__rust_helper bool rust_helper_userfaultfd_armed(struct vm_area_struct *vma)
{
	return userfaultfd_armed(vma);
}

__rust_helper pgoff_t rust_helper_linear_page_index(struct vm_area_struct *vma,
						    unsigned long address)
{
	return linear_page_index(vma, address);
}

__rust_helper void rust_helper_get_page(struct page *page)
{
	get_page(page);
}

__rust_helper void rust_helper_put_page(struct page *page)
{
	put_page(page);
}

__rust_helper int rust_helper_PageAnon(struct page *page)
{
	return PageAnon(page);
}

__rust_helper void rust_helper_copy_to_user_page(struct vm_area_struct *vma, struct page *page,
						 unsigned long addr, void *dst,
						 const void *src, unsigned long len)
{
	copy_to_user_page(vma, page, addr, dst, src, len);
}

/*
 * Faults in the page at @addr, for a write or for a read. Waits for the filesystem until the
 * caller is killed, and for the handler of the mapping's userfaultfd until a signal arrives.
 */
__rust_helper int rust_helper_fault_in_remote(struct mm_struct *mm, unsigned long addr, bool write)
{
	unsigned int flags = FOLL_FORCE | FOLL_INTERRUPTIBLE | (write ? FOLL_WRITE : 0);
	int locked = 1;
	long got;

	if (mmap_read_lock_killable(mm))
		return -EINTR;
	got = get_user_pages_remote(mm, addr, 1, flags, NULL, &locked);
	if (locked)
		mmap_read_unlock(mm);
	return got < 0 ? got : 0;
}
