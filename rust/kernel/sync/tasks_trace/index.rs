// SPDX-License-Identifier: GPL-2.0

//! Index of a map: a hash table, so that a lookup takes the same time for any number of entries.
//!
//! Collisions go to the next slots (linear probing). There are more slots than the hash has values,
//! so that no search reaches the end. A key stays in its slot when its entry is removed, so that
//! searches still find the keys behind it. It is dropped when the table is replaced: when half as
//! many keys exist as the hash has values, or when most keys have no entry.

use super::{
    read_lock,
    BuiltIn,
    Guard,
    RcuPointer, //
};

use crate::{
    alloc::Flags,
    new_mutex,
    prelude::*,
    sync::{
        atomic::{
            Acquire,
            Atomic,
            Relaxed,
            Release, //
        },
        Mutex, //
    }, //
};

/// Key of an empty slot.
const NO_KEY: usize = usize::MAX;

/// Minimum number of values of a hash, as a power of two.
const MIN_BITS: u32 = 4;

/// 2^64 divided by the golden ratio: multiples of it are spread evenly, for any distance between
/// keys (Knuth, The Art of Computer Programming, volume 3, 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// # Invariants
///
/// A slot that has a key keeps it. The value is null while the key has no entry.
struct IndexSlot<T> {
    key: Atomic<usize>,
    value: Atomic<*mut T>,
}

/// # Invariants
///
/// The hash has `1 << (64 - shift)` values. There are keys for at most half of them. The number of
/// slots is one and a half times the number of values, plus one. So the last slot has no key.
struct IndexTable<T> {
    shift: u32,
    slots: KVVec<IndexSlot<T>>,
}

// SAFETY: Slots hold pointers, which are not bound to a thread.
unsafe impl<T> Send for IndexTable<T> {}
// SAFETY: Slots hold pointers, which are accessed by atomic operations only.
unsafe impl<T> Sync for IndexTable<T> {}

impl<T> IndexTable<T> {
    /// Creates an empty table for a hash of `1 << bits` values.
    fn new(bits: u32, flags: Flags) -> Result<Self> {
        let values = 1usize.checked_shl(bits).ok_or(ENOMEM)?;
        let len = values.checked_add(values / 2 + 1).ok_or(ENOMEM)?;
        let mut slots = KVVec::with_capacity(len, flags)?;
        for _ in 0..len {
            let slot = IndexSlot {
                key: Atomic::new(NO_KEY),
                value: Atomic::new(core::ptr::null_mut()),
            };
            slots.push_within_capacity(slot).map_err(|_| ENOMEM)?;
        }
        // INVARIANT: The loop has pushed `len` slots, none with a key.
        let shift = u64::BITS - bits;
        Ok(Self { shift, slots })
    }

    /// Returns how many keys the table may have.
    fn room(&self) -> usize {
        1 << (u64::BITS - self.shift - 1)
    }

    /// Returns the slot that has `key`, or else the empty slot for it, and the key in that slot.
    #[inline]
    fn slot(&self, key: usize) -> (&IndexSlot<T>, usize) {
        let first = ((key as u64).wrapping_mul(GOLDEN) >> self.shift) as usize;
        // SAFETY: By the type invariants there are more slots than the shift leaves values.
        let mut slot = unsafe { self.slots.as_ptr().add(first) };
        loop {
            // SAFETY: By the type invariants the last slot has no key, and the loop ends at a slot
            // without one.
            let here = unsafe { &*slot };
            let found = here.key.load(Acquire);
            if found == key || found == NO_KEY {
                return (here, found);
            }
            // SAFETY: The slot has a key, so by the type invariants it is not the last one.
            slot = unsafe { slot.add(1) };
        }
    }

    /// Returns the entry of `key`, or null.
    #[inline]
    fn get(&self, key: usize) -> *mut T {
        self.slot(key).0.value.load(Acquire)
    }

    /// Creates a larger or smaller table with the same entries and room for one more.
    fn remade(&self, flags: Flags) -> Result<(Self, usize)> {
        let entries = || {
            self.slots.iter().filter_map(|slot| {
                let value = slot.value.load(Relaxed);
                (!value.is_null()).then(|| (slot.key.load(Relaxed), value))
            })
        };
        let count = entries().count();
        let new = Self::new(bits_for(count + 1), flags)?;
        for (key, value) in entries() {
            new.set(key, value);
        }
        Ok((new, count))
    }

    /// Sets the entry of a key that has none, and for which there is room. Returns whether the key
    /// is new.
    fn set(&self, key: usize, value: *mut T) -> bool {
        let (slot, found) = self.slot(key);
        slot.value.store(value, Release);
        let is_new = found == NO_KEY;
        if is_new {
            // A reader that sees the key also sees the value.
            slot.key.store(key, Release);
        }
        is_new
    }
}

/// Returns the size, as a power of two, of a table that is at most a quarter full.
fn bits_for(count: usize) -> u32 {
    let slots = count.saturating_mul(4);
    MIN_BITS.max(usize::BITS - slots.leading_zeros())
}

/// Lookup of entries by their keys. A [`super::Map`] owns the entries.
///
/// # Invariants
///
/// `table` always has a table.
pub(super) struct Index<T: 'static> {
    table: RcuPointer<IndexTable<T>>,
}

/// Usage of an index. The holder may change the index.
#[derive(Default)]
pub(super) struct Used {
    /// Slots that have a key.
    keys: usize,
    entries: usize,
}

impl Used {
    /// Returns whether most keys have no entry. Such keys only slow searches down.
    fn is_mostly_left_over(&self) -> bool {
        self.keys > self.entries.saturating_mul(2).saturating_add(1)
    }

    /// Creates the lock of a map's index.
    // One lock class for all maps, of any type and crate: lockdep compares names by address.
    #[inline(never)]
    pub(super) fn new_lock() -> impl PinInit<Mutex<Self>> {
        new_mutex!(Self::default(), "tasks_trace::Map")
    }
}

impl<T: 'static> Index<T> {
    pub(super) fn new(built_in: BuiltIn) -> Result<Self> {
        let table = RcuPointer::empty(built_in);
        table.publish(IndexTable::new(MIN_BITS, GFP_KERNEL)?, GFP_KERNEL)?;
        // INVARIANT: A table has been published, and it is only ever replaced by other tables.
        Ok(Self { table })
    }

    #[inline]
    fn table<'a>(&'a self, guard: &'a Guard) -> &'a IndexTable<T> {
        // SAFETY: By the type invariants `table` has a table.
        unsafe { self.table.read(guard).unwrap_unchecked() }
    }

    /// Returns the entry of `key`, or null.
    #[inline]
    pub(super) fn get(&self, key: usize, guard: &Guard) -> *mut T {
        self.table(guard).get(key)
    }

    /// Makes room for one more key. May sleep if `flags` permit it.
    pub(super) fn reserve(&self, used: &mut Used, flags: Flags) -> Result {
        let guard = read_lock();
        let table = self.table(&guard);
        if used.keys < table.room() && !used.is_mostly_left_over() {
            return Ok(());
        }
        let (new, count) = table.remade(flags)?;
        self.table.publish(new, flags)?;
        used.keys = count;
        Ok(())
    }

    /// Sets the entry of `key`, which has none, and for which there is room.
    pub(super) fn set(&self, used: &mut Used, key: usize, value: *mut T) {
        used.keys += usize::from(self.table(&read_lock()).set(key, value));
        used.entries += 1;
    }

    /// Removes the entry of `key`, if there is one.
    pub(super) fn take_out(&self, used: &mut Used, key: usize) {
        let guard = read_lock();
        let (slot, found) = self.table(&guard).slot(key);
        if found == key && !slot.value.load(Relaxed).is_null() {
            slot.value.store(core::ptr::null_mut(), Release);
            used.entries -= 1;
        }
    }
}

#[cfg(CONFIG_RUST_TASKS_TRACE_KUNIT_TEST)]
#[macros::kunit_tests(rust_tasks_trace_index)]
mod tests {
    use super::*;

    // SAFETY: The `kernel` crate is built in.
    const BUILT_IN: BuiltIn = unsafe { BuiltIn::new() };

    /// Creates a distinguishable entry.
    fn entry(number: usize) -> *mut u8 {
        core::ptr::without_provenance_mut(number + 1)
    }

    #[test]
    fn find_by_key() -> Result {
        let (index, mut used) = (Index::new(BUILT_IN)?, Used::default());
        // Distances as between functions and between pages, and keys that differ only in the upper
        // bits.
        for distance in [1, 16, 4096, 1 << 40] {
            for number in 0..1000 {
                index.reserve(&mut used, GFP_KERNEL)?;
                index.set(&mut used, number * distance, entry(number));
            }
            let guard = read_lock();
            for number in 0..1000 {
                assert_eq!(index.get(number * distance, &guard), entry(number));
            }
            assert!(index.get(1000 * distance + 1, &guard).is_null());
        }
        Ok(())
    }

    #[test]
    fn removal_keeps_other_entries() -> Result {
        let (index, mut used) = (Index::new(BUILT_IN)?, Used::default());
        for round in 0..200 {
            for number in 0..7 {
                index.reserve(&mut used, GFP_KERNEL)?;
                index.set(&mut used, number + round, entry(number));
            }
            for number in 0..7 {
                index.take_out(&mut used, number + round);
                let guard = read_lock();
                assert!(index.get(number + round, &guard).is_null());
                for other in number + 1..7 {
                    assert_eq!(index.get(other + round, &guard), entry(other));
                }
            }
        }
        // The table has been replaced many times, and has not grown.
        assert!(used.keys < 16);
        assert_eq!(used.entries, 0);
        Ok(())
    }

    #[test]
    fn removed_keys_are_dropped() -> Result {
        let (index, mut used) = (Index::new(BUILT_IN)?, Used::default());
        index.set(&mut used, 0, entry(0));
        for key in 1..100 {
            index.reserve(&mut used, GFP_KERNEL)?;
            index.set(&mut used, key, entry(key));
            assert!(used.keys <= 4);
            index.take_out(&mut used, key);
        }
        assert_eq!(used.entries, 1);
        assert_eq!(index.get(0, &read_lock()), entry(0));
        Ok(())
    }

    #[test]
    fn unused_key_is_not_found() -> Result {
        let (index, mut used) = (Index::<u8>::new(BUILT_IN)?, Used::default());
        assert!(index.get(NO_KEY, &read_lock()).is_null());
        index.reserve(&mut used, GFP_KERNEL)?;
        index.take_out(&mut used, NO_KEY);
        assert!(index.get(NO_KEY, &read_lock()).is_null());
        Ok(())
    }

    #[test]
    fn load_factor() {
        assert_eq!(bits_for(0), MIN_BITS);
        for count in 1..5000 {
            assert!(4 * count <= 1 << bits_for(count));
        }
    }
}
