// SPDX-License-Identifier: GPL-2.0

//! A map from an index to a cell, with lookups that take no lock.

use super::{
    index::{
        Index,
        Used, //
    },
    BuiltIn,
    Guard,
    RcuBox, //
};

use crate::{
    alloc::Flags,
    bindings,
    error::to_result,
    prelude::*,
    sync::Mutex,
    types::Opaque, //
};

use core::{
    marker::PhantomData,
    ops::RangeInclusive,
    ptr::NonNull, //
};

/// A map from `usize` to `T`, read under a Tasks Trace RCU [`Guard`].
///
/// Lookups and walks take no lock and write nothing. A lookup takes the same time for any number of
/// entries. Changes take a mutex, which only protects changes of the map and the allocations for
/// them.
///
/// C header: [`include/linux/maple_tree.h`](srctree/include/linux/maple_tree.h)
///
/// # Invariants
///
/// `tree` is in RCU mode. Each of its entries has one index and owns an [`RcuBox`], which is
/// retired when it is removed from the tree. The entries of `index` are entries of the tree.
#[pin_data(PinnedDrop)]
pub struct Map<T: Send + Sync + 'static> {
    #[pin]
    tree: Opaque<bindings::maple_tree>,
    index: Index<RcuBox<T>>,
    #[pin]
    used: Mutex<Used>,
    _owns: PhantomData<T>,
}

// SAFETY: The tree is protected by its own lock and by RCU, and owns values that are `Send`.
unsafe impl<T: Send + Sync + 'static> Send for Map<T> {}
// SAFETY: The tree is protected by its own lock and by RCU. The map returns references to values
// that are `Sync`.
unsafe impl<T: Send + Sync + 'static> Sync for Map<T> {}

impl<T: Send + Sync + 'static> Map<T> {
    /// Creates an empty map. Sleeps.
    pub fn new(built_in: BuiltIn) -> impl PinInit<Self, Error> {
        try_pin_init!(Self {
            index: Index::new(built_in)?,
            // SAFETY: `slot` is valid for a write, and pinned until `drop` has emptied the tree.
            tree <- Opaque::ffi_init(|slot| unsafe {
                bindings::mt_init_flags(slot, bindings::MT_FLAGS_USE_RCU)
            }),
            used <- Used::new_lock(),
            _owns: PhantomData,
        })
    }

    /// Returns the entry of `index`.
    // Always inlined: it is short, and some callers call it in several places.
    #[inline(always)]
    pub fn get<'a>(&'a self, index: usize, guard: &'a Guard) -> Option<&'a T> {
        let cell = self.index.get(index, guard);
        // SAFETY: By the type invariants an entry is a valid cell, and `guard` keeps it allocated
        // if it is removed during `'a`.
        unsafe { cell.as_ref() }.map(|cell| &cell.value)
    }

    /// Returns the first entry within `range`, and its index.
    pub fn first<'a>(
        &'a self,
        range: RangeInclusive<usize>,
        _guard: &'a Guard,
    ) -> Option<(usize, &'a T)> {
        let mut next = *range.start();
        // SAFETY: By the type invariants the tree is valid and in RCU mode; `next` is valid for
        // reads and writes.
        let cell = unsafe { bindings::mt_find(self.tree.get(), &mut next, *range.end()) }
            .cast::<RcuBox<T>>();
        // SAFETY: By the type invariants an entry is a valid cell, and `_guard` keeps it allocated
        // if it is removed during `'a`.
        let cell = unsafe { cell.as_ref() }?;
        // An entry has one index, and `next` is the index after it.
        Some((next.wrapping_sub(1), &cell.value))
    }

    /// Returns the entries within `range`, in order. An entry that is added or removed during the
    /// iteration may be missed.
    pub fn range<'a>(
        &'a self,
        range: RangeInclusive<usize>,
        guard: &'a Guard,
    ) -> impl Iterator<Item = (usize, &'a T)> + 'a {
        let mut rest = Some(range);
        core::iter::from_fn(move || {
            let range = rest.take()?;
            let end = *range.end();
            let (index, value) = self.first(range, guard)?;
            rest = index
                .checked_add(1)
                .filter(|start| *start <= end)
                .map(|start| start..=end);
            Some((index, value))
        })
    }

    /// Adds an entry. May sleep.
    ///
    /// # Errors
    ///
    /// [`EEXIST`] if there is an entry of that index, [`EINVAL`] for [`usize::MAX`], [`ENOMEM`].
    pub fn insert(&self, index: usize, value: T, flags: Flags) -> Result {
        if index == usize::MAX {
            return Err(EINVAL);
        }
        let cell = RcuBox::new(value, flags)?;
        self.insert_cell(index, cell, flags).inspect_err(|_| {
            // SAFETY: The cell is from `RcuBox::new`, which takes it from a `KBox`, and the tree
            // did not take it.
            drop(unsafe { KBox::from_raw(cell.as_ptr()) })
        })
    }

    fn insert_cell(&self, index: usize, cell: NonNull<RcuBox<T>>, flags: Flags) -> Result {
        let mut used = self.used.lock();
        self.index.reserve(&mut used, flags)?;
        // SAFETY: The tree is valid by the type invariants.
        //
        // INVARIANT: On success the entry owns the cell.
        to_result(unsafe {
            bindings::mtree_insert(self.tree.get(), index, cell.as_ptr().cast(), flags.as_raw())
        })?;
        // INVARIANT: The entry is in the tree.
        self.index.set(&mut used, index, cell.as_ptr());
        Ok(())
    }

    /// Removes the entry of `index`. It is dropped after a grace period, for which this does not
    /// wait. Returns whether there was an entry. May sleep.
    pub fn remove(&self, index: usize) -> bool {
        let mut used = self.used.lock();
        // INVARIANT: The entry leaves the index before it leaves the tree.
        self.index.take_out(&mut used, index);
        // SAFETY: By the type invariants the tree is valid.
        //
        // INVARIANT: The cell leaves the tree and is retired.
        let cell = unsafe { bindings::mtree_erase(self.tree.get(), index) };
        let Some(cell) = NonNull::new(cell.cast::<RcuBox<T>>()) else {
            return false;
        };
        // SAFETY: By the type invariants the entry owned the cell. The cell has left the tree and
        // the index, so it cannot be found or retired again.
        unsafe { RcuBox::retire(cell) };
        true
    }
}

#[pinned_drop]
impl<T: Send + Sync + 'static> PinnedDrop for Map<T> {
    fn drop(self: Pin<&mut Self>) {
        let mut next = 0;
        loop {
            // SAFETY: The tree is valid by the type invariants, and no other code can use it while
            // it is dropped.
            let cell = unsafe { bindings::mt_find(self.tree.get(), &mut next, usize::MAX) };
            let Some(cell) = NonNull::new(cell.cast::<RcuBox<T>>()) else {
                break;
            };
            // SAFETY: By the type invariants the entry owns the cell. The tree, which still refers
            // to it, is destroyed below without reading entries, and `next` is past it.
            unsafe { RcuBox::retire(cell) };
            if next == 0 {
                // This was the last possible index.
                break;
            }
        }
        // The nodes are freed at once, because no reader can reach them. Leaving RCU mode also
        // avoids `mt_free_walk()`, which frees the nodes of a tree in RCU mode and takes the last
        // slot of an inner node for a child even where the node keeps its metadata there.
        //
        // SAFETY: The tree is valid by the type invariants, and no other code can use it.
        unsafe { bindings::mt_clear_in_rcu(self.tree.get()) };
        // SAFETY: The tree is valid, no other code can use it, and it is not used again.
        unsafe { bindings::mtree_destroy(self.tree.get()) };
    }
}

#[cfg(CONFIG_RUST_TASKS_TRACE_KUNIT_TEST)]
#[macros::kunit_tests(rust_tasks_trace)]
mod tests {
    use super::*;

    use crate::sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        tasks_trace::{
            read_lock,
            synchronize,
            RcuPointer, //
        },
        Arc, //
    };

    // SAFETY: The `kernel` crate is built in.
    const BUILT_IN: BuiltIn = unsafe { BuiltIn::new() };

    /// Value that counts how many of its kind are alive.
    struct Counted(Arc<Atomic<i32>>);

    impl Counted {
        fn new(count: &Arc<Atomic<i32>>) -> Self {
            count.fetch_add(1, Relaxed);
            Self(count.clone())
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(-1, Relaxed);
        }
    }

    /// Waits until all retired values have been dropped.
    fn settle() {
        synchronize();
        // SAFETY: The function may be called in any context that may sleep.
        unsafe { bindings::rcu_barrier_tasks_trace() };
    }

    #[test]
    fn entries_are_ordered() -> Result {
        let map = KBox::pin_init(Map::<u32>::new(BUILT_IN), GFP_KERNEL)?;
        for index in [30, 10, 20] {
            map.insert(index, index as u32 * 2, GFP_KERNEL)?;
        }
        assert_eq!(map.insert(20, 0, GFP_KERNEL), Err(EEXIST));

        let guard = read_lock();
        assert_eq!(map.get(20, &guard), Some(&40));
        assert_eq!(map.get(21, &guard), None);
        assert_eq!(map.first(11..=usize::MAX, &guard), Some((20, &40)));
        assert_eq!(map.first(31..=usize::MAX, &guard), None);
        assert!(map.range(10..=29, &guard).eq([(10, &20), (20, &40)]));
        assert!(map.range(0..=usize::MAX, &guard).count() == 3);
        drop(guard);

        assert!(map.remove(20));
        assert!(!map.remove(20));
        let guard = read_lock();
        assert_eq!(map.get(20, &guard), None);
        Ok(())
    }

    #[test]
    fn entries_outlive_readers() -> Result {
        let alive = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let map = KBox::pin_init(Map::new(BUILT_IN), GFP_KERNEL)?;
        for index in 0..100 {
            map.insert(index * 4096, Counted::new(&alive), GFP_KERNEL)?;
        }
        let guard = read_lock();
        let held = map.get(0, &guard);
        assert!(map.remove(0));
        assert!(held.is_some_and(|held| held.0.load(Relaxed) == 100));
        drop(guard);
        settle();
        assert_eq!(alive.load(Relaxed), 99);
        drop(map);
        settle();
        assert_eq!(alive.load(Relaxed), 0);
        Ok(())
    }

    #[test]
    fn maps_are_dropped() -> Result {
        let mut random = 1u64;
        let mut below = |limit: usize| {
            random = random
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            (random >> 32) as usize % limit
        };
        for round in 0..60 {
            let map = KBox::pin_init(Map::new(BUILT_IN), GFP_KERNEL)?;
            for count in 1..=2000 {
                // In ascending, descending or random order of indexes.
                let index = match round % 3 {
                    0 => count,
                    1 => 2000 - count,
                    _ => below(1 << 20),
                };
                // Duplicate indexes are rare and do not matter.
                let _ = map.insert(index * 16, (), GFP_KERNEL);
                // Many entries are removed again.
                if round % 4 > 0 && count % (64 << (round % 4)) == 0 {
                    let guard = read_lock();
                    for (index, ()) in map.range(0..=usize::MAX, &guard) {
                        if below(8) > round % 7 {
                            map.remove(index);
                        }
                    }
                }
            }
        }
        settle();
        // Nodes are freed by RCU.
        //
        // SAFETY: The function may be called in any context that may sleep.
        unsafe { bindings::rcu_barrier() };
        Ok(())
    }

    #[test]
    fn rcu_pointer_replaces_value() -> Result {
        let alive = Arc::new(Atomic::new(0), GFP_KERNEL)?;
        let published = RcuPointer::empty(BUILT_IN);
        assert!(published.read(&read_lock()).is_none());
        published.publish(Counted::new(&alive), GFP_KERNEL)?;
        published.publish(Counted::new(&alive), GFP_KERNEL)?;
        assert!(published.read(&read_lock()).is_some());
        settle();
        assert_eq!(alive.load(Relaxed), 1);
        published.clear();
        assert!(published.read(&read_lock()).is_none());
        settle();
        assert_eq!(alive.load(Relaxed), 0);
        Ok(())
    }
}
