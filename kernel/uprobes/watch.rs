// SPDX-License-Identifier: GPL-2.0

//! Noticing that a probed process exits, or gets a new image.

use crate::{
    probepoint::Text,
    process::Process,
    registry,
    returns::Returns, //
};

use kernel::{
    mm::Mm,
    new_mutex,
    prelude::*,
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

    pub(crate) fn group(&self) -> ThreadGroup {
        self.group
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over.load(Acquire)
    }

    /// Changes the number of users. The registry does, with its lock held.
    pub(crate) fn users<R>(&self, f: impl FnOnce(&mut usize) -> R) -> R {
        f(&mut self.users.lock())
    }

    /// Removes the clients of the process. The registrations stay with their owners.
    fn end(&self, text: Text) {
        self.over.store(true, Release);
        registry::for_each_probepoint(&self.mm, |probepoint| {
            probepoint.retain(text, |entry| entry.group != self.group);
        });
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
        if let Some(watch) = registry::use_watch(process.group())? {
            return Ok(Self(watch));
        }
        let mm = process.mm()?;
        let watch = Watch::attach(process, &mm)?;
        let used = registry::add_watch(&watch);
        if !matches!(&used, Ok(used) if Arc::ptr_eq(used, &watch)) {
            // Somebody else was faster, or there is no memory.
            watch.detach();
        }
        Ok(Self(used?))
    }

    /// Has returns of the process noticed.
    pub(crate) fn use_returns(&self) -> Result<UsedReturns> {
        let mut used = self.0.returns.lock();
        let returns = match &used.1 {
            Some(returns) => returns.clone(),
            None => Returns::new(self.0.group, &self.0.mm)?,
        };
        *used = (used.0 + 1, Some(returns.clone()));
        Ok(UsedReturns {
            watch: self.0.clone(),
            returns,
        })
    }

    /// Returns whether the process has exited, or has another image, since.
    pub(crate) fn is_over(&self) -> bool {
        self.0.is_over()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if registry::unuse_watch(&self.0) {
            self.0.detach();
        }
    }
}

/// The use of a process's [`Returns`] by a registration.
pub(crate) struct UsedReturns {
    watch: Arc<Watch>,
    returns: Arc<Returns>,
}

impl UsedReturns {
    pub(crate) fn returns(&self) -> &Arc<Returns> {
        &self.returns
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
