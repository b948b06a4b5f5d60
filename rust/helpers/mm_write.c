// SPDX-License-Identifier: GPL-2.0

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

__rust_helper bool rust_helper_page_maybe_dma_pinned(struct page *page)
{
	return folio_maybe_dma_pinned(page_folio(page));
}

/* The page of the page cache, if it is there and valid, with a reference. */
__rust_helper struct page *
rust_helper_find_uptodate_page(struct address_space *mapping, pgoff_t index)
{
	struct folio *folio = filemap_get_folio(mapping, index);

	if (IS_ERR(folio))
		return NULL;
	if (!folio_test_uptodate(folio)) {
		folio_put(folio);
		return NULL;
	}
	return folio_file_page(folio, index);
}
