// SPDX-License-Identifier: GPL-2.0

//! Noticing that a probed process exits, or gets a new image.

use crate::{
    probepoint::{
        self,
        Text, //
    },
    process::Process,
    returns::Returns, //
};

use kernel::{
    mm::Mm,
    new_mutex,
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    sync::{
        aref::ARef,
        atomic::{
            Acquire,
            Atomic,
            Release, //
        },
        Arc,
        Mutex, //
    },
    task::CurrentTask,
    threads::{
        Group,
        ThreadGroup, //
    },
    utrace::{
        self,
        Action,
        AttachedProcess,
        Engine,
        Events,
        Image,
        Report,
        WaitStatus, //
    },
};

/// The watch of each process, with the image that it has now.
struct Watches(RBTree<ThreadGroup, Arc<Watch>>);

// SAFETY: Everything that it owns may be sent, and it is accessed under its lock only.
unsafe impl Send for Watches {}

kernel::sync::global_lock! {
    // SAFETY: `init` is called before any other function reaches it.
    unsafe(uninit) static WATCHES: Mutex<Option<Watches>> = None;
}

/// Initialises this module.
///
/// # Safety
///
/// Called once, before any other function of this module.
pub(crate) unsafe fn init() {
    // SAFETY: This is the only call, and the first use, by the safety requirements.
    unsafe { WATCHES.init() };
    *WATCHES.lock() = Some(Watches(RBTree::new()));
}

/// Calls `f` with the watches locked.
fn with_watches<R>(f: impl FnOnce(&mut RBTree<ThreadGroup, Arc<Watch>>) -> R) -> Result<R> {
    (WATCHES.lock().as_mut())
        .map(|watches| f(&mut watches.0))
        .ok_or(ENODEV)
}

/// Returns the watch of a process, counting the caller as a user.
fn use_watch(group: ThreadGroup) -> Result<Option<Arc<Watch>>> {
    let found = with_watches(|watches| {
        let watch = watches.get(&group)?.clone();
        if watch.is_over() {
            // Of an image that the process had before. Its users keep it.
            watches.remove(&group);
            return None;
        }
        watch.users(|users| *users += 1);
        Some(watch)
    })?;
    Ok(found)
}

/// Adds a watch, with the caller as its user; if there is one, returns that, as [`use_watch`] does.
fn add_watch(watch: &Arc<Watch>) -> Result<Arc<Watch>> {
    let group = watch.group;
    let node = RBTreeNode::new(group, watch.clone(), GFP_KERNEL)?;
    with_watches(|watches| {
        let used = match watches.get(&group) {
            Some(found) if !found.is_over() => found.clone(),
            _ => {
                watches.insert(node);
                watch.clone()
            }
        };
        used.users(|users| *users += 1);
        used
    })
}

/// Gives up the use of a watch. Returns whether that was the last one.
fn unuse_watch(watch: &Arc<Watch>) -> bool {
    let last = with_watches(|watches| {
        let last = watch.users(|users| {
            *users -= 1;
            *users == 0
        });
        let is_current = watches
            .get(&watch.group)
            .is_some_and(|found| Arc::ptr_eq(found, watch));
        if last && is_current {
            watches.remove(&watch.group);
        }
        last
    });
    matches!(last, Ok(true))
}

/// The engine on the threads of a process that has probes.
#[pin_data]
pub(crate) struct Watch {
    group: ThreadGroup,
    mm: ARef<Mm>,
    /// The process has exited, or has another image.
    over: Atomic<bool>,
    #[pin]
    users: Mutex<usize>,
    /// Noticing returns, and how many probes want that.
    #[pin]
    returns: Mutex<(usize, Option<Arc<Returns>>)>,
    /// It refers back to this; the last user takes it out.
    #[pin]
    attachment: Mutex<Option<AttachedProcess<Self>>>,
}

impl Watch {
    fn attach(process: &Process, mm: &Mm) -> Result<Arc<Self>> {
        let watch = Arc::pin_init(
            pin_init!(Self {
                group: process.group(),
                mm: mm.into(),
                over: Atomic::new(false),
                users <- new_mutex!(0),
                returns <- new_mutex!((0, None)),
                attachment <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )?;
        let attachment = utrace::attach_process(process.task(), watch.clone())?;
        *watch.attachment.lock() = Some(attachment);
        Ok(watch)
    }

    fn detach(&self) {
        // The lock is not held while the engine is detached.
        let attachment = self.attachment.lock().take();
        drop(attachment);
    }

    fn is_over(&self) -> bool {
        self.over.load(Acquire)
    }

    /// Changes the number of users. The registry does, with its lock held.
    fn users<R>(&self, f: impl FnOnce(&mut usize) -> R) -> R {
        f(&mut self.users.lock())
    }

    /// Removes the clients of the process. The registrations stay with their owners.
    fn end(&self, text: Text) {
        self.over.store(true, Release);
        probepoint::for_each(&self.mm, |probepoint| {
            probepoint.remove_group(self.group, text)
        });
        // The memory that the process has made the kernel keep is freed with it.
        let returns = self.returns.lock().1.take();
        if let Some(returns) = returns {
            returns.close();
        }
    }

    /// What is to become of the text of a process whose last thread, the current one, exits.
    fn text_at_exit(&self, thread: &CurrentTask) -> Text {
        let is_last_user = thread.mm().is_some_and(|mm| {
            let is_probed = mm.as_raw() == self.mm.as_raw();
            is_probed && Group::of(thread).is_some_and(|group| group.is_only_user_of(mm))
        });
        if is_last_user {
            Text::Abandoned
        } else {
            Text::Restored
        }
    }
}

impl Engine for Watch {
    const EVENTS: Events = Events::EXEC.with(Events::LAST_EXIT);

    fn exec(&self, _report: &mut Report<'_>, _image: &Image<'_>) -> Action {
        // If the process was the only user of the address space, that has gone by now, and there is
        // no text to restore.
        self.end(Text::Restored);
        Action::Detach
    }

    fn last_exit(&self, thread: &CurrentTask, _status: WaitStatus) {
        self.end(self.text_at_exit(thread));
    }
}

/// The use of a process's [`Watch`] by a registration.
pub(crate) struct Watched(Arc<Watch>);

impl Watched {
    pub(crate) fn new(process: &Process) -> Result<Self> {
        if let Some(watch) = use_watch(process.group())? {
            return Ok(Self(watch));
        }
        let mm = process.mm()?;
        let watch = Watch::attach(process, &mm)?;
        let used = add_watch(&watch);
        if !matches!(&used, Ok(used) if Arc::ptr_eq(used, &watch)) {
            // Another registrar was faster, or there is no memory.
            watch.detach();
        }
        Ok(Self(used?))
    }

    /// Has returns of the process detected.
    ///
    /// # Errors
    ///
    /// `ESRCH`: it has exited, or has another image. `ENOMEM`.
    pub(crate) fn use_returns(&self) -> Result<UsedReturns> {
        let mut used = self.0.returns.lock();
        // `Watch::end()` says so before it takes what is here, under the lock.
        if self.is_over() {
            return Err(ESRCH);
        }
        let returns = match &used.1 {
            Some(returns) => returns.clone(),
            None => Returns::new(self.0.group, &self.0.mm)?,
        };
        *used = (used.0 + 1, Some(returns));
        Ok(UsedReturns {
            watch: self.0.clone(),
        })
    }

    /// Returns whether the process has exited, or has another image, since.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if unuse_watch(&self.0) {
            self.0.detach();
        }
    }
}

/// The use of a process's [`Returns`] by a registration.
pub(crate) struct UsedReturns {
    watch: Arc<Watch>,
}

impl UsedReturns {
    /// Returns the return probes of the process, unless it has exited, or has another image.
    pub(crate) fn returns(&self) -> Result<Arc<Returns>> {
        self.watch.returns.lock().1.clone().ok_or(ESRCH)
    }
}

impl Drop for UsedReturns {
    fn drop(&mut self) {
        let mut used = self.watch.returns.lock();
        used.0 -= 1;
        let last = if used.0 == 0 { used.1.take() } else { None };
        drop(used);
        if let Some(returns) = last {
            returns.close();
        }
    }
}
