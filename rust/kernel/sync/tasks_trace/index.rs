// SPDX-License-Identifier: GPL-2.0

//! The index of a map: a hash table, so that a lookup costs the same however many entries there
//! are.
//!
//! Collisions go to the next slots (linear probing). There are more slots than the hash has values,
//! so that nobody comes to the end. A key stays in its slot when its entry is taken out, so that
//! those behind it are still found; it is dropped when the table is replaced, which is done when
//! there are half as many keys as the hash has values, or when most keys have no entry any more.

use super::{
    read_lock,
    BuiltIn,
    Guard,
    Published, //
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

/// The key of a slot that has none.
const NO_KEY: usize = usize::MAX;

/// Values that a hash has at least, as a power of two.
const MIN_BITS: u32 = 4;

/// 2^64 divided by the golden ratio: multiples of it are spread evenly, whatever the distance
/// between keys (Knuth, The Art of Computer Programming, volume 3, 6.4).
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// # Invariants
///
/// A slot that has a key keeps it. The value is null while there is no entry of that key.
struct Slot<T> {
    key: Atomic<usize>,
    value: Atomic<*mut T>,
}

/// # Invariants
///
/// With `1 << (64 - shift)` values of the hash, there are keys for half of them at most, and slots
/// for half as many again and one more. So the last slot has no key.
struct Table<T> {
    shift: u32,
    slots: KVVec<Slot<T>>,
}

// SAFETY: Slots hold pointers, which are of no particular thread.
unsafe impl<T> Send for Table<T> {}
// SAFETY: As above, and they are accessed by atomic operations.
unsafe impl<T> Sync for Table<T> {}

impl<T> Table<T> {
    /// Makes an empty table for a hash of `1 << bits` values.
    fn new(bits: u32, flags: Flags) -> Result<Self> {
        let values = 1usize.checked_shl(bits).ok_or(ENOMEM)?;
        let len = values.checked_add(values / 2 + 1).ok_or(ENOMEM)?;
        let mut slots = KVVec::with_capacity(len, flags)?;
        for _ in 0..len {
            let slot = Slot {
                key: Atomic::new(NO_KEY),
                value: Atomic::new(core::ptr::null_mut()),
            };
            slots.push_within_capacity(slot).map_err(|_| ENOMEM)?;
        }
        // INVARIANT: So many have been pushed, none with a key.
        let shift = u64::BITS - bits;
        Ok(Self { shift, slots })
    }

    /// How many keys there may be.
    fn room(&self) -> usize {
        1 << (u64::BITS - self.shift - 1)
    }

    /// Returns the slot that has `key`, or else the one that is to get it, and what key it has.
    #[inline]
    fn slot(&self, key: usize) -> (&Slot<T>, usize) {
        let first = ((key as u64).wrapping_mul(GOLDEN) >> self.shift) as usize;
        // SAFETY: By the type invariants there are more slots than the shift leaves values.
        let mut slot = unsafe { self.slots.as_ptr().add(first) };
        loop {
            // SAFETY: By the type invariants the last slot has no key, and nobody goes on from one
            // that has none.
            let here = unsafe { &*slot };
            let found = here.key.load(Acquire);
            if found == key || found == NO_KEY {
                return (here, found);
            }
            // SAFETY: As above: it was not the last one.
            slot = unsafe { slot.add(1) };
        }
    }

    /// Returns the entry of `key`, or null.
    #[inline]
    fn get(&self, key: usize) -> *mut T {
        self.slot(key).0.value.load(Acquire)
    }

    /// Makes a larger or smaller one, of the same entries, with room for one more.
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

    /// Sets an entry of a key that has none, and for which there is room. Returns whether the key
    /// is new.
    fn set(&self, key: usize, value: *mut T) -> bool {
        let (slot, found) = self.slot(key);
        slot.value.store(value, Release);
        let is_new = found == NO_KEY;
        if is_new {
            // Who sees the key sees the value.
            slot.key.store(key, Release);
        }
        is_new
    }
}

/// The size of a table, as a power of two, that is a quarter full at most.
fn bits_for(count: usize) -> u32 {
    let slots = count.saturating_mul(4);
    MIN_BITS.max(usize::BITS - slots.leading_zeros())
}

/// Finds entries by their keys, for a [`super::Map`], which owns them.
///
/// # Invariants
///
/// `table` always holds one.
pub(super) struct Index<T: 'static> {
    table: Published<Table<T>>,
}

/// How much of an index is used. Who has it is the one who changes the index.
#[derive(Default)]
pub(super) struct Used {
    /// Slots that have a key.
    keys: usize,
    entries: usize,
}

impl Used {
    /// Whether most keys have no entry. Those only delay who comes by.
    fn is_mostly_left_over(&self) -> bool {
        self.keys > self.entries.saturating_mul(2).saturating_add(1)
    }

    /// The lock of a map's index.
    // One lock class for all maps, of whatever type and crate: lockdep compares names by address.
    #[inline(never)]
    pub(super) fn new_lock() -> impl PinInit<Mutex<Self>> {
        new_mutex!(Self::default(), "tasks_trace::Map")
    }
}

impl<T: 'static> Index<T> {
    pub(super) fn new(built_in: BuiltIn) -> Result<Self> {
        let table = Published::empty(built_in);
        table.publish(Table::new(MIN_BITS, GFP_KERNEL)?, GFP_KERNEL)?;
        // INVARIANT: It has been published, and nothing but other tables are published later.
        Ok(Self { table })
    }

    #[inline]
    fn table<'a>(&'a self, guard: &'a Guard) -> &'a Table<T> {
        // SAFETY: By the type invariants.
        unsafe { self.table.read(guard).unwrap_unchecked() }
    }

    /// Returns the entry of `key`, or null.
    #[inline]
    pub(super) fn get(&self, key: usize, guard: &Guard) -> *mut T {
        self.table(guard).get(key)
    }

    /// Makes room for one more key. May sleep if `flags` allow it.
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

    /// Takes out the entry of `key`, if there is one.
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

    /// An entry that can be told from others.
    fn entry(number: usize) -> *mut u8 {
        core::ptr::without_provenance_mut(number + 1)
    }

    #[test]
    fn entries_are_found_by_their_keys() -> Result {
        let (index, mut used) = (Index::new(BUILT_IN)?, Used::default());
        // Keys as those of functions and of pages, and such that differ in the upper bits only.
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
    fn what_is_taken_out_hides_nobody() -> Result {
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
        // It has been remade many times, and has not grown.
        assert!(used.keys < 16);
        assert_eq!(used.entries, 0);
        Ok(())
    }

    #[test]
    fn what_is_taken_out_is_soon_forgotten() -> Result {
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
    fn the_key_that_none_has_is_not_found() -> Result {
        let (index, mut used) = (Index::<u8>::new(BUILT_IN)?, Used::default());
        assert!(index.get(NO_KEY, &read_lock()).is_null());
        index.reserve(&mut used, GFP_KERNEL)?;
        index.take_out(&mut used, NO_KEY);
        assert!(index.get(NO_KEY, &read_lock()).is_null());
        Ok(())
    }

    #[test]
    fn tables_are_a_quarter_full_at_most() {
        assert_eq!(bits_for(0), MIN_BITS);
        for count in 1..5000 {
            assert!(4 * count <= 1 << bits_for(count));
        }
    }
}
