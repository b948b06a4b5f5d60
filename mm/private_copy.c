// SPDX-License-Identifier: GPL-2.0
/*
 * Private copies of pages that the kernel makes to change the text of one process: lookup and
 * removal.
 */

#include <linux/cacheflush.h>
#include <linux/khugepaged.h>
#include <linux/leafops.h>
#include <linux/mm.h>
#include <linux/mm_inline.h>
#include <linux/mmu_notifier.h>
#include <linux/pagemap.h>
#include <linux/pagewalk.h>
#include <linux/private_copy.h>
#include <linux/rmap.h>
#include <linux/sched/signal.h>
#include <linux/swap.h>
#include <linux/userfaultfd_k.h>

#include <asm/tlbflush.h>

#include "internal.h"

/*
 * Returns the page at @addr, with a reference, if only this process has it. This stays so while
 * mmap_lock is held for writing, because fork() and KSM need that lock. Does not fault in pages.
 */
static struct page *private_copy_get(struct vm_area_struct *vma, unsigned long addr)
{
	struct page *page = NULL;
	struct folio_walk fw;
	struct folio *folio;

	folio = folio_walk_start(&fw, vma, addr, 0);
	if (!folio)
		return NULL;
	if (folio_test_anon(folio) && !folio_is_zone_device(folio) &&
	    ((fw.level == FW_LEVEL_PTE && PageAnonExclusive(fw.page)) ||
	     (fw.level == FW_LEVEL_PMD && PageAnonExclusive(&folio->page)))) {
		folio_get(folio);
		page = fw.page;
	}
	folio_walk_end(&fw, vma);
	return page;
}

/*
 * Returns whether the page at @addr was swapped out, or is being moved. The page may be back
 * already, so a page that is present counts as well, except for the zero page, which is never a
 * private copy.
 */
static bool is_away(struct vm_area_struct *vma, unsigned long addr)
{
	pmd_t *pmd = mm_find_pmd(vma->vm_mm, addr);
	softleaf_t entry;
	pte_t *pte, val;

	if (!pmd)
		return false;
	pte = pte_offset_map(pmd, addr);
	if (!pte) {
		pmd_t huge = pmdp_get_lockless(pmd);

		return !pmd_none(huge) && !(pmd_present(huge) && is_huge_zero_pmd(huge));
	}
	val = ptep_get(pte);
	pte_unmap(pte);
	if (pte_present(val))
		return !is_zero_pfn(pte_pfn(val));
	entry = softleaf_from_pte(val);
	return !softleaf_is_none(entry) && !softleaf_is_marker(entry);
}

/* Returns whether the page at @addr is anonymous. It may be shared, merged or swapped out. */
static bool is_private(struct vm_area_struct *vma, unsigned long addr)
{
	struct folio_walk fw;
	struct folio *folio;
	bool private;

	folio = folio_walk_start(&fw, vma, addr, 0);
	if (!folio)
		return is_away(vma, addr);
	private = folio_test_anon(folio) && !folio_is_zone_device(folio);
	folio_walk_end(&fw, vma);
	return private;
}

/*
 * Returns whether a userfaultfd would have to resolve an access to the page at @addr, which is
 * present.
 */
static bool is_access_tracked(struct vm_area_struct *vma, unsigned long addr)
{
	struct folio_walk fw;
	struct folio *folio;
	bool tracked;

	if (!userfaultfd_rwp(vma))
		return false;
	folio = folio_walk_start(&fw, vma, addr, 0);
	if (!folio)
		return false;
	if (fw.level == FW_LEVEL_PTE)
		tracked = pte_protnone(fw.pte) && userfaultfd_pte_rwp(vma, fw.pte);
	else
		tracked = fw.level == FW_LEVEL_PMD && pmd_protnone(fw.pmd) &&
			  userfaultfd_huge_pmd_rwp(vma, fw.pmd);
	folio_walk_end(&fw, vma);
	return tracked;
}

/**
 * private_copy_own - get the private page at an address, and make it exclusive to the process
 * @vma: the mapping; the mmap_lock of its address space is held for writing
 * @addr: the address of a page
 *
 * A private page that the process shares with a child or by KSM is copied, and a page that was
 * swapped out is read back. This does not wait for a filesystem or for user space, because a
 * private page is in memory or in swap, and because FAULT_FLAG_UNSHARE does not change contents: a
 * userfaultfd is not notified, and its write protection stays. A userfaultfd that tracks accesses
 * would take the fault for an access, so a shared page under its protection is not copied.
 *
 * Context: sleeps.
 * Return: the page, with a reference; %NULL if there is no private page; -%EAGAIN if the page must
 * be accessed first, so that a userfaultfd resolves the access; -%EINTR if the caller is killed;
 * -%ENOMEM and others, as for a page fault.
 */
struct page *private_copy_own(struct vm_area_struct *vma, unsigned long addr)
{
	bool again = false;
	struct page *page;
	vm_fault_t fault;

	if (is_vm_hugetlb_page(vma) || !vma_is_cow_mapping(vma) ||
	    vma->vm_flags & (VM_PFNMAP | VM_MIXEDMAP))
		return NULL;
	for (;;) {
		page = private_copy_get(vma, addr);
		if (page || !is_private(vma, addr))
			return page;
		if (is_access_tracked(vma, addr))
			return ERR_PTR(-EAGAIN);
		/* In such a mapping, a fault that finds no memory does not fail. */
		if (again && vma->vm_flags & VM_DROPPABLE)
			return ERR_PTR(-ENOMEM);
		if (again && fatal_signal_pending(current))
			return ERR_PTR(-EINTR);
		/* Faults as break_ksm() does. The fault may back out, and is then repeated. */
		fault = handle_mm_fault(vma, addr, FAULT_FLAG_UNSHARE | FAULT_FLAG_REMOTE, NULL);
		if (fault & VM_FAULT_ERROR)
			return ERR_PTR(vm_fault_to_errno(fault, 0));
		again = true;
		cond_resched();
	}
}

/*
 * Returns the page that a fault at @addr would map if there were no private page, with a reference:
 * the page of the file, if it is in the page cache and valid, or of a special mapping. Does not
 * wait for I/O.
 */
static struct page *get_original(struct vm_area_struct *vma, unsigned long addr)
{
	pgoff_t index = linear_page_index(vma, addr);
	struct vm_fault vmf = { .vma = vma, .address = addr, .pgoff = index };
	struct folio *folio;

	if (vma->vm_file) {
		folio = filemap_get_folio(vma->vm_file->f_mapping, index);
		if (IS_ERR(folio))
			return NULL;
		if (folio_test_uptodate(folio))
			return folio_file_page(folio, index);
		folio_put(folio);
		return NULL;
	}
	/*
	 * Without a file, only special mappings have a fault handler, which returns a page of the
	 * kernel. Mappings of page frames cannot be probed.
	 */
	if (!vma->vm_ops || !vma->vm_ops->fault || vma->vm_flags & (VM_PFNMAP | VM_MIXEDMAP))
		return NULL;
	return vma->vm_ops->fault(&vmf) ? NULL : vmf.page;
}

/*
 * Returns whether @folio has no references except those of page tables and caches. A new page has
 * another reference while it waits on some CPU to be moved to the LRU lists.
 */
static bool only_mapped(struct folio *folio)
{
	return folio_ref_count(folio) == folio_expected_ref_count(folio);
}

/* Returns whether the page at @addr may have a reference from such a batch. */
static bool is_in_batch(struct vm_area_struct *vma, unsigned long addr)
{
	struct folio_walk fw;
	struct folio *folio;
	bool batched;

	folio = folio_walk_start(&fw, vma, addr, 0);
	if (!folio)
		return false;
	batched = folio_test_anon(folio) && !only_mapped(folio);
	folio_walk_end(&fw, vma);
	return batched;
}

/*
 * Returns whether the contents of the page mapped at @addr, which is not accessible at the moment,
 * cannot change. If the process may not write to the mapping, only the owner of a pin writes to the
 * page, because debuggers need the mmap lock.
 */
static bool is_settled(struct vm_area_struct *vma, struct folio *folio)
{
	if (vma->vm_flags & VM_WRITE)
		return only_mapped(folio);
	return !folio_maybe_dma_pinned(folio);
}

/* Unmaps the page at @addr if it is a private one with the contents of @original. */
static bool zap_if_same(struct vm_area_struct *vma, unsigned long addr, struct page *original)
{
	struct folio_walk fw;
	struct folio *folio;
	bool zapped = false;

	folio = folio_walk_start(&fw, vma, addr, 0);
	if (!folio)
		return false;
	if (fw.level != FW_LEVEL_PTE || !folio_test_anon(folio) || folio_is_zone_device(folio) ||
	    !pages_identical(fw.page, original))
		goto end;

	/* As in __uprobe_write(): after this, a write to the page is complete, or faults. */
	flush_cache_page(vma, addr, pte_pfn(fw.pte));
	fw.pte = ptep_clear_flush(vma, addr, fw.ptep);
	zapped = is_settled(vma, folio) && pages_identical(fw.page, original);
	if (!zapped) {
		set_pte_at(vma->vm_mm, addr, fw.ptep, fw.pte);
		goto end;
	}
	dec_mm_counter(vma->vm_mm, MM_ANONPAGES);
	folio_remove_rmap_pte(folio, fw.page, vma);
	if (!folio_mapped(folio) && folio_test_swapcache(folio) && folio_trylock(folio)) {
		folio_free_swap(folio);
		folio_unlock(folio);
	}
	folio_put(folio);
end:
	folio_walk_end(&fw, vma);
	return zapped;
}

/**
 * private_copy_drop - give up a private copy that does not differ from its original any more
 * @vma: the mapping; the mmap_lock of its address space is held for writing
 * @addr: the address of a page
 *
 * A fault without the private copy would map a page of the file or of a special mapping. If the
 * private copy at @addr has the same contents, it is unmapped, and the next access maps that page.
 * If that page would have to be read from the file, the private copy stays.
 *
 * Context: sleeps, but does not wait for the file.
 * Return: whether the copy was given up.
 */
bool private_copy_drop(struct vm_area_struct *vma, unsigned long addr)
{
	struct page *original = get_original(vma, addr);
	struct mmu_notifier_range range;
	bool dropped;

	if (!original)
		return false;
	/* See is_settled(). Rare: most text is not writable, and most pages are in no batch. */
	if ((vma->vm_flags & VM_WRITE) && is_in_batch(vma, addr))
		lru_add_drain_all();

	mmu_notifier_range_init(&range, MMU_NOTIFY_CLEAR, 0, vma->vm_mm, addr, addr + PAGE_SIZE);
	mmu_notifier_invalidate_range_start(&range);
	dropped = zap_if_same(vma, addr, original);
	mmu_notifier_invalidate_range_end(&range);

	/*
	 * A private page splits the mapping of a huge page of a file. Now the mapping can be huge
	 * again.
	 */
	if (dropped && folio_test_pmd_mappable(page_folio(original)))
		collapse_pte_mapped_thp(vma->vm_mm, addr, false);
	put_page(original);
	return dropped;
}
