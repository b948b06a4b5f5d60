// SPDX-License-Identifier: GPL-2.0

//! C interface for modules. See `struct ubp_bkpt` in `include/linux/ubp.h`.

use crate::{
    breakpoint::BreakpointOwner,
    hit::{
        is_in_hit,
        wait_for_hits,
        Hit,
        Resumed, //
    },
    insert::{
        check,
        insert,
        InsertError,
        Inserted, //
    },
    text::fault_in, //
};

use kernel::{
    bindings,
    mm::MmWithUser,
    prelude::*,
    ptregs::PtRegs,
    sync::{
        aref::ARef,
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc, //
    },
    task::Task,
    threads::Group,
    warn_on, //
};
use ubp_arch::{
    analyze,
    length,
    Mode,
    Plan,
    Vaddr, //
};

/// The owner that calls the handlers of a `struct ubp_bkpt`.
///
/// # Invariants
///
/// `ubp` is valid until [`COwner::end`] has returned.
struct COwner {
    ubp: *mut bindings::ubp_bkpt,
    handler_in_interrupt:
        Option<unsafe extern "C" fn(*mut bindings::ubp_bkpt, *mut bindings::pt_regs) -> bool>,
    handler: Option<unsafe extern "C" fn(*mut bindings::ubp_bkpt, *mut bindings::pt_regs)>,
    /// Set when the breakpoint has been removed. Threads may still hit it if its page was
    /// unavailable.
    removed: Atomic<bool>,
}

// SAFETY: `ubp` is only passed to the handlers, and the API allows UBP to call them from any
// thread.
unsafe impl Send for COwner {}
// SAFETY: `ubp` is only passed to the handlers, and the API allows several threads to call them at
// the same time.
unsafe impl Sync for COwner {}

impl COwner {
    /// Ensures that the handlers are no longer called. Waits for executing handlers, unless the
    /// caller is within a handler.
    fn end(&self) {
        self.removed.store(true, Relaxed);
        wait_for_hits();
    }
}

// SAFETY: `hit` returns the `Resumed` for which it consumes the hit, and accesses nothing after
// that.
unsafe impl BreakpointOwner for COwner {
    #[inline]
    fn hit<'h>(&'h self, hit: Hit<'h>, regs: &mut PtRegs) -> Resumed {
        // The grace period in `end()` orders this: a hit that begins after it sees the flag.
        if self.removed.load(Relaxed) {
            return hit.remove(regs);
        }
        let wants_task = match self.handler_in_interrupt {
            // SAFETY: `regs` is valid. `ubp` is valid by the type invariants: the guard of `hit`
            // has been held since before the flag was read as clear, so the grace period in `end()`
            // cannot have ended.
            Some(handler) => unsafe { handler(self.ubp, regs.as_ptr()) },
            None => true,
        };
        match self.handler.filter(|_| wants_task) {
            Some(handler) => hit.in_task(regs, |regs, _| {
                // SAFETY: `regs` is valid. `ubp` is valid by the type invariants, because
                // `in_task()` holds the guard during the call, so the grace period in `end()`
                // cannot have ended.
                unsafe { handler(self.ubp, regs.as_ptr()) };
            }),
            None => hit.resume(regs),
        }
    }
}

/// The value that `ubp_bkpt::core` points to.
struct Core {
    inserted: Inserted,
    owner: Arc<COwner>,
}

/// Returns the address space of a thread's process.
///
/// # Safety
///
/// `tsk` must be valid for the duration of the call.
unsafe fn mm_of(tsk: *mut bindings::task_struct) -> Result<ARef<MmWithUser>> {
    // SAFETY: `tsk` is valid because the caller of the API holds a reference to it. CAST: `Task` is
    // a transparent wrapper of `struct task_struct`.
    let task = unsafe { &*tsk.cast::<Task>() };
    Group::from_task(task)
        .and_then(|group| group.get_mm())
        .ok_or(ESRCH)
}

fn c_plan(plan: Plan) -> bindings::ubp_plan {
    match plan {
        Plan::Emulate => bindings::ubp_plan_UBP_EMULATE,
        Plan::Boost => bindings::ubp_plan_UBP_BOOST,
        Plan::Step => bindings::ubp_plan_UBP_STEP,
    }
}

/// Inserts a breakpoint.
///
/// # Safety
///
/// `tsk` must be valid for the duration of the call. `ubp` must be null or valid, and others must
/// not change its fields during the call. If the call succeeds, `ubp` must stay valid until
/// [`ubp_remove_bkpt`] has returned. It must be sound to call the handlers with `ubp` and the
/// registers of a thread. May sleep.
#[export]
pub(crate) unsafe extern "C" fn ubp_insert_bkpt(
    tsk: *mut bindings::task_struct,
    ubp: *mut bindings::ubp_bkpt,
) -> c_int {
    if ubp.is_null() {
        return EINVAL.to_errno();
    }
    // The fields are read through the raw pointer and not through a reference, because handlers may
    // access `ubp` before this function returns.
    //
    // SAFETY: `ubp` is not null, so the caller passes a valid `struct ubp_bkpt`, and nothing
    // changes its fields during the call.
    let (vaddr, handler_in_interrupt, handler, core) = unsafe {
        (
            (*ubp).vaddr,
            (*ubp).handler_in_interrupt,
            (*ubp).handler,
            (*ubp).core,
        )
    };
    if !core.is_null() {
        return EBUSY.to_errno();
    }
    // On failure the caller may have to wait for handlers.
    if is_in_hit() {
        return EDEADLK.to_errno();
    }
    let inserted = (|| {
        // SAFETY: `tsk` is valid because the caller of the API holds a reference to it.
        let mm = unsafe { mm_of(tsk) }?;
        // INVARIANT: The caller keeps `ubp` valid until this call has failed or `ubp_remove_bkpt()`
        // has returned, and both call `end()` before that.
        let owner = Arc::new(
            COwner {
                ubp,
                handler_in_interrupt,
                handler,
                removed: Atomic::new(false),
            },
            GFP_KERNEL,
        )?;
        let core = KBox::<Core>::new_uninit(GFP_KERNEL)?;
        let inserted = loop {
            match insert(&mm, Vaddr::new(vaddr), owner.clone(), |_| true) {
                Err(InsertError::Errno(EAGAIN)) => (),
                inserted => break inserted,
            }
            if let Err(error) = fault_in(&mm, Vaddr::new(vaddr)) {
                break Err(error.into());
            }
        };
        match inserted {
            Ok(inserted) => Ok(KBox::write(core, Core { inserted, owner })),
            Err(refused) => {
                // The breakpoint may have been in the map for a moment, where a thread that has hit
                // an earlier breakpoint of this address may have found it.
                owner.end();
                Err(Error::from(refused))
            }
        }
    })();
    match inserted {
        Ok(core) => {
            let plan = c_plan(core.inserted.plan());
            // SAFETY: `ubp` is valid, and nothing else accesses `plan` and `core` during the call.
            unsafe {
                (*ubp).plan = plan;
                (*ubp).core = KBox::into_raw(core).cast();
            }
            0
        }
        Err(error) => error.to_errno(),
    }
}

/// Removes a breakpoint. When the function returns, no handler of the breakpoint is executing, and
/// none will be called.
///
/// # Safety
///
/// `ubp` must be null or valid, and only its handlers may use it during the call. Its `core` must
/// be null or have been set by [`ubp_insert_bkpt`]. Must not be called by a handler. May sleep.
#[export]
pub(crate) unsafe extern "C" fn ubp_remove_bkpt(ubp: *mut bindings::ubp_bkpt) {
    if ubp.is_null() {
        return;
    }
    // SAFETY: `ubp` is not null, so the caller passes a valid `struct ubp_bkpt`, and its handlers
    // do not access `core`.
    let core = unsafe { core::ptr::replace(&raw mut (*ubp).core, core::ptr::null_mut()) };
    if core.is_null() {
        return;
    }
    // A handler cannot wait for itself. Its caller must not free `ubp` then.
    warn_on!(is_in_hit());
    // SAFETY: `core` is not null, so `ubp_insert_bkpt()` has stored the result of
    // `KBox::into_raw()` there, and the exchange above ensures that it is taken back once.
    let core = unsafe { KBox::from_raw(core.cast::<Core>()) };
    // If the page is unavailable, the breakpoint stays, and its hits do nothing.
    let _ = core.inserted.remove();
    core.owner.end();
}

/// Checks whether a breakpoint could be inserted at an address.
///
/// # Safety
///
/// `tsk` must be valid for the duration of the call. May sleep.
#[export]
pub(crate) unsafe extern "C" fn ubp_validate_insn_addr(
    tsk: *mut bindings::task_struct,
    vaddr: c_ulong,
) -> c_int {
    let checked = (|| {
        // SAFETY: `tsk` is valid because the caller of the API holds a reference to it.
        let mm = unsafe { mm_of(tsk) }?;
        Ok::<_, Error>(check(&mm, Vaddr::new(vaddr))?)
    })();
    match checked {
        Ok(()) => 0,
        Err(error) => error.to_errno(),
    }
}

/// Analyses an instruction.
///
/// # Safety
///
/// `bytes` must be valid for reads of `avail` bytes, and `insn` for a write.
#[export]
pub(crate) unsafe extern "C" fn ubp_analyze_insn(
    bytes: *const u8,
    avail: usize,
    vaddr: c_ulong,
    is_64bit: bool,
    insn: *mut bindings::ubp_insn,
) -> c_int {
    let bytes = if avail == 0 {
        &[]
    } else {
        // SAFETY: The caller passes `avail` readable bytes at `bytes`, and `avail` is not zero.
        unsafe { core::slice::from_raw_parts(bytes, avail) }
    };
    let mode = if is_64bit { Mode::Bits64 } else { Mode::Bits32 };
    let analyzed = analyze(bytes, Vaddr::new(vaddr), mode);
    let (plan, refusal, errno) = match &analyzed {
        Ok(insn) => (c_plan(insn.plan().kind()), core::ptr::null(), 0),
        Err(refusal) => (
            bindings::ubp_plan_UBP_REFUSED,
            refusal.describe().as_char_ptr(),
            refusal.errno().to_errno(),
        ),
    };
    // At most `MAX_INSN_SIZE`.
    let len = length(bytes, mode).unwrap_or(0) as c_uint;
    // SAFETY: The caller passes an `insn` that is valid for a write.
    unsafe { insn.write(bindings::ubp_insn { plan, len, refusal }) };
    errno
}
