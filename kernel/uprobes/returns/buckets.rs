// SPDX-License-Identifier: GPL-2.0

//! Lockless hash table of return instances in one page of stack.
//!
//! Each page of stack has 64 buckets, hashed by address. Four stack addresses share a bucket; the
//! XOR keeps instances at a fixed power-of-two distance, as recursion produces, in different
//! buckets. If the bucket of a new instance has an instance of a call that has not returned, the
//! new one goes to the list of the page, which has a lock. The instance in the bucket then has
//! another location, and is a *collision*; or it has the same location, because its call has led to
//! the new one by a tail call.
//!
//! # The life of a bucket
//!
//! ```text
//!              claim          write, or put back
//!   FREE -----------------> BUSY ----------------> a location
//!    ^ ^                    |  ^                       |         |
//!    | | list in use, or    |  | claim by a new call,  |         |
//!    | | found dead         |  | or as it seems dead   |         |
//!    | +--------------------+  +-----------------------+         |
//!    +-----------------------------------------------------------+
//!                            return
//! ```
//!
//! Each transition out of `FREE` or out of a location is a compare-and-exchange, so only one thread
//! succeeds. Any thread may claim a free bucket. The thread with the stack pointer at the location
//! of an instance may remove the instance or overwrite it. Only the thread that has claimed a
//! bucket ends the state `BUSY`. Other threads do not wait for it: they use the list, as for a
//! collision.
//!
//! Any thread may remove an instance that it has found *dead*: the call has ended without a return,
//! see [`instances`](crate::returns::instances). It claims the bucket with the lock of the list
//! held, and checks the instance again, because a new call may have used the bucket since. The
//! instance of a new call is put back. If the thread that made that call finds the bucket `BUSY`,
//! it takes the lock, and finds the instance in the bucket again.
//!
//! This ensures that the fields of an instance do not change while the thread at its location reads
//! them. If a program makes two threads use one stack at the same time, a thread may read an
//! instance that has fields of two calls. The function in it is a probed or an unknown one, so the
//! worst result is one return too many or too few.
//!
//! # Buckets and the list
//!
//! The instances at one location are in the order of their calls: first the one in the bucket, then
//! the ones in the list. [`Buckets::list_len`] is the number of instances in the list, at any
//! location. If it is not 0, or the page has been given up, all accesses take the lock.

use crate::returns::instance::{
    Caller,
    Instance, //
};

use kernel::{
    prelude::*,
    sync::atomic::{
        Acquire,
        Atomic,
        Full,
        Relaxed,
        Release, //
    },
};
use pin_init::init_array_from_fn;

/// Number of buckets of a page.
const BUCKETS: usize = 64;

/// Bytes of stack for each bucket: the alignment of the stack at calls, by the ABI.
const BYTES_A_BUCKET: usize = 16;

/// Size of an aligned range of stack in which no two aligned locations share a bucket.
#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
const REACH: usize = BUCKETS * BYTES_A_BUCKET;

/// States of a bucket without an instance. No location has these values, because no stack is in the
/// first page of memory.
const FREE: usize = 0;
const BUSY: usize = 1;

/// Value of [`Buckets::list_len`] when the page has been given up.
const CLOSED: usize = usize::MAX;

struct Bucket {
    /// [`FREE`], [`BUSY`], or the location of the instance.
    location: Atomic<usize>,
    return_address: Atomic<usize>,
    function: Atomic<usize>,
    caller: Atomic<u64>,
}

// The `#[inline(always)]` methods are parts of the fast paths of entries and returns.
impl Bucket {
    fn new() -> Self {
        Self {
            location: Atomic::new(FREE),
            return_address: Atomic::new(0),
            function: Atomic::new(0),
            caller: Atomic::new(0),
        }
    }

    /// Writes an instance to a bucket, which the caller must have claimed.
    #[inline(always)]
    fn write(&self, instance: Instance) {
        self.return_address.store(instance.return_address, Relaxed);
        self.function.store(instance.function, Relaxed);
        self.caller.store(instance.caller.as_raw(), Relaxed);
        self.location.store(instance.location, Release);
    }

    /// Returns the instance in the bucket.
    #[inline(always)]
    fn instance(&self) -> Option<Instance> {
        let location = self.location.load(Acquire);
        (location > BUSY).then(|| self.instance_at(location))
    }

    #[inline(always)]
    fn instance_at(&self, location: usize) -> Instance {
        Instance {
            location,
            return_address: self.return_address.load(Relaxed),
            function: self.function.load(Relaxed),
            caller: Caller::from_raw(self.caller.load(Relaxed)),
        }
    }

    /// Changes the state, if it is `from`. Returns whether it was.
    #[inline(always)]
    fn transition(&self, from: usize, to: usize) -> bool {
        self.location.cmpxchg(from, to, Full).is_ok()
    }
}

/// The only instance at a location.
pub(crate) struct OnlyInstance<'a> {
    bucket: &'a Bucket,
    location: usize,
}

impl OnlyInstance<'_> {
    fn instance(&self) -> Instance {
        self.bucket.instance_at(self.location)
    }

    // Not by way of `instance`, because an unused atomic load is an instruction as well.
    #[inline(always)]
    pub(crate) fn function(&self) -> usize {
        self.bucket.function.load(Relaxed)
    }

    #[inline(always)]
    pub(crate) fn caller(&self) -> Caller {
        Caller::from_raw(self.bucket.caller.load(Relaxed))
    }

    /// Takes the instance out. Returns whether it was still there.
    #[inline(always)]
    pub(crate) fn remove(self) -> bool {
        self.bucket.transition(self.location, FREE)
    }
}

/// The buckets of a page.
pub(crate) struct Buckets {
    buckets: KBox<[Bucket; BUCKETS]>,
    /// Number of instances in the list of the page, or [`CLOSED`]. Changed with the lock of the
    /// list held.
    list_len: Atomic<usize>,
}

impl Buckets {
    /// Memory of the buckets besides the structure.
    pub(crate) const BYTES: usize = size_of::<[Bucket; BUCKETS]>();

    pub(crate) fn new() -> Result<Self> {
        let buckets = init_array_from_fn(|_| Ok::<_, Error>(Bucket::new()));
        Ok(Self {
            buckets: KBox::init(buckets, GFP_KERNEL_ACCOUNT)?,
            list_len: Atomic::new(0),
        })
    }

    // Inlined into the fast paths of entries and returns.
    #[inline(always)]
    fn bucket(&self, location: usize) -> &Bucket {
        // The XOR permutes the buckets in each 1024 bytes differently, so instances at a distance
        // of 64 bytes, or of a larger power of two, have different buckets.
        &self.buckets[(location ^ location / BUCKETS) / BYTES_A_BUCKET % BUCKETS]
    }

    /// Adds an instance if its bucket is free and the list is empty. Returns whether it has.
    // Inlined into the fast path of an entry.
    #[inline(always)]
    pub(crate) fn insert_lockless(&self, instance: Instance) -> bool {
        let bucket = self.bucket(instance.location);
        if !bucket.transition(FREE, BUSY) {
            return false;
        }
        // Checked after the claim, because `close()` looks for claims after it has set `CLOSED`.
        if self.list_len.load(Relaxed) != 0 {
            bucket.location.store(FREE, Release);
            return false;
        }
        bucket.write(instance);
        true
    }

    /// Finds the instance at a location, if the list is empty.
    // Separate from the removal, because a closure between the two takes 30 instructions more.
    #[inline(always)]
    pub(crate) fn only(&self, location: usize) -> Option<OnlyInstance<'_>> {
        let bucket = self.bucket(location);
        if bucket.location.load(Acquire) != location || self.list_len.load(Relaxed) != 0 {
            return None;
        }
        Some(OnlyInstance { bucket, location })
    }

    /// Removes the instance at a location and returns the result of `accept`, if that is not `None`
    /// and the list is empty.
    pub(crate) fn remove_lockless<R>(
        &self,
        location: usize,
        accept: impl FnOnce(&Instance) -> Option<R>,
    ) -> Option<R> {
        let only = self.only(location)?;
        let found = accept(&only.instance())?;
        only.remove().then_some(found)
    }

    // The callers of the following functions must hold the lock of the list, unless the description
    // of a function says otherwise.

    /// Sets the number of instances in the list.
    pub(crate) fn set_list_len(&self, count: usize) {
        self.list_len.store(count, Relaxed);
    }

    /// Returns the instance at a location, if it is in the bucket.
    pub(crate) fn at(&self, location: usize) -> Option<Instance> {
        let bucket = self.bucket(location);
        (bucket.location.load(Acquire) == location).then(|| bucket.instance_at(location))
    }

    /// Adds an instance if the bucket is free or has a dead one of the same location. Returns
    /// whether it has.
    pub(crate) fn insert(&self, instance: Instance) -> bool {
        let bucket = self.bucket(instance.location);
        let is_claimed =
            bucket.transition(FREE, BUSY) || bucket.transition(instance.location, BUSY);
        if is_claimed {
            bucket.write(instance);
        }
        is_claimed
    }

    /// Removes the instance at a location and returns the result of `accept`, if that is not
    /// `None`.
    pub(crate) fn remove<R>(
        &self,
        location: usize,
        accept: impl FnOnce(&Instance) -> Option<R>,
    ) -> Option<R> {
        let found = accept(&self.at(location)?)?;
        self.bucket(location)
            .transition(location, FREE)
            .then_some(found)
    }

    /// Returns the highest location from `lowest` to `top` of an instance that `accept` holds for.
    pub(crate) fn highest(
        &self,
        top: usize,
        lowest: usize,
        accept: impl Fn(&Instance) -> bool,
    ) -> Option<usize> {
        self.instances()
            .filter(|instance| (lowest..=top).contains(&instance.location) && accept(instance))
            .map(|instance| instance.location)
            .max()
    }

    /// Returns the instances in the buckets. The caller need not hold the lock.
    pub(crate) fn instances(&self) -> impl Iterator<Item = Instance> + '_ {
        self.buckets.iter().filter_map(Bucket::instance)
    }

    /// Returns the collision for `location`: an instance of another location in its bucket. The
    /// caller need not hold the lock.
    pub(crate) fn collision(&self, location: usize) -> Option<Instance> {
        let instance = self.bucket(location).instance();
        instance.filter(|instance| instance.location != location)
    }

    /// Removes an instance that the caller has found dead without the lock, if the bucket still has
    /// it and `is_alive` still does not hold.
    pub(crate) fn drop_dead(&self, dead: &Instance, is_alive: impl FnOnce(&Instance) -> bool) {
        let bucket = self.bucket(dead.location);
        if !bucket.transition(dead.location, BUSY) {
            return;
        }
        let is_dead = bucket.instance_at(dead.location) == *dead && !is_alive(dead);
        let next = if is_dead { FREE } else { dead.location };
        bucket.location.store(next, Release);
    }

    /// Closes the buckets, if all are free, so that none is claimed any more. Returns whether they
    /// were free.
    pub(crate) fn close(&self) -> bool {
        // A thread that claims a bucket from now on either reads `CLOSED`, or its claim is seen
        // below.
        self.list_len.xchg(CLOSED, Full);
        let is_free = |bucket: &Bucket| bucket.location.load(Relaxed) == FREE;
        let are_free = self.buckets.iter().all(is_free);
        if !are_free {
            self.set_list_len(0);
        }
        are_free
    }
}

#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
#[path = "buckets_test.rs"]
pub(crate) mod tests;
