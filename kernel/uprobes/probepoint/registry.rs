// SPDX-License-Identifier: GPL-2.0

//! The registry of probepoints, by address space and address.

use super::Probepoint;

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
    sync::Arc, //
};
use ubp::Vaddr;

/// Key of a probepoint: address of the `mm_struct`, and address in the address space.
pub(super) type Key = (usize, Vaddr);

/// The probepoints, by their addresses.
struct Registry(RBTree<Key, Arc<Probepoint>>);

// SAFETY: The tree owns its nodes. Their keys and values are `Send`, and the mutex around this
// serialises all accesses.
unsafe impl Send for Registry {}

kernel::sync::global_lock! {
    // SAFETY: `uprobes_init()` calls `init` at boot, before any process can be probed.
    unsafe(uninit) static REGISTRY: Mutex<Option<Registry>> = None;
}

/// Initialises the registry.
///
/// # Safety
///
/// Must be called once, before any other function of this module.
pub(crate) unsafe fn init() {
    // SAFETY: The caller ensures that this is the only call, and that nothing has used the lock.
    unsafe { REGISTRY.init() };
    *REGISTRY.lock() = Some(Registry(RBTree::new()));
}

/// Calls `f` with the registry locked.
fn with_registry<R>(f: impl FnOnce(&mut RBTree<Key, Arc<Probepoint>>) -> R) -> Result<R> {
    (REGISTRY.lock().as_mut())
        .map(|registry| f(&mut registry.0))
        .ok_or(ENODEV)
}

fn key(mm: &Mm, at: Vaddr) -> Key {
    // The reference that the probepoint holds ensures that the pointer is not reused.
    (mm.as_raw() as usize, at)
}

/// Returns the probepoint of an address, if there is one.
pub(super) fn find(mm: &Mm, at: Vaddr) -> Option<Arc<Probepoint>> {
    let found = with_registry(|registry| registry.get(&key(mm, at)).cloned());
    found.ok().flatten()
}

/// Returns the probepoint of an address. Creates it if there is none.
pub(super) fn find_or_add(mm: &MmWithUser, at: Vaddr) -> Result<Arc<Probepoint>> {
    if let Some(found) = find(mm, at) {
        return Ok(found);
    }
    let key = key(mm, at);
    let new = Probepoint::new(mm, at)?;
    let node = RBTreeNode::new(key, new.clone(), GFP_KERNEL_ACCOUNT)?;
    with_registry(|registry| match registry.get(&key) {
        Some(found) => found.clone(),
        None => {
            registry.insert(node);
            new
        }
    })
}

/// Removes a dead probepoint from the registry.
pub(super) fn forget(probepoint: &Probepoint) {
    let key = key(&probepoint.mm, probepoint.at);
    let gone = with_registry(|registry| {
        // `find_or_add()` may have added a new one already.
        let found = registry.get(&key)?;
        if core::ptr::eq(Arc::as_ptr(found), probepoint) {
            registry.remove(&key)
        } else {
            None
        }
    });
    drop(gone);
}

/// Calls `f` for each probepoint of an address space, with no lock held.
pub(crate) fn for_each(mm: &Mm, mut f: impl FnMut(&Arc<Probepoint>)) {
    let mut next = key(mm, Vaddr::new(0));
    loop {
        let found = with_registry(|registry| {
            let cursor = registry.cursor_lower_bound(&next)?;
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
