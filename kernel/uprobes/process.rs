// SPDX-License-Identifier: GPL-2.0

//! A process with probes: its identity, and the state that the kernel keeps while it has probes.
//!
//! # Locks
//!
//! `ProbedProcess::users` nests inside the registry of probed processes. `ProbedProcess::returns`
//! is held while return probes are created, and not while they are closed. No lock of this file is
//! held while the engine is detached, because that waits for its reports, which may take them.

use crate::{
    probepoint::{
        self,
        Text, //
    },
    returns::{
        Extent,
        ReturnProbes, //
    },
};

use kernel::{
    mm::{
        Mm,
        MmWithUser, //
    },
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
        rcu,
        Arc,
        Mutex, //
    },
    task::{
        CurrentTask,
        Pid,
        Task, //
    },
    threads::{
        self,
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
use ubp::{
    InsertError,
    Vaddr, //
};

/// A process: a thread group, with the address space that it had when it was found.
///
/// A pid does not identify a process in this way: it is reused, differs between pid namespaces, and
/// stays the same through `execve()`. The references that a `Process` holds ensure that neither the
/// thread group nor the address space is reused for another process.
pub struct Process {
    /// The thread that the process was found by.
    task: ARef<Task>,
    group: Group,
    mm: ARef<Mm>,
}

impl Process {
    /// Finds the process of the thread that has the number `pid` in the pid namespace of the
    /// caller. The caller must be allowed to attach to the thread as a debugger.
    ///
    /// The permission is checked for the address space that the `Process` gets; see
    /// [`Task::access_mm`]. If the thread has exited, the permission is checked for another thread
    /// of the process.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL`: the number is not valid for a thread, or belongs to a kernel thread. `ESRCH`: no
    /// such process, or it is exiting. `EPERM`: the caller may not attach to the thread. `EINTR`:
    /// the caller has been killed. `ENOMEM`.
    pub fn from_pid(pid: Pid) -> Result<Arc<Self>> {
        if pid <= 0 {
            return Err(EINVAL);
        }
        let task = threads::find(pid).ok_or(ESRCH)?;
        Self::new(&task, |group| match task.access_mm() {
            Err(ESRCH) => group.access_mm(),
            accessed => accessed,
        })
    }

    /// Returns the process of a thread, without a check of permissions.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL`: a kernel thread. `ESRCH`: the process is exiting. `ENOMEM`.
    pub fn from_task(task: &Task) -> Result<Arc<Self>> {
        Self::new(task, |group| group.get_mm().ok_or(ESRCH))
    }

    fn new(task: &Task, mm: impl FnOnce(&Group) -> Result<ARef<MmWithUser>>) -> Result<Arc<Self>> {
        if task.is_kernel_thread() {
            return Err(EINVAL);
        }
        let group = Group::from_task(task).ok_or(ESRCH)?;
        let mm = mm(&group)?;
        let process = Self {
            task: ARef::from(task),
            group,
            mm: ARef::from(&**mm),
        };
        Ok(Arc::new(process, GFP_KERNEL)?)
    }

    /// Returns whether the process has exited, or has got another address space by `execve()`.
    /// Such a process gets no hits, and no probe can be registered in it.
    ///
    /// Context: may sleep.
    pub fn is_over(&self) -> bool {
        self.mm().is_err()
    }

    /// Returns the address space.
    ///
    /// # Errors
    ///
    /// `ESRCH`: the process does not use the address space any more.
    pub(crate) fn mm(&self) -> Result<ARef<MmWithUser>> {
        let mm = self.mm.mmget_not_zero().ok_or(ESRCH)?;
        let alive = self
            .group
            .threads(&rcu::read_lock())
            .any(|thread| thread.uses(&mm) && !thread.is_exiting());
        if alive {
            Ok(mm)
        } else {
            Err(ESRCH)
        }
    }

    /// Returns whether both are the same process, with the same image.
    pub fn is_same(&self, other: &Self) -> bool {
        self.group() == other.group() && core::ptr::eq(&*self.mm, &*other.mm)
    }

    /// Returns whether a thread belongs to the process. This also holds for a thread that has
    /// exited, as long as the process has not.
    pub fn has_thread(&self, thread: &Task) -> bool {
        Group::from_task(thread).is_some_and(|group| group.id() == self.group())
    }

    /// Returns whether `pid` is the number of a thread of the process, in the pid namespace of the
    /// current thread.
    pub fn has_thread_numbered(&self, pid: Pid) -> bool {
        threads::find(pid).is_some_and(|thread| self.has_thread(&thread))
    }

    /// Returns the number of the process in the pid namespace of the current thread. Returns `None`
    /// if the process is not in that namespace, or [is over](Self::is_over), because another
    /// process may have the number by now.
    ///
    /// Context: may sleep.
    pub fn number(&self) -> Option<Pid> {
        if self.is_over() {
            return None;
        }
        self.group.number()
    }

    /// Returns a thread of the process, which may have exited.
    pub(crate) fn task(&self) -> &Task {
        &self.task
    }

    pub(crate) fn group(&self) -> ThreadGroup {
        self.group.id()
    }

    /// Checks whether a probe can be registered at an address.
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// As for [`register`](crate::register).
    pub fn check(&self, at: Vaddr) -> Result<(), InsertError> {
        ubp::check(&*self.mm()?, at)
    }

    /// Checks whether a function of `size` bytes begins at an address and can be probed; see
    /// [`ProbeSpec::size`](crate::ProbeSpec::size).
    ///
    /// Context: may sleep.
    ///
    /// # Errors
    ///
    /// `EINVAL`, `E2BIG`: the bytes are not a whole function, or too many. Others as for
    /// [`register`](crate::register).
    pub fn check_function(&self, at: Vaddr, size: usize) -> Result<(), InsertError> {
        let mm = self.mm()?;
        ubp::check(&mm, at)?;
        Extent::new(&mm, at, size)?;
        Ok(())
    }

    /// Returns the offset in the mapped file of the byte at an address, if a file is mapped there.
    ///
    /// Context: may sleep.
    pub fn file_offset(&self, at: Vaddr) -> Option<usize> {
        let mm = self.mm().ok()?;
        let mmap = mm.mmap_read_lock();
        let offset = mmap
            .vma_lookup(at.as_usize())
            .and_then(|vma| vma.file_offset(at.as_usize()));
        offset
    }
}

/// The probed processes, each with the image that it has now.
struct ProbedProcesses(RBTree<ThreadGroup, Arc<ProbedProcess>>);

// SAFETY: The tree owns its nodes. Their keys and values are `Send`, and the mutex around this
// serialises all accesses.
unsafe impl Send for ProbedProcesses {}

kernel::sync::global_lock! {
    // SAFETY: `uprobes_init()` calls `init` at boot, before any process can be probed.
    unsafe(uninit) static PROBED_PROCESSES: Mutex<Option<ProbedProcesses>> = None;
}

/// Initialises the registry of probed processes.
///
/// # Safety
///
/// Must be called once, before any other function of this module.
pub(crate) unsafe fn init() {
    // SAFETY: The caller ensures that this is the only call, and that nothing has used the lock.
    unsafe { PROBED_PROCESSES.init() };
    *PROBED_PROCESSES.lock() = Some(ProbedProcesses(RBTree::new()));
}

/// Calls `f` with the registry locked.
fn with_registry<R>(
    f: impl FnOnce(&mut RBTree<ThreadGroup, Arc<ProbedProcess>>) -> R,
) -> Result<R> {
    (PROBED_PROCESSES.lock().as_mut())
        .map(|registry| f(&mut registry.0))
        .ok_or(ENODEV)
}

/// State of a process that has probes, and the engine on its threads that reports exec and exit.
#[pin_data]
pub(crate) struct ProbedProcess {
    group: ThreadGroup,
    mm: ARef<Mm>,
    /// The process has exited, or has called `execve()`.
    over: Atomic<bool>,
    /// Number of [`ProbedProcessRef`]s. Changed with the registry locked.
    #[pin]
    users: Mutex<usize>,
    /// The return probes, and the number of attachments that use them.
    #[pin]
    returns: Mutex<(usize, Option<Arc<ReturnProbes>>)>,
    /// The engine. It holds a reference to this, until the last [`ProbedProcessRef`] takes it out.
    #[pin]
    engine: Mutex<Option<AttachedProcess<Self>>>,
}

impl ProbedProcess {
    /// Creates the state of a process, and attaches the engine.
    fn attach(process: &Process, mm: &Mm) -> Result<Arc<Self>> {
        let probed = Arc::pin_init(
            pin_init!(Self {
                group: process.group(),
                mm: mm.into(),
                over: Atomic::new(false),
                users <- new_mutex!(0),
                returns <- new_mutex!((0, None)),
                engine <- new_mutex!(None),
            }),
            GFP_KERNEL,
        )?;
        let engine = utrace::attach_process(process.task(), probed.clone())?;
        *probed.engine.lock() = Some(engine);
        Ok(probed)
    }

    /// Detaches the engine.
    fn detach(&self) {
        // Dropped without the lock, because the drop waits for reports of the engine.
        let engine = self.engine.lock().take();
        drop(engine);
    }

    /// Returns the state of a process from the registry, and takes a reference to it.
    fn get(group: ThreadGroup) -> Result<Option<Arc<Self>>> {
        with_registry(|registry| {
            let found = registry.get(&group)?.clone();
            if found.is_over() {
                // It belongs to an earlier image of the process. The references to it stay valid.
                registry.remove(&group);
                return None;
            }
            *found.users.lock() += 1;
            Some(found)
        })
    }

    /// Adds this to the registry, unless the registry has a state of the process. Returns the state
    /// that is in the registry, and takes a reference to it.
    fn add(self: &Arc<Self>) -> Result<Arc<Self>> {
        let node = RBTreeNode::new(self.group, self.clone(), GFP_KERNEL)?;
        with_registry(|registry| {
            let added = match registry.get(&self.group) {
                Some(found) if !found.is_over() => found.clone(),
                _ => {
                    registry.insert(node);
                    self.clone()
                }
            };
            *added.users.lock() += 1;
            added
        })
    }

    /// Gives up a reference. Returns whether it was the last one.
    fn put(self: &Arc<Self>) -> bool {
        let last = with_registry(|registry| {
            let last = {
                let mut users = self.users.lock();
                *users -= 1;
                *users == 0
            };
            let is_current = registry
                .get(&self.group)
                .is_some_and(|found| Arc::ptr_eq(found, self));
            if last && is_current {
                registry.remove(&self.group);
            }
            last
        });
        matches!(last, Ok(true))
    }

    fn is_over(&self) -> bool {
        self.over.load(Acquire)
    }

    /// Removes the chain entries and the return breakpoints of the process. The owners of the
    /// probes keep their registrations.
    fn end(&self, text: Text) {
        self.over.store(true, Release);
        probepoint::for_each(&self.mm, |probepoint| {
            probepoint.remove_group(self.group, text)
        });
        // Frees the memory that is charged to the process now, because the owners may keep their
        // registrations for a long time.
        let returns = self.returns.lock().1.take();
        if let Some(returns) = returns {
            returns.close();
        }
    }

    /// Returns whether the text must be restored when the current thread exits, which is the last
    /// one of the process.
    fn text_at_exit(&self, thread: &CurrentTask) -> Text {
        let is_last_user = thread.mm().is_some_and(|mm| {
            let is_probed = mm.as_raw() == self.mm.as_raw();
            is_probed && Group::from_task(thread).is_some_and(|group| group.is_only_user_of(mm))
        });
        if is_last_user {
            Text::Abandoned
        } else {
            Text::Restored
        }
    }
}

impl Engine for ProbedProcess {
    const EVENTS: Events = Events::EXEC.with(Events::LAST_EXIT);

    fn exec(&self, _report: &mut Report<'_>, _image: &Image<'_>) -> Action {
        // If the process was the only user of the address space, the address space has been freed
        // by now, and there is no text to restore.
        self.end(Text::Restored);
        Action::Detach
    }

    fn last_exit(&self, thread: &CurrentTask, _status: WaitStatus) {
        self.end(self.text_at_exit(thread));
    }
}

/// Reference to the state of a process. Dropping the last one detaches the engine.
pub(crate) struct ProbedProcessRef(Arc<ProbedProcess>);

impl ProbedProcessRef {
    /// Returns a reference to the state of a process. Creates the state for the first reference.
    pub(crate) fn new(process: &Process) -> Result<Self> {
        if let Some(probed) = ProbedProcess::get(process.group())? {
            return Ok(Self(probed));
        }
        let mm = process.mm()?;
        let probed = ProbedProcess::attach(process, &mm)?;
        let added = probed.add();
        if !matches!(&added, Ok(added) if Arc::ptr_eq(added, &probed)) {
            // Another caller has added the state first, or there is no memory.
            probed.detach();
        }
        Ok(Self(added?))
    }

    /// Returns a reference to the return probes of the process. Creates them for the first
    /// reference.
    ///
    /// # Errors
    ///
    /// `ESRCH`: the process has exited, or has called `execve()`. `ENOMEM`.
    pub(crate) fn return_probes(&self) -> Result<ReturnProbesRef> {
        let mut returns = self.0.returns.lock();
        // Checked under the lock, because `ProbedProcess::end()` sets `over` and then takes the
        // lock to close the return probes.
        if self.is_over() {
            return Err(ESRCH);
        }
        let probes = match &returns.1 {
            Some(probes) => probes.clone(),
            None => ReturnProbes::new(self.0.group, &self.0.mm)?,
        };
        *returns = (returns.0 + 1, Some(probes));
        Ok(ReturnProbesRef {
            process: self.0.clone(),
        })
    }

    /// Returns whether the process has exited or has called `execve()` since.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

impl Drop for ProbedProcessRef {
    fn drop(&mut self) {
        if self.0.put() {
            self.0.detach();
        }
    }
}

/// Reference to the return probes of a process. Dropping the last one removes the return
/// breakpoints.
pub(crate) struct ReturnProbesRef {
    process: Arc<ProbedProcess>,
}

impl ReturnProbesRef {
    /// Returns the return probes.
    ///
    /// # Errors
    ///
    /// `ESRCH`: the process has exited, or has called `execve()`.
    pub(crate) fn get(&self) -> Result<Arc<ReturnProbes>> {
        self.process.returns.lock().1.clone().ok_or(ESRCH)
    }
}

impl Drop for ReturnProbesRef {
    fn drop(&mut self) {
        let mut returns = self.process.returns.lock();
        returns.0 -= 1;
        let last = if returns.0 == 0 {
            returns.1.take()
        } else {
            None
        };
        drop(returns);
        if let Some(probes) = last {
            probes.close();
        }
    }
}
