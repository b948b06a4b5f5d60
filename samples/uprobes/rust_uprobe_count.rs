// SPDX-License-Identifier: GPL-2.0

//! Counts how often a process executes an instruction. A sample of uprobes in Rust;
//! `uprobe_count.c` does the same in C.
//!
//! ```text
//! insmod rust_uprobe_count.ko pid=4711 vaddr=0x401136
//! ```
//!
//! If the instruction is the first one of a function, and its size is given, the module also counts
//! the returns of the function. It can be unloaded at any time, and then writes the counts to the
//! kernel's log. See `Documentation/trace/uprobes.rst`.

use core::mem::take;

use kernel::{
    new_mutex,
    prelude::*,
    ptregs::PtRegs,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        Arc,
        Mutex, //
    },
    uprobes::{
        Handler,
        Probe,
        Target, //
    },
};

module! {
    type: CountModule,
    name: "rust_uprobe_count",
    authors: ["Rust for Linux Contributors"],
    description: "Sample of uprobes: counts how often an instruction is executed",
    license: "GPL",
    params: {
        pid: i32 {
            default: 0,
            description: "A thread of the process, in the pid namespace of the loader",
        },
        vaddr: usize {
            default: 0,
            description: "Address of an instruction in the process",
        },
        size: usize {
            default: 0,
            description: "Size of the function at vaddr in bytes, to count returns (0: do not)",
        },
        follow: bool {
            default: false,
            description: "Also count in the processes that it forks",
        },
        limit: usize {
            default: 0,
            description: "Remove the probes after this many hits (0: never)",
        },
        show: usize {
            default: 0,
            description: "Number of hits to report as they happen",
        },
    },
}

/// State that the module and its handlers share.
#[pin_data]
struct Shared {
    hits: Atomic<usize>,
    returns: Atomic<usize>,
    /// Empty when a handler has removed the probes.
    #[pin]
    probes: Mutex<KVec<Probe>>,
}

impl Shared {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            hits: Atomic::new(0),
            returns: Atomic::new(0),
            probes <- new_mutex!(KVec::new()),
        })
    }

    /// Removes the probes. When this returns, no handler is running or will run, unless a handler
    /// calls this, which cannot wait for itself.
    fn unregister(&self) {
        // The lock must not be held during the wait, because handlers take it.
        let probes = take(&mut *self.probes.lock());
        Probe::unregister_all(probes);
    }
}

struct OnHit(Arc<Shared>);

#[vtable]
impl Handler for OnHit {
    // Several threads may execute this at the same time.
    fn hit(&self, regs: &mut PtRegs) {
        const DI: u8 = 7;
        let number = self.0.hits.fetch_add(1, Relaxed) + 1;

        if number <= module_parameters::show.value() {
            let task = kernel::current!();
            pr_info!(
                "hit {}: process {}, thread {}, first argument {:#x}\n",
                number,
                task.tgid(),
                task.pid(),
                regs.gpr(DI),
            );
        }
        let limit = module_parameters::limit.value();
        if limit != 0 && number >= limit {
            self.0.unregister();
        }
    }
}

struct CountModule(Arc<Shared>);

impl kernel::Module for CountModule {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        let size = module_parameters::size.value();
        let shared = Arc::pin_init(Shared::new(), GFP_KERNEL)?;
        let mut probes = KVec::with_capacity(2, GFP_KERNEL)?;
        let mut target = Target::from_pid(
            module_parameters::pid.value(),
            module_parameters::vaddr.value(),
        )
        .size(size);
        if module_parameters::follow.value() {
            target = target.follow_fork();
        }
        // If something fails, dropping `probes` removes the registered probes.
        let on_hit = Probe::register(target, OnHit(shared.clone()))?;
        probes.push(on_hit.into_any(), GFP_KERNEL)?;
        if size != 0 {
            let seen = shared.clone();
            let on_return = Probe::register_return_fn(target, move |_regs| {
                seen.returns.fetch_add(1, Relaxed);
            })?;
            probes.push(on_return, GFP_KERNEL)?;
        }
        *shared.probes.lock() = probes;
        Ok(Self(shared))
    }
}

impl Drop for CountModule {
    fn drop(&mut self) {
        let shared = &self.0;
        let misses: u64 = shared
            .probes
            .lock()
            .iter()
            .map(|probe| probe.counts().misses)
            .sum();
        shared.unregister();
        pr_info!(
            "{} hits, {} returns, {} misses\n",
            shared.hits.load(Relaxed),
            shared.returns.load(Relaxed),
            misses,
        );
    }
}
