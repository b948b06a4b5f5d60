// SPDX-License-Identifier: GPL-2.0

//! The file probes, by file and offset.

use super::probe::FileProbe;

use kernel::{
    mm::file::InodeId,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
};

type Key = (InodeId, u64);

struct Table(RBTree<Key, Arc<FileProbe>>);

// SAFETY: The tree owns its nodes. Their keys and values are `Send`, and the mutex around this
// serialises all accesses.
unsafe impl Send for Table {}

kernel::sync::global_lock! {
    // SAFETY: `uprobes_init()` calls `init` at boot, before anything can be registered.
    unsafe(uninit) static TABLE: Mutex<Option<Table>> = None;
}

/// Number of file probes. Every `mmap()` reads it, to return early if there are none.
static PROBES: Atomic<i64> = Atomic::new(0);

/// Initialises the table.
///
/// # Safety
///
/// Must be called once, before any other function of this module.
pub(crate) unsafe fn init() {
    // SAFETY: The caller ensures that this is the only call, and that nothing has used the lock.
    unsafe { TABLE.init() };
    *TABLE.lock() = Some(Table(RBTree::new()));
}

/// Returns whether there are no file probes.
#[inline]
pub(super) fn is_empty() -> bool {
    PROBES.load(Relaxed) == 0
}

/// Calls `f` with the table locked.
fn with_table<R>(f: impl FnOnce(&mut RBTree<Key, Arc<FileProbe>>) -> R) -> Result<R> {
    (TABLE.lock().as_mut())
        .map(|table| f(&mut table.0))
        .ok_or(ENODEV)
}

/// Returns the probe at the place in the file of `new`. Adds `new` if there is none.
pub(super) fn find_or_add(new: Arc<FileProbe>) -> Result<Arc<FileProbe>> {
    let key = (new.inode(), new.offset);
    let node = RBTreeNode::new(key, new.clone(), GFP_KERNEL)?;
    with_table(|table| match table.get(&key) {
        Some(found) => found.clone(),
        None => {
            PROBES.fetch_add(1, Relaxed);
            table.insert(node);
            new
        }
    })
}

/// Removes a probe from the table.
pub(super) fn remove(probe: &FileProbe) {
    let removed = with_table(|table| table.remove(&(probe.inode(), probe.offset)));
    if let Ok(Some(_)) = removed {
        PROBES.fetch_sub(1, Relaxed);
    }
}

/// Returns the first probe of a file at an offset of `start` or more, and less than `end`.
///
/// Context: may sleep. The mmap lock may be held.
pub(super) fn next(inode: InodeId, start: u64, end: u64) -> Option<Arc<FileProbe>> {
    let found = with_table(|table| {
        let cursor = table.cursor_lower_bound(&(inode, start))?;
        let (key, probe) = cursor.current();
        (key.0 == inode && key.1 < end).then(|| probe.clone())
    });
    found.ok().flatten()
}

/// Calls `f` for each probe of a file at the offsets `start..end`.
pub(super) fn for_each(
    inode: InodeId,
    start: u64,
    end: u64,
    mut f: impl FnMut(Arc<FileProbe>) -> Result,
) -> Result {
    let mut start = start;
    while let Some(probe) = next(inode, start, end) {
        start = probe.offset + 1;
        f(probe)?;
    }
    Ok(())
}
