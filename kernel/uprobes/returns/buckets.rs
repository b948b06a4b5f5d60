// SPDX-License-Identifier: GPL-2.0

//! The lockless hash table of return instances in one page of stack.
//!
//! Each page of stack has 64 buckets, hashed by address. Four stack addresses share a bucket; the
//! XOR keeps instances at a fixed power-of-two distance, as recursion produces, in different
//! buckets. A thread that finds the bucket taken by a call that has not returned puts its instance
//! in the page's list, which has a lock. That call may have the same return-address location, if
//! it has ended by a tail call.
//!
//! # The life of a bucket
//!
//! ```text
//!             claimed           written, or put back
//!   FREE -----------------> BUSY ------------------> a location
//!    ^ ^                    |  ^                         |         |
//!    | | to the list, or    |  | by the next call in it, |         |
//!    | | found dead         |  | or as it seems dead     |         |
//!    | +--------------------+  +-------------------------+         |
//!    +-------------------------------------------------------------+
//!                              it returns
//! ```
//!
//! Each step out of `FREE`, and out of a location, is a compare-and-exchange, so that one thread
//! takes it. Any thread may claim a free bucket. The thread whose stack pointer is at the location
//! of an instance takes the instance out, or writes over it. The thread that has claimed a bucket
//! leaves `BUSY`; other threads take the bucket for one of another location, and do not wait.
//!
//! Any thread may take out a dead instance: it claims the bucket under the list's lock, because
//! the instance may turn out to be another one, which is alive and whose thread has found its
//! bucket `BUSY` since. That thread then takes the lock, and finds the instance back in the bucket.
//!
//! This ensures that the fields of an instance do not change while the thread at its location reads
//! them. If a program makes two threads use one stack at the same time, they may find an instance
//! that is mixed of two: it names a function, or none, and is one event too many or too few.
//!
//! # Buckets and the list
//!
//! The instances at one location are in the order of their calls. Those in the list come after the
//! one in the bucket. [`Buckets::others`] is the number of instances in the list, at any location:
//! if there are any, or the page has been given up, all accesses take the lock.

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

/// How many there are.
const BUCKETS: usize = 64;

/// Bytes of the stack for each: the ABI aligns the stack to that at calls.
const BYTES_A_BUCKET: usize = 16;

/// Bytes of the stack, aligned, in which no two locations share a bucket.
#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
const REACH: usize = BUCKETS * BYTES_A_BUCKET;

/// No location is one of these: there are none in the first page of memory.
const FREE: usize = 0;
const BUSY: usize = 1;

/// The number of others of a page that has been given up.
const CLOSED: usize = usize::MAX;

struct Bucket {
    /// [`FREE`], [`BUSY`], or that of the instance.
    location: Atomic<usize>,
    return_address: Atomic<usize>,
    function: Atomic<usize>,
    caller: Atomic<u64>,
}

impl Bucket {
    fn new() -> Self {
        Self {
            location: Atomic::new(FREE),
            return_address: Atomic::new(0),
            function: Atomic::new(0),
            caller: Atomic::new(0),
        }
    }

    /// Writes to a bucket that is claimed.
    #[inline(always)]
    fn write(&self, instance: Instance) {
        self.return_address.store(instance.return_address, Relaxed);
        self.function.store(instance.function, Relaxed);
        self.caller.store(instance.caller.as_raw(), Relaxed);
        self.location.store(instance.location, Release);
    }

    /// Returns the instance in the bucket, of any location.
    #[inline(always)]
    fn instance(&self) -> Option<Instance> {
        let location = self.location.load(Acquire);
        (location > BUSY).then(|| self.frame_of(location))
    }

    #[inline(always)]
    fn frame_of(&self, location: usize) -> Instance {
        Instance {
            location,
            return_address: self.return_address.load(Relaxed),
            function: self.function.load(Relaxed),
            caller: Caller::from_raw(self.caller.load(Relaxed)),
        }
    }

    /// Goes from one state to another one. Returns whether it was in the first.
    #[inline(always)]
    fn step(&self, from: usize, to: usize) -> bool {
        self.location.cmpxchg(from, to, Full).is_ok()
    }
}

/// The buckets of a page.
pub(crate) struct Buckets {
    buckets: KBox<[Bucket; BUCKETS]>,
    /// How many instances are in the list of the page; or [`CLOSED`]. Changed under the list's
    /// lock.
    others: Atomic<usize>,
}

impl Buckets {
    /// Bytes that the buckets take besides the structure.
    pub(crate) const BYTES: usize = size_of::<[Bucket; BUCKETS]>();

    pub(crate) fn new() -> Result<Self> {
        let buckets = init_array_from_fn(|_| Ok::<_, Error>(Bucket::new()));
        Ok(Self {
            buckets: KBox::init(buckets, GFP_KERNEL_ACCOUNT)?,
            others: Atomic::new(0),
        })
    }

    #[inline(always)]
    fn bucket(&self, location: usize) -> &Bucket {
        // In the next 1024 bytes the order of buckets is another one: instances of 64 bytes, and of
        // larger powers of two, all have buckets of their own.
        &self.buckets[(location ^ location / BUCKETS) / BYTES_A_BUCKET % BUCKETS]
    }

    /// Adds an instance if its bucket is free and the list is empty. Returns whether it has.
    #[inline(always)]
    pub(crate) fn take(&self, instance: Instance) -> bool {
        let bucket = self.bucket(instance.location);
        if !bucket.step(FREE, BUSY) {
            return false;
        }
        // Checked after the claim, because `close()` looks for claims after it has set `CLOSED`.
        if self.others.load(Relaxed) != 0 {
            bucket.location.store(FREE, Release);
            return false;
        }
        bucket.write(instance);
        true
    }

    /// Takes out the instance in a location, if `returns` finds something for it and nothing is in
    /// the list.
    #[inline(always)]
    pub(crate) fn leave<R>(
        &self,
        location: usize,
        returns: impl FnOnce(&Instance) -> Option<R>,
    ) -> Option<R> {
        // As `take_out`, in the order in which this takes the fewest instructions.
        let bucket = self.bucket(location);
        if bucket.location.load(Acquire) != location || self.others.load(Relaxed) != 0 {
            return None;
        }
        let found = returns(&bucket.frame_of(location))?;
        bucket.step(location, FREE).then_some(found)
    }

    // The caller of the following functions must hold the lock of the list, except where they say
    // otherwise.

    /// Says how many instances are in the list.
    pub(crate) fn set_others(&self, count: usize) {
        self.others.store(count, Relaxed);
    }

    /// The instance in a location.
    pub(crate) fn at(&self, location: usize) -> Option<Instance> {
        let bucket = self.bucket(location);
        (bucket.location.load(Acquire) == location).then(|| bucket.frame_of(location))
    }

    /// Adds an instance if the bucket is free or has a dead one of the same location.
    /// Returns whether it has.
    pub(crate) fn put(&self, instance: Instance) -> bool {
        let bucket = self.bucket(instance.location);
        let is_claimed = bucket.step(FREE, BUSY) || bucket.step(instance.location, BUSY);
        if is_claimed {
            bucket.write(instance);
        }
        is_claimed
    }

    /// Takes out the instance in a location, if `returns` finds something for it.
    pub(crate) fn take_out<R>(
        &self,
        location: usize,
        returns: impl FnOnce(&Instance) -> Option<R>,
    ) -> Option<R> {
        let found = returns(&self.at(location)?)?;
        self.bucket(location).step(location, FREE).then_some(found)
    }

    /// The highest location at or below `top`, but not below `lowest`, of an instance that
    /// `returns` holds for.
    pub(crate) fn highest(
        &self,
        top: usize,
        lowest: usize,
        returns: impl Fn(&Instance) -> bool,
    ) -> Option<usize> {
        self.instances()
            .filter(|instance| (lowest..=top).contains(&instance.location) && returns(instance))
            .map(|instance| instance.location)
            .max()
    }

    /// Returns the instances in the buckets, with the lock held or not.
    pub(crate) fn instances(&self) -> impl Iterator<Item = Instance> + '_ {
        self.buckets.iter().filter_map(Bucket::instance)
    }

    /// Returns the collision in the bucket of `location`: an instance of another location. With the
    /// lock held or not.
    pub(crate) fn in_the_way(&self, location: usize) -> Option<Instance> {
        let instance = self.bucket(location).instance();
        instance.filter(|instance| instance.location != location)
    }

    /// Takes out an instance that was dead without the lock, if it has not changed and `is_alive`
    /// does not hold by now.
    pub(crate) fn drop_dead(&self, dead: &Instance, is_alive: impl FnOnce(&Instance) -> bool) {
        let bucket = self.bucket(dead.location);
        if !bucket.step(dead.location, BUSY) {
            return;
        }
        let is_dead = bucket.frame_of(dead.location) == *dead && !is_alive(dead);
        let next = if is_dead { FREE } else { dead.location };
        bucket.location.store(next, Release);
    }

    /// Sees to it that no bucket is taken any more, if all are free. Returns whether they are.
    pub(crate) fn close(&self) -> bool {
        // A thread that claims a bucket now either finds this, or is found below.
        self.others.xchg(CLOSED, Full);
        let is_free = |bucket: &Bucket| bucket.location.load(Relaxed) == FREE;
        let are_free = self.buckets.iter().all(is_free);
        if !are_free {
            self.set_others(0);
        }
        are_free
    }
}

#[cfg(CONFIG_UPROBES_KUNIT_TEST)]
#[path = "buckets_test.rs"]
pub(crate) mod tests;
