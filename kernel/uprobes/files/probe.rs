// SPDX-License-Identifier: GPL-2.0

//! A file probe: its consumers, and its places in address spaces.
//!
//! # The life of a file probe
//!
//! ```text
//!            first consumer             last consumer unregistered
//!   New ------------------> Used ---------------------------------> Over (not in the table)
//! ```
//!
//! A probe that is over stays over. A registration that finds one looks in the table again.

use super::{
    consumer::FileConsumer,
    place::Place,
    places::{
        key,
        Placed,
        Places, //
    },
    table,
    thread, //
};
use crate::{
    entry::FilePlace,
    probe::new_id,
    probepoint::{
        self,
        Probepoint,
        Text, //
    },
    BUILT_IN, //
};

use core::ptr::NonNull;
use kernel::{
    bindings, impl_has_work,
    mm::{
        file::{
            Inode,
            InodeId, //
        },
        virt::VmaRef,
        Mm,
        MmWithUser, //
    },
    new_mutex, new_work,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNodeReservation, //
    },
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        tasks_trace::{
            self,
            Guard,
            RcuPointer, //
        },
        Arc,
        Mutex, //
    },
    task::Task,
    time::{
        delay::fsleep,
        Delta, //
    },
    workqueue::{
        self,
        Work,
        WorkItem, //
    },
};
use ubp::Vaddr;

/// How often a registration reads the list of mappings at most. It finds something new more than a
/// few times only if processes fork all the while. Then most of what it finds are children that are
/// about to copy the place of their parent. To be missed, a process would have to be the last one
/// of as many generations, each of which has forked before its parent got a place.
const MAX_SCANS: usize = 16;

/// An offset in a file that has consumers.
#[pin_data]
pub(crate) struct FileProbe {
    /// `None`: the probe is over. A chain may drop the last reference to the probe, after a grace
    /// period, where nothing may sleep, so the inode is put before.
    #[pin]
    inode: Mutex<Option<ARef<Inode>>>,
    inode_id: InodeId,
    pub(super) offset: u64,
    /// Offset of the reference counter, or 0 if there is none.
    pub(super) counter_offset: u64,
    /// The consumers, in the order of registration. Changed with `places` locked.
    consumers: RcuPointer<KVec<FileConsumer>>,
    /// Whether a consumer wants to know of returns.
    pub(super) wants_returns: Arc<Atomic<bool>>,
    #[pin]
    removing: Mutex<()>,
    #[pin]
    pub(super) places: Mutex<Places>,
    /// Removes places at which no consumer wants to be called any more.
    #[pin]
    work: Work<Self>,
}

impl_has_work! {
    impl HasWork<Self> for FileProbe { self.work }
}

impl FileProbe {
    fn new(inode: &Inode, offset: u64, counter_offset: u64) -> Result<Arc<Self>> {
        let inode_id = inode.id();
        let wants_returns = Arc::new(Atomic::new(false), GFP_KERNEL)?;
        Arc::pin_init(
            pin_init!(Self {
                inode <- new_mutex!(Some(ARef::from(inode))),
                inode_id,
                offset,
                counter_offset,
                consumers: RcuPointer::empty(BUILT_IN),
                wants_returns,
                removing <- new_mutex!(()),
                places <- new_mutex!(Places {
                    by_space: RBTree::new(),
                    is_over: false,
                }),
                work <- new_work!("uprobes::FileProbe"),
            }),
            GFP_KERNEL,
        )
    }

    /// Registers a consumer at an offset of a file.
    ///
    /// Context: may sleep, and wait for page faults.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the consumer has no handler, or the probe has another reference counter.
    /// `ENOTSUPP`: the instruction cannot be probed in any process that maps it. `EINTR`: the
    /// caller has been killed. `ENOMEM`.
    ///
    /// # Safety
    ///
    /// `consumer` must be valid until it has been passed to [`FileProbe::unregister`] and a grace
    /// period of Tasks Trace RCU has elapsed; or until this function has returned an error.
    pub(super) unsafe fn register(
        inode: &Inode,
        offset: u64,
        counter_offset: u64,
        consumer: NonNull<bindings::uprobe_consumer>,
    ) -> Result<Arc<Self>> {
        // SAFETY: The caller keeps `consumer` valid until a grace period after it is unregistered.
        let mut consumer = unsafe { FileConsumer::new(consumer) }?;
        let probe = loop {
            let probe = table::find_or_add(Self::new(inode, offset, counter_offset)?)?;
            match probe.add_consumer(&mut consumer, counter_offset) {
                Ok(true) => break probe,
                Ok(false) => (),
                Err(error) => {
                    // Without a consumer the probe is over.
                    probe.remove_consumer(&|_| false);
                    return Err(error);
                }
            }
        };
        match probe.place_for(&consumer) {
            Ok(()) => Ok(probe),
            Err(error) => {
                probe.remove_consumer(&|it| it.id == consumer.id);
                ubp::wait_for_hits();
                Err(error)
            }
        }
    }

    /// Unregisters a consumer. Its handlers may still be executing when this returns.
    ///
    /// Context: may sleep.
    pub(super) fn unregister(&self, consumer: *const bindings::uprobe_consumer) {
        self.remove_consumer(&|it| it.is(consumer));
    }

    /// Places the probe in the address spaces that a consumer accepts by now, or removes it from
    /// those that no consumer accepts any more.
    ///
    /// Context: may sleep, and wait for page faults.
    ///
    /// # Errors
    ///
    /// `ENOENT`: the consumer is not registered. Others as for [`FileProbe::register`].
    pub(super) fn apply(
        self: &Arc<Self>,
        consumer: *const bindings::uprobe_consumer,
        is_more: bool,
    ) -> Result {
        let consumer = self
            .with_consumers(|all| all.iter().find(|it| it.is(consumer)).copied())
            .ok_or(ENOENT)?;
        if is_more {
            return self.place_for(&consumer);
        }
        self.remove_unwanted();
        Ok(())
    }

    pub(super) fn inode(&self) -> InodeId {
        self.inode_id
    }

    /// Returns the consumers.
    #[inline]
    pub(super) fn consumers<'a>(&'a self, guard: &'a Guard) -> &'a [FileConsumer] {
        self.consumers.read(guard).map_or(&[], |all| all)
    }

    fn with_consumers<R>(&self, f: impl FnOnce(&[FileConsumer]) -> R) -> R {
        f(self.consumers(&tasks_trace::read_lock()))
    }

    /// Returns whether the filter of at least one consumer accepts an address space.
    pub(super) fn is_wanted_in(&self, mm: &Mm) -> bool {
        self.with_consumers(|all| all.iter().any(|it| it.accepts(mm)))
    }

    /// Adds a consumer, unless the probe is over. Returns whether it has done so.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the probe has another reference counter. `ENOMEM`.
    fn add_consumer(&self, consumer: &mut FileConsumer, counter_offset: u64) -> Result<bool> {
        let places = self.places.lock();
        if places.is_over {
            return Ok(false);
        }
        if self.counter_offset != counter_offset {
            return Err(EINVAL);
        }
        // With `places` locked, so that the numbers are in the order of the list.
        consumer.set_id(new_id());
        self.change_consumers(|all| {
            let mut more = KVec::with_capacity(all.len() + 1, GFP_KERNEL)?;
            more.extend_from_slice(all, GFP_KERNEL)?;
            more.push(*consumer, GFP_KERNEL)?;
            Ok(more)
        })?;
        Ok(true)
    }

    /// Publishes the list that `change` makes of the consumers. `places` must be locked.
    fn change_consumers(
        &self,
        change: impl FnOnce(&[FileConsumer]) -> Result<KVec<FileConsumer>>,
    ) -> Result {
        let all = self.with_consumers(change)?;
        let wants_returns = all.iter().any(|it| it.wants_returns);
        self.consumers.publish(all, GFP_KERNEL)?;
        self.wants_returns.store(wants_returns, Relaxed);
        Ok(())
    }

    /// Removes the consumer that `is_it` holds for, and the places that only it wanted. With the
    /// last consumer, the probe is over.
    fn remove_consumer(&self, is_it: &dyn Fn(&FileConsumer) -> bool) {
        let mut places = self.places.lock();
        if places.is_over {
            return;
        }
        let less = |all: &[FileConsumer]| {
            let mut left = KVec::with_capacity(all.len(), GFP_KERNEL)?;
            for consumer in all.iter().filter(|it| !is_it(it)) {
                left.push(*consumer, GFP_KERNEL)?;
            }
            Ok(left)
        };
        while self.change_consumers(less).is_err() {
            // Retries until there is memory, since removal must not fail. The list is short.
            fsleep(Delta::from_millis(1));
        }
        if self.with_consumers(|all| all.is_empty()) {
            places.is_over = true;
            table::remove(self);
        }
        let is_over = places.is_over;
        drop(places);
        if is_over {
            let inode = self.inode.lock().take();
            drop(inode);
        }
        self.remove_unwanted();
    }

    /// Places the probe in all address spaces that map the instruction and that a consumer accepts.
    fn place_for(self: &Arc<Self>, consumer: &FileConsumer) -> Result {
        let inode = self.inode.lock().clone().ok_or(ESRCH)?;
        let mut refused = None;
        for _ in 0..MAX_SCANS {
            let mut any_new = false;
            for (mm, at) in inode.text_mappings(self.offset)? {
                if !consumer.accepts(&mm) {
                    continue;
                }
                match self.place(&mm, Vaddr::new(at)) {
                    Ok(is_new) => any_new |= is_new,
                    Err(EINTR) if Task::is_current_killed() => return Err(EINTR),
                    Err(error) => refused = Some(error),
                }
            }
            // See `files` for the reason to read the list of mappings again.
            if !any_new {
                break;
            }
            if Task::is_current_killed() {
                return Err(EINTR);
            }
        }
        // One process can make the others' probe neither fail nor miss them: by a breakpoint of its
        // own, for example, or by a cgroup without memory.
        match refused {
            Some(error) if self.places.lock().by_space.is_empty() => Err(error),
            _ => Ok(()),
        }
    }

    /// Places the probe at an address, if a consumer accepts the address space. Returns whether the
    /// place is new.
    ///
    /// Context: may sleep, and wait for page faults. The caller must not hold a lock.
    ///
    /// # Errors
    ///
    /// `ENOTSUPP`: the instruction cannot be probed. `EINTR`: the caller has been killed, or has
    /// got a signal while it waited for a userfault. `ENOMEM`.
    pub(super) fn place(self: &Arc<Self>, mm: &ARef<MmWithUser>, at: Vaddr) -> Result<bool> {
        let is_new = self.place_if(mm, at, || self.is_wanted_in(mm))?;
        if is_new {
            self.count(mm);
        }
        Ok(is_new)
    }

    /// Places the probe in a copy of an address space, which the current thread has made by
    /// `fork()`.
    ///
    /// The memory of the copy has the increment of the reference counter for the original place, if
    /// that was made before the memory was copied. A registration that has found the copy may have
    /// placed the probe already, and have incremented the counter again.
    pub(super) fn inherit(self: &Arc<Self>, from: &Mm, copy: &ARef<MmWithUser>, at: Vaddr) {
        let original = match self.places.lock().by_space.get(&key(from, at)) {
            Some(placed) => placed.counted,
            None => return,
        };
        let original = original.filter(|it| it.number <= thread::copied_at());
        if self.place_if(copy, at, || true).is_err() {
            kernel::pr_warn_once!("a probe at {:#x} was lost in fork()\n", self.offset);
        }
        if let Some(original) = original {
            let again = match self.places.lock().by_space.get_mut(&key(copy, at)) {
                Some(placed) => placed.counted.replace(original),
                None => None,
            };
            if let Some(again) = again {
                self.uncount(copy, again);
            }
        }
        self.count(copy);
    }

    fn place_if(
        self: &Arc<Self>,
        mm: &ARef<MmWithUser>,
        at: Vaddr,
        is_wanted: impl Fn() -> bool,
    ) -> Result<bool> {
        self.take_away_gone(mm);
        loop {
            match self.try_place(mm, at, &is_wanted) {
                // `fork()` is making the address space.
                Err(EBUSY) if !Task::is_current_killed() => fsleep(Delta::from_millis(1)),
                Err(EBUSY) => return Err(EINTR),
                Err(EAGAIN) => match ubp::fault_in(mm, at) {
                    Ok(()) => (),
                    Err(EINTR) => return Err(EINTR),
                    Err(ENOMEM) => return Err(ENOMEM),
                    // The file has become shorter.
                    Err(_) => return Ok(false),
                },
                // The mapping has gone or changed.
                Err(ENOENT | EINVAL | EFAULT | ESRCH) => return Ok(false),
                Err(EPERM | EEXIST) => return Err(ENOTSUPP),
                placed => return placed,
            }
        }
    }

    fn try_place(
        self: &Arc<Self>,
        mm: &ARef<MmWithUser>,
        at: Vaddr,
        is_wanted: impl Fn() -> bool,
    ) -> Result<bool> {
        let key = key(mm, at);
        let mut places = self.places.lock();
        if places.is_over || places.by_space.get(&key).is_some() || !is_wanted() {
            return Ok(false);
        }
        let room = RBTreeNodeReservation::new(GFP_KERNEL)?;
        let place = Place::new(self, mm, at)?;
        let file_place: Arc<dyn FilePlace> = place.clone();
        let probepoint = probepoint::place_file(mm, at, &file_place, |vma| self.is_at(vma, at))
            .inspect_err(|_| place.close())?;
        let placed = Placed {
            place,
            probepoint,
            counted: None,
        };
        places.by_space.insert(room.into_node(key, placed));
        Ok(true)
    }

    /// Returns whether the instruction is at `at`, which is in the mapping `vma`.
    fn is_at(&self, vma: &VmaRef, at: Vaddr) -> bool {
        vma.is_file_text()
            && vma.inode() == Some(self.inode())
            && vma.address_of(self.offset) == Some(at.as_usize())
    }

    /// Removes three kinds of places: those that no consumer needs, those in text that has been
    /// unmapped, and those in address spaces that have ended.
    fn remove_unwanted(&self) {
        let _removing = self.removing.lock();
        let is_unwanted = |it: &Placed| {
            it.probepoint.is_gone() || it.place.has_ended() || !self.is_wanted_in(it.place.mm())
        };
        let mut next = (0, Vaddr::new(0));
        let mut take = || self.places.lock().take_from(&mut next, is_unwanted);
        // Each place is removed with `places` unlocked; see `files`.
        let mut taken = take();
        while let Some(placed) = taken {
            self.take_away(placed);
            taken = take();
        }
    }

    /// Removes the places of an address space that are in unmapped text, so that the list does not
    /// grow if a process maps and unmaps the file again and again.
    fn take_away_gone(&self, mm: &Mm) {
        let take = || self.places.lock().take_gone(mm);
        let mut gone = take();
        while let Some(placed) = gone {
            self.take_away(placed);
            gone = take();
        }
    }

    /// Removes the breakpoint of a place that has been taken out, and decrements the reference
    /// counter. The caller must not hold `places`.
    fn take_away(&self, placed: Placed) {
        let text = match placed.place.has_ended() {
            true => Text::Abandoned,
            false => Text::Restored,
        };
        placed.probepoint.remove_file(&*placed.place, text);
        placed.place.close();
        if let (Some(counted), Some(mm)) = (placed.counted, placed.place.mm().mmget_not_zero()) {
            self.uncount(&mm, counted);
        }
    }

    /// Returns the probepoint of a place.
    pub(super) fn probepoint(&self, mm: &Mm, at: Vaddr) -> Option<Arc<Probepoint>> {
        let places = self.places.lock();
        let placed = places.by_space.get(&key(mm, at))?;
        Some(placed.probepoint.clone())
    }

    /// Queues work that removes the places that no consumer wants any more.
    ///
    /// Context: any.
    pub(super) fn queue_removal(self: &Arc<Self>) {
        let _ = workqueue::system_dfl().enqueue(self.clone());
    }
}

impl WorkItem for FileProbe {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.remove_unwanted();
    }
}
