// SPDX-License-Identifier: GPL-2.0

//! The places of a file probe, by address space.

use super::{
    counter::Counted,
    place::Place, //
};
use crate::probepoint::Probepoint;

use kernel::{
    mm::Mm,
    prelude::*,
    rbtree::RBTree,
    sync::Arc, //
};
use ubp::Vaddr;

/// Key of a place: address of the `mm_struct`, and address in the address space.
pub(super) type Key = (usize, Vaddr);

/// A place, and what the probe has there.
pub(super) struct Placed {
    pub(super) place: Arc<Place>,
    pub(super) probepoint: Arc<Probepoint>,
    /// The increment of the reference counter for this place.
    pub(super) counted: Option<Counted>,
}

/// The places of a file probe.
pub(super) struct Places {
    pub(super) by_space: RBTree<Key, Placed>,
    /// Whether the last consumer has been unregistered.
    pub(super) is_over: bool,
}

// SAFETY: The tree owns its nodes. Their keys and values are `Send`, and the mutex around this
// serialises all accesses.
unsafe impl Send for Places {}

pub(super) fn key(mm: &Mm, at: Vaddr) -> Key {
    // The reference that the place holds ensures that the pointer is not reused.
    (mm.as_raw() as usize, at)
}

/// Returns the lowest key above another one.
fn behind(key: Key) -> Key {
    match key.1.checked_add(1) {
        Some(above) => (key.0, above),
        None => (key.0 + 1, Vaddr::new(0)),
    }
}

impl Places {
    /// Returns the first key that is not less than `from`, and what `f` returns for the place.
    pub(super) fn first_from<R>(
        &self,
        from: &Key,
        f: impl FnOnce(&Placed) -> R,
    ) -> Option<(Key, R)> {
        let cursor = self.by_space.cursor_lower_bound(from)?;
        let (key, placed) = cursor.current();
        Some((*key, f(placed)))
    }

    /// Calls `f` for each place in an address space.
    pub(super) fn for_each_in(
        &mut self,
        mm: &Mm,
        mut f: impl FnMut(&mut Placed) -> Result,
    ) -> Result {
        let first = key(mm, Vaddr::new(0));
        let mut cursor = self.by_space.cursor_lower_bound_mut(&first);
        while let Some(mut here) = cursor {
            let (key, placed) = here.current_mut();
            if key.0 != first.0 {
                break;
            }
            f(placed)?;
            cursor = here.move_next();
        }
        Ok(())
    }

    /// Removes a place of an address space that is in unmapped text from the list, and returns it.
    pub(super) fn take_gone(&mut self, mm: &Mm) -> Option<Placed> {
        let mut next = key(mm, Vaddr::new(0));
        let space = next.0;
        loop {
            let (key, is_gone) = self.first_from(&next, |it| it.probepoint.is_gone())?;
            if key.0 != space {
                return None;
            }
            if is_gone {
                return self.by_space.remove(&key);
            }
            next = behind(key);
        }
    }

    /// Takes out the first place from `next` on that `is_it` holds for. Sets `next` to the key
    /// behind it.
    pub(super) fn take_from(
        &mut self,
        next: &mut Key,
        is_it: impl Fn(&Placed) -> bool,
    ) -> Option<Placed> {
        loop {
            let (key, is_found) = self.first_from(next, &is_it)?;
            *next = behind(key);
            if is_found {
                return self.by_space.remove(&key);
            }
        }
    }
}
