// SPDX-License-Identifier: GPL-2.0

//! KUnit tests of the probe of a file in a handler chain.

use super::*;
use crate::entry::ReturnPoint;

use kernel::{
    bindings,
    mm::MmWithUser,
    sync::{
        aref::ARef,
        tasks_trace, //
    },
    task::Task, //
};

const AT: usize = 0x1000;

/// A place that counts its hits and records the generation of the last return.
struct Counting {
    wants_returns: Arc<Atomic<bool>>,
    wanted: Option<u64>,
    hits: Atomic<i32>,
    returned: Atomic<i64>,
}

impl FilePlace for Counting {
    fn wants_returns(&self) -> &Arc<Atomic<bool>> {
        &self.wants_returns
    }

    fn hit(&self, regs: &mut PtRegs, _guard: &Guard) {
        assert_eq!(regs.ip(), AT);
        assert_eq!(self.wanted, None);
        self.hits.fetch_add(1, Relaxed);
    }

    fn hit_for_return(&self, at: usize, regs: &mut PtRegs, _guard: &Guard) -> Option<u64> {
        assert_eq!(regs.ip(), at);
        self.hits.fetch_add(1, Relaxed);
        self.wanted
    }

    fn returned(&self, ended: EndedCall, _regs: &mut PtRegs, _guard: &Guard) {
        assert_eq!(ended.function, AT);
        self.returned.store(ended.generation as i64, Relaxed);
    }

    fn prepare_returns(&self) -> Result<Arc<dyn ReturnPoint>> {
        Err(ENOENT)
    }

    fn inherit(&self, _copy: &ARef<MmWithUser>) {}

    fn lost(&self) {}

    fn space_ended(&self) {}
}

/// A return point that records the generation of the last call.
struct LastGeneration(Atomic<i64>);

impl ReturnPoint for LastGeneration {
    fn reached(&self, generation: u64, _regs: &mut PtRegs, _guard: &Guard) -> Result {
        self.0.store(generation as i64, Relaxed);
        Ok(())
    }
}

fn counting(wanted: Option<u64>) -> Result<Arc<Counting>> {
    let place = Counting {
        wants_returns: Arc::new(Atomic::new(wanted.is_some()), GFP_KERNEL)?,
        wanted,
        hits: Atomic::new(0),
        returned: Atomic::new(0),
    };
    Ok(Arc::new(place, GFP_KERNEL)?)
}

fn with_regs(f: impl FnOnce(&mut PtRegs, &Guard)) -> Result {
    let mut raw = KBox::new(bindings::pt_regs::default(), GFP_KERNEL)?;
    // SAFETY: `raw` is valid, and nothing else refers to it.
    let regs = unsafe { PtRegs::from_raw_mut(&mut *raw) };
    regs.set_ip(AT);
    f(regs, &tasks_trace::read_lock());
    Ok(())
}

#[kunit_tests(uprobes_chain_file)]
mod cases {
    use super::*;

    #[test]
    fn function_is_known_for_one_process() -> Result {
        let place = counting(Some(7))?;
        let file_place: Arc<dyn FilePlace> = place.clone();
        let group = Task::current_group();
        let chain = HandlerChain::new().with_file(&file_place)?;
        assert!(chain.is_unprepared(group));

        let last = Arc::new(LastGeneration(Atomic::new(0)), GFP_KERNEL)?;
        let entry: Arc<dyn ReturnPoint> = last.clone();
        let entry = Some(entry.into());
        let chain = chain.with_function(GroupFunction { group, entry })?;
        assert!(!chain.is_unprepared(group));
        let function = chain.file_function(group).ok_or(ENOENT)?;
        with_regs(|regs, guard| chain.hit_file_for_return(AT, function, regs, guard))?;
        assert_eq!(place.hits.load(Relaxed), 1);
        assert_eq!(last.0.load(Relaxed), 7);
        let ended = EndedCall {
            function: AT,
            location: 0,
            generation: 7,
        };
        with_regs(|regs, guard| chain.returned_fastpath(group, AT, 7, |_| ended, regs, guard))?;
        assert_eq!(place.returned.load(Relaxed), 7);

        // The process has ended. The probe stays.
        let chain = chain.without_group(group)?;
        assert!(chain.is_unprepared(group));
        assert!(!chain.is_empty());
        Ok(())
    }

    #[test]
    fn returns_that_cannot_be_detected_are_prepared_once() -> Result {
        let file_place: Arc<dyn FilePlace> = counting(Some(7))?;
        let group = Task::current_group();
        let chain = HandlerChain::new().with_file(&file_place)?;
        let chain = chain.with_function(GroupFunction { group, entry: None })?;
        assert!(!chain.is_unprepared(group));
        let function = chain.file_function(group).ok_or(ENOENT)?;
        with_regs(|regs, guard| chain.hit_file_for_return(AT, function, regs, guard))
    }

    #[test]
    fn probe_without_returns_needs_no_function() -> Result {
        let place = counting(None)?;
        let file_place: Arc<dyn FilePlace> = place.clone();
        let chain = HandlerChain::new().with_file(&file_place)?;
        assert!(!chain.is_unprepared(Task::current_group()));
        with_regs(|regs, guard| chain.hit_file(regs, guard))?;
        assert_eq!(place.hits.load(Relaxed), 1);
        // A consumer that is registered later does not change the chain.
        place.wants_returns.store(true, Relaxed);
        assert!(chain.is_unprepared(Task::current_group()));
        Ok(())
    }

    #[test]
    fn only_its_own_place_is_removed() -> Result {
        let (one, other) = (counting(None)?, counting(None)?);
        let file_place: Arc<dyn FilePlace> = one.clone();
        let chain = HandlerChain::new().with_file(&file_place)?;
        assert!(!chain.without_file(&*other)?.is_empty());
        assert!(chain.without_file(&*one)?.is_empty());
        Ok(())
    }
}
