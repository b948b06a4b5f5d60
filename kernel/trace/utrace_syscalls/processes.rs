// SPDX-License-Identifier: GPL-2.0

//! The list of processes with traced system calls.

use crate::{
    events,
    request::{
        self,
        Request, //
    },
};
use kernel::{
    impl_has_work, new_mutex, new_work,
    prelude::*,
    ptregs::PtRegs,
    seq_file::{
        seq_print,
        SeqFile, //
    },
    str::CStr,
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
    tracefs::ControlFile,
    uaccess::UserPtr,
    utrace::{
        attach_process,
        Action,
        AttachedProcess,
        Engine,
        Events,
        SyscallEntry,
        SyscallExit,
        WaitStatus, //
    },
    workqueue::{
        self,
        Work,
        WorkItem, //
    },
};

/// The engine on a listed process.
pub(crate) struct Traced {
    list: Arc<Processes>,
    /// Set when the last thread has begun to exit.
    exited: Atomic<bool>,
}

impl Engine for Traced {
    const EVENTS: Events = Events::SYSCALL_ENTRY
        .with(Events::SYSCALL_EXIT)
        .with(Events::PATH)
        .with(Events::LAST_EXIT);

    fn syscall_entry(&self, call: &mut SyscallEntry<'_>) -> Action {
        events::enter(call.regs());
        Action::Resume
    }

    fn syscall_exit(&self, call: &mut SyscallExit<'_>) -> Action {
        events::exit(call.regs());
        Action::Resume
    }

    fn path(&self, _thread: &CurrentTask, ptr: UserPtr, name: &CStr) {
        // SAFETY: This thread is in a system call, so its registers are saved. The caller has no
        // reference to them, and this reference ends before the function returns.
        let regs = unsafe { PtRegs::from_current() };

        events::path(regs, ptr, name);
    }

    fn last_exit(&self, _thread: &CurrentTask, _status: WaitStatus) {
        self.exited.store(true, Release);
        // If the work is queued already, it has not begun, and will see that the process has
        // exited.
        let _ = workqueue::system_long().enqueue(self.list.clone());
    }
}

/// A process in the list.
struct Listed {
    group: Group,
    /// One of its threads, which may be gone.
    thread: ARef<Task>,
    traced: Arc<Traced>,
    _attached: AttachedProcess<Traced>,
}

impl Listed {
    /// Attaches an engine to the process of `thread`.
    ///
    /// # Errors
    ///
    /// `EPERM` for a kernel thread. `ESRCH` if the process exits. `ENOMEM` if there is no memory.
    fn attach(list: &Arc<Processes>, thread: ARef<Task>, group: Group) -> Result<Self> {
        let traced = Arc::new(
            Traced {
                list: list.clone(),
                exited: Atomic::new(false),
            },
            GFP_KERNEL,
        )?;
        Ok(Self {
            group,
            _attached: attach_process(&thread, traced.clone())?,
            thread,
            traced,
        })
    }

    fn has_exited(&self) -> bool {
        self.traced.exited.load(Acquire)
    }
}

/// The list of processes, as shown in `utrace_syscall_pids`.
#[pin_data]
pub(crate) struct Processes {
    #[pin]
    list: Mutex<KVec<Listed>>,
    /// Removes processes that have exited from the list.
    #[pin]
    prune: Work<Processes>,
}

impl_has_work! {
    impl HasWork<Self> for Processes { self.prune }
}

impl WorkItem for Processes {
    type Pointer = Arc<Self>;

    fn run(this: Arc<Self>) {
        this.list.lock().retain(|listed| !listed.has_exited());
    }
}

impl Processes {
    /// Creates an empty list.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self {
                list <- new_mutex!(KVec::new()),
                prune <- new_work!("utrace_syscalls_prune"),
            }),
            GFP_KERNEL,
        )
    }

    /// Applies all requests in a text, or none of them.
    fn change(self: &Arc<Self>, text: &[u8]) -> Result {
        request::parse(text).try_for_each(|request| request.map(drop))?;

        let mut list = self.list.lock();
        let mut change = Change {
            processes: self,
            added: KVec::new(),
            removed: KVec::new(),
        };
        for request in request::parse(text) {
            match request? {
                Request::Add(pid) => change.add(&list, pid)?,
                Request::Remove(pid) => change.remove(&list, pid)?,
            }
        }
        list.reserve(change.added.len(), GFP_KERNEL)?;
        list.retain(|listed| !change.removed.contains(&listed.group.id()));
        for listed in change.added {
            list.push(listed, GFP_KERNEL)?;
        }
        Ok(())
    }
}

/// A pending change of the list. The processes in `added` are traced already; the processes in
/// `removed` still are.
struct Change<'a> {
    processes: &'a Arc<Processes>,
    added: KVec<Listed>,
    removed: KVec<ThreadGroup>,
}

impl Change<'_> {
    fn add(&mut self, list: &[Listed], pid: Pid) -> Result {
        let (thread, group) = find(pid)?;
        let id = group.id();

        if is_listed(list, id) {
            self.removed.retain(|removed| *removed != id);
            return Ok(());
        }
        if is_listed(&self.added, id) {
            return Ok(());
        }
        // Reserve first: this can fail, and attaching would have to be undone.
        self.added.reserve(1, GFP_KERNEL)?;
        let listed = Listed::attach(self.processes, thread, group)?;
        self.added.push(listed, GFP_KERNEL)?;
        Ok(())
    }

    fn remove(&mut self, list: &[Listed], pid: Pid) -> Result {
        let (_, group) = find(pid)?;
        let id = group.id();

        if is_listed(&self.added, id) {
            self.added.retain(|added| added.group.id() != id);
        } else if is_listed(list, id) && !self.removed.contains(&id) {
            self.removed.push(id, GFP_KERNEL)?;
        } else {
            return Err(ESRCH);
        }
        Ok(())
    }
}

fn is_listed(list: &[Listed], group: ThreadGroup) -> bool {
    list.iter()
        .any(|listed| listed.group.id() == group && !listed.has_exited())
}

/// Returns a thread by its PID in the current pid namespace, and its process.
fn find(pid: Pid) -> Result<(ARef<Task>, Group)> {
    let thread = threads::find(pid).ok_or(ESRCH)?;
    let group = Group::from_task(&thread).ok_or(ESRCH)?;

    Ok((thread, group))
}

/// The file `utrace_syscall_pids`.
pub(crate) struct PidsFile(pub(crate) Arc<Processes>);

impl ControlFile for PidsFile {
    const NAME: &'static CStr = c"utrace_syscall_pids";

    fn show(&self, m: &SeqFile) {
        for listed in self.0.list.lock().iter() {
            // The PID in the reader's namespace; 0 if the process is not in it, or not any more.
            let pid = listed.thread.tgid_nr_ns(None);

            if pid != 0 && !listed.has_exited() {
                seq_print!(m, "{pid}\n");
            }
        }
    }

    fn clear(&self) {
        self.0.list.lock().clear();
    }

    fn write(&self, text: &[u8]) -> Result {
        self.0.change(text)
    }
}
