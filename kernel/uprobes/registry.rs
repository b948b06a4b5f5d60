// SPDX-License-Identifier: GPL-2.0

//! Finding the probepoint of an address, and the watch of a process.

use crate::{
    probepoint::Probepoint,
    watch::Watch, //
};

use kernel::{
    mm::{
        Mm,
        MmWithUser, //
    },
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
    threads::ThreadGroup, //
};
use ubp::Vaddr;

/// An address of an address space.
type Key = (usize, Vaddr);

pub(crate) struct Registry {
    probepoints: RBTree<Key, Arc<Probepoint>>,
    /// The watch of a process with the image that it has now.
    watches: RBTree<ThreadGroup, Arc<Watch>>,
}

// SAFETY: Everything that it owns may be sent, and it is accessed under its lock only.
unsafe impl Send for Registry {}

kernel::sync::global_lock! {
    // SAFETY: `init` is called before anything else can reach the registry.
    unsafe(uninit) static REGISTRY: Mutex<Option<Registry>> = None;
}

static LAST_ID: Atomic<i64> = Atomic::new(0);

/// Initialises the registry.
///
/// # Safety
///
/// Called once, before any other function of this module.
pub(crate) unsafe fn init() {
    // SAFETY: By the requirement on the caller.
    unsafe { REGISTRY.init() };
    *REGISTRY.lock() = Some(Registry {
        probepoints: RBTree::new(),
        watches: RBTree::new(),
    });
}

/// Calls `f` with the registry locked.
fn with<R>(f: impl FnOnce(&mut Registry) -> R) -> Result<R> {
    REGISTRY.lock().as_mut().map(f).ok_or(ENODEV)
}

/// Returns a number that no registration has had.
pub(crate) fn new_id() -> u64 {
    LAST_ID.fetch_add(1, Relaxed) as u64
}

fn key(mm: &Mm, at: Vaddr) -> Key {
    // The probepoint keeps the address space from being freed, and so the number from being reused.
    (mm.as_raw() as usize, at)
}

/// Returns the probepoint of an address; a new one, if there is none.
pub(crate) fn probepoint(mm: &MmWithUser, at: Vaddr) -> Result<Arc<Probepoint>> {
    let key = key(mm, at);
    if let Some(found) = with(|registry| registry.probepoints.get(&key).cloned())? {
        return Ok(found);
    }
    let new = Probepoint::new(mm, at)?;
    let node = RBTreeNode::new(key, new.clone(), GFP_KERNEL)?;
    with(|registry| match registry.probepoints.get(&key) {
        Some(found) => found.clone(),
        None => {
            registry.probepoints.insert(node);
            new
        }
    })
}

/// Takes a probepoint that is dead out of the registry.
pub(crate) fn forget(probepoint: &Probepoint) {
    let key = key(&probepoint.mm, probepoint.at);
    let gone = with(|registry| {
        // A registrar may have made a new one already.
        let found = registry.probepoints.get(&key)?;
        if core::ptr::eq(Arc::as_ptr(found), probepoint) {
            registry.probepoints.remove(&key)
        } else {
            None
        }
    });
    drop(gone);
}

/// Calls `f` with each probepoint of an address space, no lock held.
pub(crate) fn for_each_probepoint(mm: &Mm, mut f: impl FnMut(&Arc<Probepoint>)) {
    let mut next = key(mm, Vaddr::new(0));
    loop {
        let found = with(|registry| {
            let cursor = registry.probepoints.cursor_lower_bound(&next)?;
            let (key, probepoint) = cursor.current();
            (key.0 == next.0).then(|| (*key, probepoint.clone()))
        });
        let Ok(Some((key, probepoint))) = found else {
            return;
        };
        f(&probepoint);
        match key.1.checked_add(1) {
            Some(at) => next = (key.0, at),
            None => return,
        }
    }
}

/// Returns the watch of a process, counting the caller as a user.
pub(crate) fn use_watch(group: ThreadGroup) -> Result<Option<Arc<Watch>>> {
    let found = with(|registry| {
        let watch = registry.watches.get(&group)?.clone();
        if watch.is_over() {
            // Of an image that the process had before. Its users keep it.
            registry.watches.remove(&group);
            return None;
        }
        watch.users(|users| *users += 1);
        Some(watch)
    })?;
    Ok(found)
}

/// Adds a watch, with the caller as its user; if there is one, returns that, as [`use_watch`] does.
pub(crate) fn add_watch(watch: &Arc<Watch>) -> Result<Arc<Watch>> {
    let group = watch.group();
    let node = RBTreeNode::new(group, watch.clone(), GFP_KERNEL)?;
    with(|registry| {
        let used = match registry.watches.get(&group) {
            Some(found) if !found.is_over() => found.clone(),
            _ => {
                registry.watches.insert(node);
                watch.clone()
            }
        };
        used.users(|users| *users += 1);
        used
    })
}

/// Gives up the use of a watch. Returns whether that was the last one.
pub(crate) fn unuse_watch(watch: &Arc<Watch>) -> bool {
    let last = with(|registry| {
        let last = watch.users(|users| {
            *users -= 1;
            *users == 0
        });
        let is_current = registry
            .watches
            .get(&watch.group())
            .is_some_and(|found| Arc::ptr_eq(found, watch));
        if last && is_current {
            registry.watches.remove(&watch.group());
        }
        last
    });
    matches!(last, Ok(true))
}
